"""Keeps files in a bucket of S3, or of a server that speaks like it. Credentials are the usual `AWS_…` variables.

A large file is sent in parts, a few in memory at once, and has its name when the last one is there. Parts that a killed
process leaves behind are not listed by anybody: a lifecycle rule of the bucket removes them (docs/deploying.md).

With a CDN an address is the presigned one on the CDN's host: the CDN passes path and query on to the bucket, under the
bucket's own host name, which is what is signed.
"""

import hashlib
import hmac
import os
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store as Client

from domain.ports import UploadAddress, Watch
from domain.videos.media import MediaMissing, StoreFull, StoreUnavailable, is_key
from integrations.store import incoming
from integrations.store.folder import in_words

if TYPE_CHECKING:
    from obstore.store import S3Config

PART = 8 * 1024 * 1024
PARTS_AT_ONCE = 2
PIECE = 1024 * 1024
QUICK, PATIENT = timedelta(seconds=5), timedelta(seconds=120)
"""How long one request may take that only names a file, and one that carries a part of it."""

FULL = ("InsufficientStorage", "QuotaExceeded", "StorageFull")
"""How the codes of full stores end: each kind of server has a word of its own before."""
REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken")
STATUS = re.compile(r"\bServer returned non-2xx status code: (\d{3})\b")
CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
ON_THEIR_WAY = "the folder for files on their way to the media store"
AWAY = "the media store does not answer: is S3_ENDPOINT_URL right?"


class S3Store:
    """`endpoint` is empty for Amazon's own. `clock` is Unix seconds."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str = "",
        cdn: str = "",
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bucket = bucket
        self._region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._endpoint = endpoint or f"https://s3.{self._region}.amazonaws.com"
        self._cdn = cdn.rstrip("/")
        self._key_id = environment.get("AWS_ACCESS_KEY_ID", "")
        self._key = environment.get("AWS_SECRET_ACCESS_KEY", "")
        self._token = environment.get("AWS_SESSION_TOKEN", "")
        self._clock = clock
        self._patient, self._quick = self._client(PATIENT), self._client(QUICK)

    def put(self, key: str, source: Path, *, content_type: str) -> None:
        """Send the file, also if there is one: whoever had an upload address may have put another one there, if the
        server does not compare checksums."""
        self._check(key)
        with _in_words():
            obstore.put(
                self._patient,
                key,
                source,
                attributes={"Content-Type": content_type},
                chunk_size=PART,
                max_concurrency=PARTS_AT_ONCE,
            )

    def has(self, key: str) -> bool:
        self._check(key)
        try:
            with _in_words():
                obstore.head(self._quick, key)
        except MediaMissing:
            return False
        return True

    def get(self, key: str, target: Path, *, watch: Watch) -> None:
        self._check(key)
        with _in_words():
            found = obstore.get(self._patient, key)
            size, done = found.meta["size"], 0
            with _writing(target) as write:
                for piece in found.stream(min_chunk_size=PIECE):
                    write(piece)
                    done += len(piece)
                    watch(done / max(size, 1))

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        self._check(key)
        with _in_words():
            try:
                found = obstore.get(self._patient, key, options={"range": (start, end)})
            except GenericError as error:
                if Answer.of(error).is_beyond_the_end:
                    return
                raise
            for piece in found.stream(min_chunk_size=PIECE):
                yield bytes(piece)

    def delete(self, key: str) -> None:
        self._check(key)
        with _in_words():
            try:
                obstore.delete(self._quick, key)
            except FileNotFoundError as error:
                if Answer.of(error).has_no_bucket:
                    raise

    def address(self, key: str, *, lifetime: timedelta) -> str:
        self._check(key)
        with _in_words():
            url = obstore.sign(self._quick, "GET", key, lifetime)
        if not self._cdn:
            return url
        parts = urlsplit(url)
        return f"{self._cdn}{parts.path}?{parts.query}"

    def upload(self, key: str, *, bytes: int, content_type: str, lifetime: timedelta) -> UploadAddress | None:
        """Return None if our credentials are not in the variables: nothing else can sign the headers."""
        self._check(key)
        if not (self._key_id and self._key):
            return None
        checksum = b64encode(_digest_in(key)).decode()
        headers = {
            "content-length": str(bytes),
            "content-type": content_type,
            "x-amz-checksum-sha256": checksum,
        }
        return UploadAddress(self._presigned("PUT", key, headers, lifetime), headers)

    def check_room(self, bytes: int) -> None:
        """A bucket does not say."""

    def incoming(self) -> Path:
        with in_words(ON_THEIR_WAY):
            return incoming.own_folder()

    def sweep(self, before: datetime) -> int:
        with in_words(ON_THEIR_WAY):
            return incoming.sweep(self.incoming(), before)

    def _client(self, patience: timedelta) -> Client:
        config: S3Config = {"endpoint": self._endpoint, "region": self._region}
        if self._key_id and self._key:
            config |= {"access_key_id": self._key_id, "secret_access_key": self._key}
        if self._token:
            config |= {"session_token": self._token}
        return Client(
            self._bucket,
            config=config,
            client_options={
                "allow_http": self._endpoint.startswith("http:"),
                "timeout": patience,
                "connect_timeout": timedelta(seconds=3),
            },
            retry_config={"max_retries": 2, "retry_timeout": patience * 2},
        )

    def _check(self, key: str) -> None:
        if not is_key(key):
            raise MediaMissing("this is no key of a media file")

    def _presigned(self, method: str, key: str, headers: Mapping[str, str], lifetime: timedelta) -> str:
        """Sign these headers too (AWS Signature Version 4, in the query): obstore signs the host alone."""
        host, now = urlsplit(self._endpoint).netloc, datetime.fromtimestamp(self._clock(), UTC)
        path = quote(f"{urlsplit(self._endpoint).path.rstrip('/')}/{self._bucket}/{key}")
        moment, scope = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}/{self._region}/s3/aws4_request"
        signed = dict(sorted({**headers, "host": host}.items()))
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self._key_id}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(int(lifetime.total_seconds())),
            "X-Amz-SignedHeaders": ";".join(signed),
        }
        if self._token:
            query["X-Amz-Security-Token"] = self._token
        text = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query))
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = "\n".join([method, path, text, lines, ";".join(signed), "UNSIGNED-PAYLOAD"])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
        signing = f"AWS4{self._key}".encode()
        for part in scope.split("/"):
            signing = _hmac(signing, part)
        signature = _hmac(signing, to_sign).hex()
        return f"{urlsplit(self._endpoint).scheme}://{host}{path}?{text}&X-Amz-Signature={signature}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _digest_in(key: str) -> bytes:
    """Return the SHA-256 that the key names."""
    return bytes.fromhex(key.partition("/")[2].partition(".")[0])


@contextmanager
def _writing(target: Path) -> Iterator[Callable[[bytes], object]]:
    try:
        with target.open("wb") as out:
            yield out.write
    except OSError as error:
        raise StoreUnavailable(f"a copy of the file cannot be written here: {error.strerror or error}") from error


class Answer(NamedTuple):
    """What a server said, as far as obstore tells: 0 and nothing if none answered."""

    status: int
    code: str

    @classmethod
    def of(cls, error: Exception) -> "Answer":
        """Read obstore's text, the only place that has it. The text also has addresses with their ports, keys and
        durations, in which any number may be: nothing counts but what stands where status and code do."""
        text = str(error)
        status, code = STATUS.search(text), CODE.search(text)
        return cls(int(status[1]) if status else 0, code[1] or code[2] if code else "")

    @property
    def is_full(self) -> bool:
        return self.status == 507 or self.code.endswith(FULL)

    @property
    def refuses_keys(self) -> bool:
        return self.code in REFUSED

    @property
    def is_beyond_the_end(self) -> bool:
        return self.status == 416 or self.code == "InvalidRange"

    @property
    def has_no_bucket(self) -> bool:
        return self.code == "NoSuchBucket"


@contextmanager
def _in_words() -> Iterator[None]:
    """Say what is wrong without obstore's text, which repeats addresses and answers."""
    try:
        yield
    except FileNotFoundError as error:
        if Answer.of(error).has_no_bucket:
            raise StoreUnavailable("the media store has no such bucket: see S3_BUCKET") from error
        raise MediaMissing("the media store has no such file") from error
    except OSError as error:
        raise StoreUnavailable(f"a file on its way to the media store cannot be used: {error.strerror}") from error
    except BaseError as error:
        answer = Answer.of(error)
        if answer.is_full:  # before what is refused: Ceph says it with 403
            raise StoreFull("the media store is full") from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            raise StoreUnavailable(
                "the media store refuses our credentials: see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they"
                " may do (without s3:ListBucket it refuses to say that a file is missing)"
            ) from error
        if answer.refuses_keys:
            raise StoreUnavailable(
                "the media store refuses our credentials: see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        raise StoreUnavailable(AWAY) from error
