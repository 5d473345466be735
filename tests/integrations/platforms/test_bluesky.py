"""Bluesky's client against its simulator. Requests are judged by the simulator, and by atproto's own models besides."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import pytest
from atproto_client import models
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Rejected, Unavailable, ViralError
from domain.learning.numbers import Measured, Numbers
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.limits import Act, draws
from domain.posting.publishing import (
    AccountRevoked,
    CannotTell,
    Content,
    Handle,
    HandleLost,
    HeldOff,
    NotReady,
    PostRefused,
    Published,
    Refused,
    TokenExpired,
    Unfinished,
    Unknown,
    VideoFile,
)
from domain.posting.text import Unit, count
from integrations.http.client import Http
from integrations.http.errors import NotSent
from integrations.platforms.bluesky import Bluesky
from integrations.platforms.bluesky_records import record_key, time_of
from simulators.loopback import Reply
from simulators.platforms.bluesky import BlueskySimulator, bluesky_simulator
from simulators.platforms.growth import numbers_at
from simulators.platforms.platform import FAULTS, Fault

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40
TEXT = "Wie ein Fuchs Bäume pflanzt 🦊 https://example.org/füchse?a=1\n\n#foxes #für_alle\n\nMade with AI."
MOMENT = datetime(2026, 11, 27, 12, 30, 15, 123456, UTC)
APP = AppRegistration("", "")


def a_file(data: bytes = VIDEO) -> VideoFile:
    def read(start: int, end: int) -> Iterator[bytes]:
        yield from (data[at : min(at + 4096, end)] for at in range(start, end, 4096))

    return VideoFile(sha256(data).digest(), len(data), 12.0, 1080, 1920, "video/mp4", read, lambda lifetime: "")


def a_post(n: int = 1, **changes: Any) -> Content:
    post = Content(UUID(int=n), TEXT, MOMENT, f"mark-{n}", options={"langs": ["de"]})
    return replace(post, **changes)


def unwatched(fraction: float) -> None:
    """Nobody watches."""


@dataclass
class Stage:
    simulator: BlueskySimulator
    bluesky: Bluesky

    @property
    def credential(self) -> Credential:
        return Credential(DID, self.simulator.tokens(DID)[0], self.simulator.url)

    def prepared(self, content: Content, video: VideoFile, credential: Credential) -> Handle:
        """As a job does it: what is begun is kept, and asked about again."""
        handle = self.bluesky.open(credential, content, video, unwatched)
        for _ in range(20):
            try:
                return self.bluesky.ready(credential, handle, content, video, unwatched)
            except NotReady as error:
                handle = error.handle or handle
        raise AssertionError("it is never ready")

    def commit(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Any:
        return self.bluesky.commit(credential, handle, content, video, start=0, watch=unwatched)

    @property
    def shown(self) -> list[tuple[str, str]]:
        return [(post.text, post.sha256) for post in self.simulator.posts if not post.removed]


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with closing(Http("viral-tests")) as client:
        yield client


@pytest.fixture
def stage(http: Http) -> Iterator[Stage]:
    with bluesky_simulator(held_seconds=0.1) as simulator:
        simulator.add_account(DID, "fox.example.com")
        yield Stage(simulator, Bluesky(http, base_url=simulator.url))


OURS = (TEXT, sha256(VIDEO).hexdigest())


def test_a_video_is_posted_whole_under_a_key_that_is_known_before(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    assert stage.shown == []
    assert stage.bluesky.look(credential, handle, content, video) == Unfinished("there is no record of this key")
    uri = f"at://{DID}/app.bsky.feed.post/{record_key(content)}"
    published = Published(uri, f"https://bsky.app/profile/{DID}/post/{record_key(content)}")
    assert stage.commit(credential, handle, content, video) == published
    assert stage.shown == [OURS]
    assert stage.bluesky.look(credential, handle, content, video) == published
    assert stage.bluesky.look(credential, Handle(), content, video) == published, "a lost handle is no loss"
    assert stage.bluesky.permalink(credential, uri) == published.permalink
    json.dumps(dict(handle.public))


def test_requests_are_what_atprotos_models_say(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(options={"langs": ["de", "en"], "labels": ["porn"]}), a_file()
    handle = stage.prepared(content, video, credential)
    published = stage.commit(credential, handle, content, video)
    assert isinstance(published, Published)
    assert stage.bluesky.comment(credential, str(published.external_id), "Mehr: https://example.org #foxes", "key")
    stage.bluesky.limits(credential)
    stage.bluesky.recent(credential, MOMENT)
    stage.bluesky.measure(credential, [str(published.external_id)] * 2, MOMENT)
    checks: dict[str, Any] = {
        "com.atproto.repo.putRecord": models.ComAtprotoRepoPutRecord.Data,
        "com.atproto.server.getServiceAuth": models.ComAtprotoServerGetServiceAuth.Params,
        "com.atproto.repo.getRecord": models.ComAtprotoRepoGetRecord.Params,
        "com.atproto.repo.listRecords": models.ComAtprotoRepoListRecords.Params,
        "app.bsky.video.getJobStatus": models.AppBskyVideoGetJobStatus.Params,
        "app.bsky.feed.getPosts": models.AppBskyFeedGetPosts.Params,
    }
    checked = set()
    for request in stage.simulator.server.requests:
        method = request.path.removeprefix("/xrpc/")
        if method in checks:
            query = {k: v if k == "uris" else v[0] for k, v in parse_qs(request.query).items()}
            sent = json.loads(request.body) if request.body else query
            sent |= {name: int(sent[name]) for name in ("exp", "limit") if name in sent}
            models.get_or_create(sent, checks[method], strict=True)
            checked.add(method)
            if "record" in sent:
                record = models.get_or_create(sent["record"], models.AppBskyFeedPost.Record, strict=True)
                assert isinstance(record, models.AppBskyFeedPost.Record)
                assert count(record.text, Unit.GRAPHEMES) <= 300
    assert checked == checks.keys()


def test_facets_point_at_bytes(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    stage.commit(credential, stage.prepared(content, video, credential), content, video)
    found = {
        TEXT.encode()[f["index"]["byteStart"] : f["index"]["byteEnd"]].decode(): f["features"][0]
        for f in stage.simulator.posts[0].fields["facets"]
    }
    assert found == {
        "https://example.org/füchse?a=1": {
            "$type": "app.bsky.richtext.facet#link",
            "uri": "https://example.org/füchse?a=1",
        },
        "#foxes": {"$type": "app.bsky.richtext.facet#tag", "tag": "foxes"},
        "#für_alle": {"$type": "app.bsky.richtext.facet#tag", "tag": "für_alle"},
    }


@given(
    at=st.integers(1_577_836_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds + 0.25, UTC)),
    marks=st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True),
)
def test_a_key_is_the_second_and_the_mark(at: datetime, marks: list[str]) -> None:
    first, second = (a_post(created_at=at, mark=mark) for mark in marks)
    assert record_key(first) == record_key(replace(first, text="another"))
    assert record_key(first) != record_key(second)
    moment = time_of(record_key(first))
    assert moment is not None
    assert moment.replace(microsecond=0) == at.replace(microsecond=0)
    assert record_key(replace(first, created_at=at + timedelta(seconds=1))) > record_key(second)


# --- faults --------------------------------------------------------------------------------------------------------

VERDICTS: dict[Fault, tuple[type, type | None]] = {
    "500 before": (Unknown, None),
    "429": (Refused, HeldOff),
    "hang-up before": (Unknown, None),
    "expired": (Refused, TokenExpired),
    "500 after": (Unknown, None),
    "hang-up after": (Unknown, None),
    "reset after": (Unknown, None),
    "cut after": (Unknown, None),
    "held after": (Unknown, None),
    "delivered twice": (Published, None),
}
"""What a commit says, and why it was refused."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_commit_that_fails_is_called_what_it_is_and_ends_as_one_post(stage: Stage, fault: Fault) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.fault("putRecord", fault)
    commit = stage.commit(credential, handle, content, video)
    verdict, error = VERDICTS[fault]
    assert isinstance(commit, verdict)
    assert error is None or isinstance(commit.error, error)
    assert stage.simulator.received.count("putRecord") == 1, "nothing is sent again"
    sight = stage.bluesky.look(credential, handle, content, video)
    assert isinstance(sight, Published if stage.shown else Unfinished)
    assert isinstance(stage.commit(credential, handle, content, video), Published)
    assert stage.shown == [OURS]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["getServiceAuth", "uploadVideo", "getJobStatus"])
def test_what_fails_before_the_commit_can_be_done_again(stage: Stage, call: str, fault: Fault) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    stage.simulator.fault(call, fault)
    if fault != "delivered twice":
        with pytest.raises({"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable)):
            stage.prepared(content, video, credential)
    handle = stage.prepared(content, video, credential)
    assert isinstance(stage.commit(credential, handle, content, video), Published)
    assert stage.shown == [OURS]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_look_that_fails_never_says_that_it_is_not_there(stage: Stage, fault: Fault) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.commit(credential, handle, content, video)
    stage.simulator.fault("getRecord", fault)
    try:
        sight = stage.bluesky.look(credential, handle, content, video)
    except (HeldOff, TokenExpired):
        assert fault in ("429", "expired")
    else:
        assert isinstance(sight, Published if fault == "delivered twice" else CannotTell)


@pytest.mark.parametrize("call", ["getUploadLimits", "listRecords", "createSession", "refreshSession", "deleteSession"])
def test_questions_that_fail_say_nothing(stage: Stage, call: str) -> None:
    grant = Grant(*stage.simulator.tokens(DID))
    acts: dict[str, Callable[[], object]] = {
        "getUploadLimits": lambda: stage.bluesky.limits(stage.credential),
        "listRecords": lambda: stage.bluesky.recent(stage.credential, MOMENT),
        "createSession": lambda: stage.bluesky.log_in("fox.example.com", "app-password", ""),
        "refreshSession": lambda: stage.bluesky.refresh(APP, grant, stage.simulator.url),
        "deleteSession": lambda: stage.bluesky.revoke(APP, grant, stage.simulator.url),
    }
    for fault in FAULTS:
        stage.simulator.fault(call, fault)
        if fault == "delivered twice" or (fault, call) == ("expired", "deleteSession"):
            grant = Grant(*stage.simulator.tokens(DID))
            with suppress(AccountRevoked):  # the second of two that close a session
                acts[call]()
            continue
        ended = fault == "expired" and call in ("createSession", "refreshSession")
        error = AccountRevoked if ended else Unavailable
        with pytest.raises(error):
            acts[call]()
        grant = Grant(*stage.simulator.tokens(DID))


def test_how_long_bluesky_asks_us_to_wait_is_heard(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.fault("putRecord", "429")
    commit = stage.commit(credential, handle, content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, HeldOff)
    assert commit.error.retry_after is not None
    assert timedelta(seconds=20) < commit.error.retry_after <= timedelta(seconds=30)


def test_nothing_is_sent_without_a_connection(stage: Stage) -> None:
    credential = replace(stage.credential, server="http://127.0.0.1:1")
    content, video = a_post(), a_file()
    with closing(Http("viral-tests")) as http:
        nowhere = Bluesky(http, base_url="http://127.0.0.1:1")
        commit = nowhere.commit(
            credential, Handle({"rkey": record_key(content), "blob": {}}), content, video, start=0, watch=unwatched
        )
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, NotSent)


@pytest.mark.parametrize(
    "server", ["http://pds.example.com", "https://127.0.0.1", "https://localhost", "https://[::1]"]
)
def test_a_server_from_outside_is_https_and_public(stage: Stage, server: str) -> None:
    before = len(stage.simulator.server.requests)
    with pytest.raises(NotSent):
        stage.bluesky.limits(replace(stage.credential, server=server))
    assert len(stage.simulator.server.requests) == before


# --- what others met -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known_as", ["job", "field", "blob"])
def test_bsky_docs_367_postiz_1589_the_same_video_twice(stage: Stage, known_as: Any) -> None:
    """A video that was processed before is a 409 with the error `already_exists`, in three shapes; it was read as a
    failure, or its job was not found."""
    stage.simulator.known_as = known_as
    for n in (1, 2):
        credential, content, video = stage.credential, a_post(n), a_file()
        handle = stage.prepared(content, video, credential)
        assert isinstance(stage.commit(credential, handle, content, video), Published)
    assert stage.shown == [OURS, OURS]
    assert len(stage.simulator.jobs) == 1


def test_trypost_110_a_post_always_has_its_video(stage: Stage) -> None:
    """The token was for bsky.social and not for the account's own server, and the post went out without its video."""
    credential, content, video = stage.credential, a_post(), a_file()
    commit = stage.commit(credential, stage.bluesky.open(credential, content, video, unwatched), content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, HandleLost)
    assert stage.shown == []
    stage.prepared(content, video, credential)
    [asked] = [r.params for r in stage.simulator.server.requests if r.path.endswith("getServiceAuth")]
    assert asked["aud"] == f"did:web:127.0.0.1%3A{stage.simulator.url.rpartition(':')[2]}"


def test_atproto_3718_the_record_is_put_and_never_created(stage: Stage) -> None:
    """Creating a record whose key is there is a 500, which says nothing; putting it again changes nothing."""
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    first = stage.commit(credential, handle, content, video)
    cid = stage.simulator.records[DID][record_key(content)]["cid"]
    assert stage.commit(credential, handle, content, video) == first
    assert stage.simulator.records[DID][record_key(content)]["cid"] == cid
    assert "createRecord" not in stage.simulator.received


def test_trypost_281_a_post_of_the_owner_in_between_is_not_ours(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    foreign = stage.simulator.foreign_post(DID, TEXT)
    assert isinstance(stage.bluesky.look(credential, handle, content, video), Unfinished)
    published = stage.commit(credential, handle, content, video)
    assert published.external_id != foreign.id
    assert len(stage.shown) == 2


# --- videos --------------------------------------------------------------------------------------------------------


def test_while_bluesky_works_on_a_video_its_job_is_kept_and_nothing_is_uploaded_again(stage: Stage) -> None:
    stage.simulator.polls = 4
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.bluesky.open(credential, content, video, unwatched)
    with pytest.raises(NotReady) as raised:
        stage.bluesky.ready(credential, handle, content, video, unwatched)
    assert raised.value.handle is not None
    assert raised.value.retry_after is not None
    stage.prepared(content, video, credential)
    with pytest.raises(NotReady):
        stage.simulator.polls = 1
        other = a_file(VIDEO + b"1")
        stage.bluesky.ready(credential, handle, content, other, unwatched)
    assert stage.simulator.received.count("uploadVideo") == 3


@pytest.mark.parametrize(
    ("code", "error"),
    [("validation_failure", PostRefused), ("encoding_failure", PostRefused), ("generic_failure", HandleLost)],
)
def test_a_video_that_cannot_be_processed(stage: Stage, code: str, error: type[Rejected]) -> None:
    stage.simulator.failure = code
    with pytest.raises(error, match="Failed to process video"):
        stage.prepared(a_post(), a_file(), stage.credential)
    assert stage.shown == []


def test_a_job_that_is_known_no_longer_means_another_upload(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = Handle({"rkey": record_key(content), "job_id": "gone"})
    with pytest.raises(HandleLost):
        stage.bluesky.ready(credential, handle, content, video, unwatched)


def test_a_video_that_is_gone_at_the_commit_means_another_upload(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.jobs.clear()
    commit = stage.commit(credential, handle, content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, HandleLost)


def test_an_address_that_is_not_confirmed_is_said_in_words(stage: Stage) -> None:
    stage.simulator.email_confirmed = False
    with pytest.raises(PostRefused, match="e-mail address is confirmed"):
        stage.prepared(a_post(), a_file(), stage.credential)


def test_what_the_video_service_does_not_take_takes_no_access_away(stage: Stage) -> None:
    """It knows nothing of our access: its 401 is about what the account's server signed."""
    credential, content, video = stage.credential, a_post(), a_file()
    odd = Reply(b'{"error": "InvalidToken", "message": "no"}', 401, {"Content-Type": "application/json"})
    for path in ("uploadVideo", "getJobStatus", "getUploadLimits"):
        stage.simulator.server.fail(odd, path=path)
        with pytest.raises(Unavailable, match="video service"):
            stage.bluesky.limits(credential)
            stage.prepared(content, video, credential)
    assert isinstance(stage.commit(credential, stage.prepared(content, video, credential), content, video), Published)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 502])
def test_only_a_verdict_on_the_token_ends_access(stage: Stage, status: int) -> None:
    """A proxy's page, or an error that nobody knows, says nothing of the account."""
    grant = Grant(*stage.simulator.tokens(DID))
    for act in (stage.bluesky.refresh, stage.bluesky.revoke):
        stage.simulator.server.fail(Reply(b"<html>", status))
        with pytest.raises(Unavailable):
            act(APP, grant, stage.simulator.url)


def test_limits_are_those_of_the_video_service(stage: Stage) -> None:
    limits = stage.bluesky.limits(stage.credential)
    assert (limits.posts_left_today, limits.max_seconds, limits.max_characters) == (25, 180, 300)
    assert limits.max_bytes == 300_000_000
    stage.simulator.videos_a_day = 0
    limits = stage.bluesky.limits(stage.credential)
    assert limits.posts_left_today == 0
    assert "exceeded" in limits.settings["upload_message"]


@pytest.mark.parametrize("text", ["x" * 301, "🦊" * 301, "👨‍👩‍👧‍👦" * 130], ids=["letters", "foxes", "bytes"])
def test_a_text_that_is_too_long_is_refused(stage: Stage, text: str) -> None:
    credential, content, video = stage.credential, a_post(text=text), a_file()
    commit = stage.commit(credential, stage.prepared(content, video, credential), content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, PostRefused)


# --- the list, and comments ----------------------------------------------------------------------------------------


def test_the_list_is_complete_over_many_pages(stage: Stage) -> None:
    now = datetime.fromtimestamp(stage.simulator.now(), UTC)
    for n in range(230):
        stage.simulator.foreign_post(DID, f"post {n}")
    listing = stage.bluesky.recent(stage.credential, now - timedelta(minutes=1))
    assert listing.complete
    assert sorted(seen.text for seen in listing.posts) == sorted(f"post {n}" for n in range(230))
    assert stage.bluesky.recent(stage.credential, now + timedelta(minutes=1)).posts == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_comment_is_written_once(stage: Stage, fault: Fault) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    published = stage.commit(credential, stage.prepared(content, video, credential), content, video)
    stage.simulator.fault("putRecord", fault)
    ids = []
    for _ in range(3):
        try:
            ids.append(stage.bluesky.comment(credential, published.external_id, "More: https://example.org", "key"))
        except Unavailable:
            continue
    assert len(ids) >= 2
    assert len(set(ids)) == 1
    assert len([r for r in stage.simulator.records[DID].values() if "reply" in r["value"]]) == 1
    assert len(stage.shown) == 1


# --- accounts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names_server", [True, False], ids=["session", "directory"])
def test_an_account_is_connected_by_its_app_password(stage: Stage, names_server: bool) -> None:
    stage.simulator.names_server = names_server
    grant = stage.bluesky.log_in(" @fox.example.com ", "app-password", "")
    assert (grant.external_id, grant.username, grant.server) == (DID, "fox.example.com", stage.simulator.url)
    now = datetime.fromtimestamp(stage.simulator.now(), UTC)
    assert grant.access_expires_at is not None
    assert timedelta(minutes=119) < grant.access_expires_at - now <= timedelta(hours=2)
    assert ("directory" in stage.simulator.received) is not names_server


class Elsewhere(Bluesky):
    """A client whose entryway is another server than the one that is asked."""

    def __init__(self, http: Http, *, base_url: str) -> None:
        super().__init__(http, base_url=base_url)
        self._entryway = "https://bsky.social"


@pytest.mark.parametrize("names_server", [True, False])
def test_a_server_names_only_accounts_that_live_there(stage: Stage, http: Http, names_server: bool) -> None:
    """Else whoever has a server connects the account of anybody."""
    simulator, client = stage.simulator, Elsewhere(http, base_url=stage.simulator.url)
    simulator.names_server = names_server
    assert client.log_in("fox.example.com", "app-password", simulator.url).server == simulator.url
    simulator.address_in_documents = "https://pds.example.com"
    with pytest.raises(AccountRevoked, match=r"lives at pds\.example\.com"):
        client.log_in("fox.example.com", "app-password", simulator.url)
    for nobody in ("did:plc:nobody", "did:web:elsewhere.example/../x", "did:key:abc"):
        simulator.named = nobody
        with pytest.raises(AccountRevoked, match=r"account that there is not|not known here"):
            client.log_in("fox.example.com", "app-password", simulator.url)


@pytest.mark.parametrize("address", ["https://[bad", "ftp://x", ""])
def test_an_address_that_is_none_loses_no_tokens(stage: Stage, address: str) -> None:
    first = stage.bluesky.log_in("fox.example.com", "app-password", "")
    stage.simulator.address_in_documents = address
    fresh = stage.bluesky.refresh(APP, first, stage.simulator.url)
    assert (fresh.refresh_token != first.refresh_token, fresh.server) == (True, stage.simulator.url)


def test_fresh_tokens_of_an_account_that_is_not_active_are_kept(stage: Stage) -> None:
    first = stage.bluesky.log_in("fox.example.com", "app-password", "")
    stage.simulator.active = False
    assert stage.bluesky.refresh(APP, first, stage.simulator.url).refresh_token != first.refresh_token
    with pytest.raises(AccountRevoked, match="inactive"):
        stage.bluesky.log_in("fox.example.com", "app-password", "")


def test_a_wrong_password_is_said_in_words_without_it(stage: Stage) -> None:
    with pytest.raises(AccountRevoked, match="app passwords are made in its settings") as raised:
        stage.bluesky.log_in("fox.example.com", "hunter2hunter2", "")
    assert "hunter2" not in repr(raised.value)


def test_tokens_rotate_and_the_old_one_opens_for_a_while_and_then_no_more(stage: Stage) -> None:
    bluesky, server = stage.bluesky, stage.simulator.url
    first = bluesky.log_in("fox.example.com", "app-password", "")
    second = bluesky.refresh(APP, first, server)
    assert second.refresh_token != first.refresh_token
    assert bluesky.refresh(APP, first, server).refresh_token, "an answer that was lost is no loss for a while"
    stage.simulator.later(2 * 3600 + 1)
    with pytest.raises(TokenExpired):
        bluesky.limits(Credential(DID, second.access_token, server))
    with pytest.raises(AccountRevoked):
        bluesky.refresh(APP, first, server)
    bluesky.revoke(APP, bluesky.refresh(APP, second, server), server)
    bluesky.revoke(APP, first, server)


def test_an_account_that_was_taken_down_is_its_owners_to_mend(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.accounts[DID].revoked = True
    commit = stage.commit(credential, handle, content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, AccountRevoked)
    assert commit.error.code == "AccountTakedown"
    with pytest.raises(AccountRevoked):
        stage.bluesky.log_in("fox.example.com", "app-password", "")


def test_it_is_connected_in_no_browser(stage: Stage) -> None:
    assert stage.bluesky.passwords
    with pytest.raises(Rejected):
        stage.bluesky.authorize_url(APP, state="s", challenge="c", redirect_uri="https://x", server="")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_page_of_something_in_between_refuses_nothing_for_ever(stage: Stage, status: int) -> None:
    """A proxy's 403 says nothing of the account, and its 404 nothing of the post."""
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    page = Reply(b"<html>Are you human?</html>", status, {"Content-Type": "text/html"})
    stage.simulator.server.fail(page)
    commit = stage.commit(credential, handle, content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, Unavailable)
    assert not isinstance(commit.error, TokenExpired | HeldOff)
    stage.simulator.server.fail(page)
    assert isinstance(stage.bluesky.look(credential, handle, content, video), CannotTell)


def test_no_answer_puts_a_secret_into_an_error(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 500, 503):
        body = json.dumps({"error": credential.access_token, "message": f"no: {credential.access_token}"}).encode()
        stage.simulator.server.fail(Reply(body, status, {"Content-Type": "application/json"}))
        commit = stage.commit(credential, handle, content, video)
        assert credential.access_token not in repr(commit)
        assert credential.access_token not in (str(commit.error) if isinstance(commit, Refused) else commit.reason)


ODD = (b"", b"[]", b"null", b'{"error": 7}', b"<html>", b'{"uri": 7}', b'{"jobStatus": []}', b"\xff", b"[" * 2000)


@pytest.mark.parametrize("status", [200, 302, 400, 409, 502])
def test_odd_answers_publish_nothing_that_is_not_there(stage: Stage, status: int) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    for n, body in enumerate(ODD):
        odd = Reply(body, status, {"Content-Type": "application/json"})
        stage.simulator.server.fail(odd)
        assert isinstance(stage.commit(credential, handle, content, video), Refused | Unknown)
        stage.simulator.server.fail(odd)
        assert isinstance(stage.bluesky.look(credential, handle, content, video), CannotTell)
        stage.simulator.server.fail(odd, path="uploadVideo")
        with pytest.raises((Unavailable, Rejected)):
            stage.prepared(content, a_file(VIDEO + b"%d" % n), credential)
    assert stage.shown == []


# --- numbers ---------------------------------------------------------------------------------------------------------

DAY_OLD = 86_430


def a_post_of_yesterday(stage: Stage, n: int = 0) -> str:
    uri = stage.simulator.foreign_post(DID, f"Post {n}").id
    stage.simulator.backdate(uri, DAY_OLD)
    return uri


def as_grown(uri: str) -> Numbers:
    grown = numbers_at(uri, DAY_OLD)
    quotes = grown.shares // 2
    details = {"reposts": grown.shares - quotes, "quotes": quotes, "saves": grown.saves}
    return Numbers(likes=grown.likes, comments=grown.comments, shares=grown.shares, details=details)


def test_numbers_of_25_posts_come_with_one_request_and_nobody_counts_views(stage: Stage) -> None:
    uris = [a_post_of_yesterday(stage, n) for n in range(stage.bluesky.measured_at_once)]
    found = stage.bluesky.measure(stage.credential, uris, MOMENT)
    assert found == Measured("bluesky getPosts", {uri: as_grown(uri) for uri in uris})
    assert stage.simulator.received == ["getPosts"]
    assert {each.views for each in found.numbers.values()} == {None}
    with pytest.raises(Unavailable, match="1 to 25 uris"):
        stage.bluesky.measure(stage.credential, [*uris, uris[0]], MOMENT)


def test_a_post_is_gone_if_its_record_is_and_not_if_it_is_only_left_out(stage: Stage) -> None:
    deleted, hidden, shown = [a_post_of_yesterday(stage, n) for n in range(3)]
    stage.simulator.remove(deleted)
    stage.simulator.unlisted.add(hidden)
    found = stage.bluesky.measure(stage.credential, [deleted, hidden, shown], MOMENT)
    missing = frozenset([deleted, hidden])
    assert found == Measured("bluesky getPosts", {shown: as_grown(shown)}, missing=missing)
    stage.simulator.received.clear()
    uris = [deleted, *[hidden] * (stage.bluesky.doubted_at_once - 1)]
    assert stage.bluesky.gone(stage.credential, uris) == {deleted}
    [drawn] = draws("bluesky", Act.GONE, uuid4())
    assert len(stage.simulator.received) == drawn.cost, "as much as is drawn"
    stage.simulator.fault("getRecord", "500 before")
    with pytest.raises(Unavailable):
        stage.bluesky.gone(stage.credential, [deleted])


def test_of_two_numbers_that_are_added_both_have_to_be_counts(stage: Stage) -> None:
    uri = a_post_of_yesterday(stage)
    stage.simulator.say(uri, quotes="3", comments=-1, likes=True)
    found = stage.bluesky.measure(stage.credential, [uri], MOMENT).numbers[uri]
    assert (found.shares, found.comments, found.likes) == (None, None, None)
    assert found.details.keys() == {"reposts", "saves"}
    stage.simulator.say(uri, shares=None, quotes=None, saves=None)
    assert stage.bluesky.measure(stage.credential, [uri], MOMENT) == Measured("bluesky getPosts"), "asked again later"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_for_numbers_that_fails_says_nothing_of_the_posts(stage: Stage, fault: Fault) -> None:
    uri = a_post_of_yesterday(stage)
    stage.simulator.fault("getPosts", fault)
    kinds: dict[str, type[ViralError]] = {"429": HeldOff, "expired": TokenExpired}
    if fault != "delivered twice":
        with pytest.raises(kinds.get(fault, Unavailable)):
            stage.bluesky.measure(stage.credential, [uri], MOMENT)
    assert stage.bluesky.measure(stage.credential, [uri], MOMENT).numbers == {uri: as_grown(uri)}
