"""The last submissions of posts, kept outside of the database: in Redis, and in a file of this machine.

A database that does not know one of them was put back to an earlier state, in which posts that were published look as
if they were not. Both places may be lost without harm, since what is remembered by neither raises no alarm.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import cast
from uuid import UUID

import redis
import structlog

from workers.runtime.redis_client import RedisClient

KEY = "{viral}:submissions"
KEPT = 64

log = structlog.get_logger()


class RedisAndFileMarks:
    """`file` has a line a submission: when, and its id."""

    def __init__(self, client: RedisClient, file: Path) -> None:
        self._client = client
        self._file = file

    def remember(self, submission_id: UUID, at: datetime) -> None:
        """Keep a submission that the database has. What cannot be kept is logged, and nothing else happens."""
        try:
            with self._client.pipeline() as pipeline:
                pipeline.zadd(KEY, {str(submission_id): at.timestamp()})
                pipeline.zremrangebyrank(KEY, 0, -KEPT - 1)
                pipeline.execute()
        except redis.RedisError as error:
            log.warning("submissions.not_remembered", where="redis", reason=type(error).__name__)
        try:
            self._write(submission_id, at)
        except OSError as error:
            log.warning("submissions.not_remembered", where=str(self._file), reason=error.strerror)

    def recall(self, since: datetime) -> Sequence[UUID]:
        """Return the last submissions after this moment that are remembered; none if nothing remembers any."""
        found: dict[str, float] = {}
        try:
            pairs = cast("list[tuple[bytes, float]]", self._client.zrange(KEY, 0, -1, withscores=True))
            found |= {name.decode() if isinstance(name, bytes) else str(name): at for name, at in pairs}
        except redis.RedisError as error:
            log.warning("submissions.not_recalled", where="redis", reason=type(error).__name__)
        found |= self._read()
        return [UUID(name) for name, at in found.items() if at > since.timestamp()]

    def _write(self, submission_id: UUID, at: datetime) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            file.write(f"{at.timestamp()} {submission_id}\n")
        if self._file.stat().st_size > 4 * KEPT * 60:
            kept = self._file.read_text().splitlines(keepends=True)[-KEPT:]
            whole = self._file.with_name(f"{self._file.name}.{submission_id}")
            whole.write_text("".join(kept))
            whole.replace(self._file)

    def _read(self) -> dict[str, float]:
        """Return what the file has; a line that was cut short is left out."""
        try:
            lines = self._file.read_text().splitlines()[-KEPT:]
        except (OSError, UnicodeDecodeError):
            return {}
        found = {}
        for line in lines:
            at, _, name = line.partition(" ")
            try:
                found[str(UUID(name))] = float(at)
            except ValueError:
                continue
        return found
