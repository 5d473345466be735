"""Notifies people of the operator of what hurts: looks once a minute, and sends the notices that are due.

Every long-lived process (web, worker, scheduler) has this thread, and one of them has its turn. It is no job: the
first to be notified of is that jobs do not run. So the last process that lives notifies people of the others
(docs/decisions/0059-who-tells-when-nothing-runs.md).
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from db.transaction import NO_ANSWER, SYSTEM, Tx
from domain.errors import Rejected, Unavailable
from domain.ops.notices import Message, Notice, QuietHours, Seen, content, look, message, next_try, parse_quiet_hours
from integrations.channels import Channel, Sent, open_channels
from integrations.http.client import Http
from workers.app import App
from workers.ops import overview
from workers.runtime.version import AGENT

EVERY: Final = timedelta(seconds=55)
"""A turn is taken so long after the last one at the earliest: each process tries once a minute."""
WAKES: Final = 15.0
"""Seconds between two looks of a process whether it has a turn, or something to send again."""
LEASE: Final = timedelta(minutes=2)
"""So long after a delivery was claimed somebody else may send it: longer than sending takes."""
AT_ONCE: Final = 20
"""Messages that a process sends one after another before it looks again."""
STOPS_WITHIN: Final = 5.0
OVERDUE: Final = timedelta(minutes=10)
"""So long after the last look nobody seems to look."""

log = structlog.get_logger()


def channels_of(app: App) -> list[Channel]:
    """Return the channels that the settings name, in their order."""
    settings = app.settings
    http = Http(AGENT, private_hosts=settings.outbound_private_hosts)
    secret = settings.notify_webhook_secret.get_secret_value()
    return open_channels(settings.reveal(settings.notify_urls), secret, http)


def ops_address(app: App) -> str:
    """Return the address of `/ops` as people reach it."""
    return f"{app.settings.public_url or app.settings.web_url}/ops"


class NoticeWatch:
    """The thread of one process. Without a channel there is none."""

    def __init__(self, app: App, channels: Sequence[Channel] | None = None) -> None:
        self._app = app
        self._channels = {each.name: each for each in (channels_of(app) if channels is None else channels)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        if self._channels:
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOPS_WITHIN)

    def take_turn(self, every: timedelta = EVERY) -> Message | None:
        """Look, if nobody did for so long, and write down the message that is due, if there is any."""
        with self._app.db.transaction(SYSTEM) as tx:
            turn = tx.notices.take_turn(every)
        if turn is None:
            return None
        seen = [*causes(overview.status(self._app))]
        settings = self._app.settings
        hours = parse_quiet_hours(settings.notify_quiet_hours)
        base = ops_address(self._app)
        with self._app.db.transaction(SYSTEM) as tx:
            if not tx.notices.is_mine(turn):
                return None
            now = tx.now()
            quiet = hours is not None and QuietHours(*hours, settings.notify_timezone).at(now)
            notices, tellings = look(tx.notices.unsettled(), seen, now, quiet=quiet, new_id=tx.new_id)
            tx.notices.save(notices)
            if not tellings:
                return None
            written = message(tellings, base=base)
            names = [*self._channels]
            tx.notices.add_message(tx.new_id(), written.title, written.text, content(tellings, base=base), names)
        log.info("notices.sent", title=written.title, causes=[telling.notice.cause for telling in tellings])
        return written

    def send_due(self) -> int:
        """Send what is due, with no transaction open; return how many deliveries were tried."""
        for tried in range(AT_ONCE):
            with self._app.db.transaction(SYSTEM) as tx:
                claimed = tx.notices.claim(LEASE)
            if claimed is None or self._stop.is_set():
                return tried
            error = self._send(claimed)
            wait = None if error is None else next_try(claimed["attempts"])
            with self._app.db.transaction(SYSTEM) as tx:
                tx.notices.settle(
                    claimed["message_id"], claimed["channel"], claimed["attempts"], error=error, wait=wait
                )
        return AT_ONCE

    def _send(self, claimed: dict[str, Any]) -> str | None:
        """Return why it was not taken, or None."""
        name = claimed["channel"]
        channel = self._channels.get(name)
        try:
            if channel is None:
                raise Rejected(f"{name}: NOTIFY_URLS has no such channel any more")
            channel.send(_sent(claimed))
        except (Unavailable, Rejected) as error:
            log.warning("notices.not_sent", channel=name, attempt=claimed["attempts"], reason=str(error))
            return str(error)
        except Exception as error:  # of a library, whose words may repeat the address
            log.error("notices.not_sent", channel=name, attempt=claimed["attempts"], reason=type(error).__name__)
            return f"{name}: {type(error).__name__}"
        return None

    def _run(self) -> None:
        while not self._stop.wait(WAKES):
            try:
                self.take_turn()
                self.send_due()
            except NO_ANSWER as error:
                log.warning("notices.waits", reason=str(error), seldom=True)
            except Exception:
                log.exception("notices.failed", seldom=True)


def causes(status: overview.Status) -> Iterator[Seen]:
    """Put all harms of one cause into one, and add the doubts that people are notified of."""
    by_cause: dict[str, list[overview.Harm]] = {}
    for harm in status.harms:
        by_cause.setdefault(harm.cause, []).append(harm)
    for cause, harms in by_cause.items():
        one, kind = harms[0], cause.partition(":")[0]
        since = one.at if kind in SINCE else None
        page, shell = (one.page, one.shell) if len(harms) == 1 else ALL.get(kind, (one.page, one.shell))
        yield Seen(cause, _sentences(harms), page, shell, sum(each.number for each in harms), since)
    for doubt in status.doubts:
        if doubt.cause:
            page = "schedules" if doubt.cause == "no_scheduler" else "queues"
            yield Seen(doubt.cause, (doubt.says,), page, doubt.shell, 1)


SINCE: Final = frozenset(
    {"parked_money", "parked_identity", "unconfirmed_clips", "unconfirmed_posts", "queue_paused", "queue_late"}
)
"""Causes whose harm says since when it stands; of the others it says when it last happened."""

ALL: Final = {
    "failed_jobs": ("failures", "viral failures list"),
    "failed_posts": ("posts", "viral waiting"),
    "needs_reconnect": ("tenants?harm=needs_reconnect", "viral accounts list --status needs_reconnect"),
    "deserted": ("tenants?harm=deserted", "viral tenants list --deserted"),
}
"""Where all are listed that one cause hurts, if they are several."""

MOST_SENTENCES: Final = 5


def _sentences(harms: Sequence[overview.Harm]) -> tuple[str, ...]:
    says = [harm.says for harm in harms]
    left = len(says) - MOST_SENTENCES
    return (*says[:MOST_SENTENCES], *([f"And {left} more."] if left > 0 else []))


def _sent(row: dict[str, Any]) -> Sent:
    return Sent(row["message_id"], row["made_at"], row["sent_at"], row["title"], row["text"], row["content"])


# --- what operators ask -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChannelReport:
    """What became of the messages of two days: when one was taken last, how many wait and how many were given up.
    `set`: it is in NOTIFY_URLS of the process that is asked."""

    channel: str
    set: bool
    sent_at: datetime | None
    waiting: int
    given_up: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """The notices, the last seen first, and the channels; `looked_at` is when somebody last looked."""

    at: datetime
    looked_at: datetime | None
    quiet: str
    notices: list[Notice]
    channels: list[ChannelReport]


def report(app: App, *, ended: bool = False, limit: int = 50) -> Report:
    """Return the notices that people were sent, and those that are not sent yet."""
    with app.db.transaction(SYSTEM) as tx:
        return _report(app, tx, ended=ended, limit=limit)


def _report(app: App, tx: Tx, *, ended: bool, limit: int) -> Report:
    settings = app.settings
    names = [each.name for each in channels_of(app)]
    rows = {row["channel"]: row for row in tx.notices.channels()}
    found = tx.notices.listed(ended=ended, limit=limit)
    now, looked_at = tx.now(), tx.notices.looked_at()
    channels = [_channel(name, rows.get(name, {}), names) for name in dict.fromkeys([*names, *rows])]
    quiet = f"{settings.notify_quiet_hours} ({settings.notify_timezone})" if settings.notify_quiet_hours else ""
    return Report(now, looked_at, quiet, found, channels)


def _channel(name: str, row: dict[str, Any], names: Iterable[str]) -> ChannelReport:
    return ChannelReport(
        name, name in names, row.get("sent_at"), row.get("waiting", 0), row.get("given_up", 0), row.get("error")
    )


def try_channels(app: App, channels: Sequence[Channel] | None = None) -> Iterator[tuple[str, str | None]]:
    """Send a message to each channel, and yield its name and why it was not taken, or None."""
    with app.db.transaction(SYSTEM) as tx:
        message_id, now = tx.new_id(), tx.now()
    text = f"This is a test of NOTIFY_URLS. What hurts is at {ops_address(app)}."
    for each in channels_of(app) if channels is None else channels:
        try:
            each.send(Sent(message_id, now, now, "A test: nothing hurts", text, []))
        except (Unavailable, Rejected) as error:
            yield each.name, str(error)
        except Exception as error:  # of a library, whose words may repeat the address
            yield each.name, f"{each.name}: {type(error).__name__}"
        else:
            yield each.name, None


def check(app: App, tx: Tx) -> tuple[str, str]:
    """Return the verdict of `viral doctor` about notices."""
    channels = channels_of(app)
    if not channels:
        return "warn", "nobody is: set NOTIFY_URLS (docs/notices.md), and try it with `viral notices test`"
    for each in channels:
        try:
            each.check()
        except Rejected as error:
            return "fail", str(error)
    found = _report(app, tx, ended=False, limit=1)
    if found.looked_at is None or found.at - found.looked_at > OVERDUE:
        return "warn", "no process has looked for ten minutes: is NOTIFY_URLS set for web, workers and scheduler?"
    if failing := [each for each in found.channels if each.set and (each.given_up or (each.waiting and each.error))]:
        return "warn", f"{failing[0].error}: try it with `viral notices test`"
    named = ", ".join(each.name for each in channels)
    return "ok", f"people are notified by {named}"
