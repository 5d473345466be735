"""Mastodon's client against its simulator, which also plays a server that ignores the Idempotency-Key."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Barrier, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from domain.errors import Rejected, Unavailable, ViralError
from domain.learning.numbers import Measured, Numbers
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.publishing import (
    Absent,
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
    Seen,
    TokenExpired,
    Unfinished,
    Unknown,
    VideoFile,
)
from integrations.http.client import Http, Request
from integrations.http.errors import NotSent
from integrations.platforms.mastodon import Mastodon
from simulators.loopback import Reply
from simulators.platforms.growth import numbers_at
from simulators.platforms.mastodon import Kind, MastodonSimulator, mastodon_simulator
from simulators.platforms.platform import FAULTS, Fault

OWN_ID = "109348"
VIDEO = b"\0\0\0\x18ftypmp42\r\n--" + bytes(range(256)) * 40
TEXT = 'Fox & "bear" <3 https://example.org/a?b=1&c=2\nnext line\n\n#foxes #fürAlle\n\nMade with AI.'
BACK = "https://viral.example/oauth/mastodon/callback"
VERIFIER = "v" * 64
OURS = (TEXT, sha256(VIDEO).hexdigest())


def a_file(data: bytes = VIDEO) -> VideoFile:
    def read(start: int, end: int) -> Iterator[bytes]:
        yield from (data[at : min(at + 4096, end)] for at in range(start, end, 4096))

    return VideoFile(sha256(data).digest(), len(data), 12.0, 1080, 1920, "video/mp4", read, lambda lifetime: "")


def a_post(n: int = 1, **changes: Any) -> Content:
    post = Content(UUID(int=n), TEXT, datetime.now(UTC), f"mark-{n}", options={"visibility": "unlisted"})
    return replace(post, **changes)


def unwatched(fraction: float) -> None:
    """Nobody watches."""


@dataclass
class Stage:
    simulator: MastodonSimulator
    mastodon: Mastodon
    http: Http

    @property
    def credential(self) -> Credential:
        return Credential(
            f"{OWN_ID}@{urlsplit(self.simulator.url).netloc}", self.simulator.tokens(OWN_ID)[0], self.simulator.url
        )

    def prepared(self, content: Content, video: VideoFile, credential: Credential) -> Handle:
        handle = self.mastodon.open(credential, content, video, unwatched)
        for _ in range(20):
            try:
                return self.mastodon.ready(credential, handle, content, video, unwatched)
            except NotReady:
                continue
        raise AssertionError("it is never ready")

    def commit(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Any:
        return self.mastodon.commit(credential, handle, content, video, start=0, watch=unwatched)

    def look(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Any:
        return self.mastodon.look(credential, handle, content, video)

    def app(self) -> AppRegistration:
        return self.mastodon.register(self.simulator.url, BACK)

    def code(self, app: AppRegistration) -> str:
        """As a browser does it, whose user agrees."""
        challenge = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
        address = self.mastodon.authorize_url(
            app, state="a-state", challenge=challenge, redirect_uri=BACK, server=self.simulator.url
        )
        answer = self.http.exchange(Request("browser", address))
        assert answer.status == 302
        assert answer.headers["location"].startswith(BACK)
        back = parse_qs(urlsplit(answer.headers["location"]).query)
        assert back["state"] == ["a-state"]
        return back["code"][0]

    def connect(self, app: AppRegistration) -> Grant:
        code, server = self.code(app), self.simulator.url
        return self.mastodon.exchange(app, code=code, verifier=VERIFIER, redirect_uri=BACK, server=server)

    @property
    def shown(self) -> list[tuple[str, str]]:
        return [(post.text, post.sha256) for post in self.simulator.posts if not post.removed]


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with closing(Http("viral-tests")) as client:
        yield client


@pytest.fixture
def stage(http: Http) -> Iterator[Stage]:
    with mastodon_simulator(held_seconds=0.1) as simulator:
        simulator.add_account(OWN_ID, "fox")
        yield Stage(simulator, Mastodon(http, base_url=simulator.url), http)


@pytest.fixture(params=["mastodon", "gotosocial"])
def either(request: pytest.FixtureRequest, stage: Stage) -> Stage:
    kind: Kind = request.param
    stage.simulator.kind = kind
    return stage


def test_a_video_is_posted_once_it_is_processed(either: Stage) -> None:
    stage = either
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    assert stage.shown == []
    assert isinstance(stage.look(credential, handle, content, video), Unfinished)
    published = stage.commit(credential, handle, content, video)
    [post] = stage.simulator.posts
    assert published == Published(post.id, f"{stage.simulator.url}/@fox/{post.id}")
    assert stage.shown == [OURS]
    assert post.fields["visibility"] == "unlisted"
    assert stage.look(credential, handle, content, video) == published
    assert stage.mastodon.permalink(credential, post.id) == published.permalink


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
def test_a_commit_that_fails_is_called_what_it_is_and_ends_as_one_post(either: Stage, fault: Fault) -> None:
    stage = either
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.fault("post", fault)
    commit = stage.commit(credential, handle, content, video)
    verdict, error = VERDICTS[fault]
    if (fault, stage.simulator.kind) == ("delivered twice", "gotosocial"):
        verdict = Unknown
    assert isinstance(commit, verdict)
    assert error is None or isinstance(commit.error, error)
    assert stage.simulator.received.count("post") == 1, "nothing is sent again"
    sight = stage.look(credential, handle, content, video)
    assert isinstance(sight, Published if stage.shown else Unfinished)
    if not stage.shown:
        assert isinstance(stage.commit(credential, handle, content, video), Published)
    assert stage.shown == [OURS]


@pytest.mark.parametrize("call", ["upload", "media"])
def test_what_fails_before_the_commit_can_be_done_again(stage: Stage, call: str) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    for fault in FAULTS:
        stage.simulator.fault(call, fault)
        if fault != "delivered twice":
            with pytest.raises({"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable)):
                stage.prepared(content, video, credential)
        stage.prepared(content, video, credential)
    assert stage.shown == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["statuses", "media"])
def test_a_look_that_fails_never_says_that_it_is_not_there(stage: Stage, call: str, fault: Fault) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    if call == "statuses":
        stage.commit(credential, handle, content, video)
    stage.simulator.fault(call, fault)
    try:
        sight = stage.look(credential, handle, content, video)
    except (HeldOff, TokenExpired):
        assert fault in ("429", "expired")
    else:
        usual = Published if stage.shown else Unfinished
        assert isinstance(sight, usual if fault == "delivered twice" else CannotTell)


QUESTIONS = ("instance", "statuses", "status", "register", "token", "verify_credentials", "revoke")


@pytest.mark.parametrize("call", QUESTIONS)
def test_questions_that_fail_say_nothing(stage: Stage, call: str) -> None:
    app, server, mastodon = stage.app(), stage.simulator.url, stage.mastodon
    acts: dict[str, Any] = {
        "instance": lambda: mastodon.limits(stage.credential),
        "statuses": lambda: mastodon.recent(stage.credential, datetime.now(UTC)),
        "status": lambda: mastodon.permalink(stage.credential, "1"),
        "register": stage.app,
        "token": lambda: stage.connect(app),
        "verify_credentials": lambda: stage.connect(app),
        "revoke": lambda: mastodon.revoke(app, Grant("a-token"), server),
    }
    for fault in FAULTS:
        if fault == "delivered twice" or (fault, call) in (("expired", "register"), ("expired", "revoke")):
            continue
        stage.simulator.fault(call, fault)
        with pytest.raises(Unavailable):
            acts[call]()


def test_how_long_a_server_asks_us_to_wait_is_heard(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.fault("post", "429")
    commit = stage.commit(credential, handle, content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, HeldOff)
    assert commit.error.retry_after is not None
    assert timedelta(seconds=20) < commit.error.retry_after <= timedelta(seconds=30)


@pytest.mark.parametrize("server", ["http://social.example", "https://127.0.0.1", "https://localhost", "localhost"])
def test_a_server_from_outside_is_https_and_public(stage: Stage, server: str) -> None:
    with pytest.raises(NotSent):
        stage.mastodon.register(server, BACK)
    with pytest.raises(NotSent):
        stage.mastodon.limits(replace(stage.credential, server=server))
    assert stage.simulator.received == []


# --- what others met -----------------------------------------------------------------------------------------------


def test_mastodon_40399_a_repeated_key_is_a_500_and_the_upload_tells(stage: Stage) -> None:
    stage.simulator.repeats_fail = True
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.fault("post", "hang-up after")
    assert isinstance(stage.commit(credential, handle, content, video), Unknown)
    assert isinstance(stage.commit(credential, handle, content, video), Unknown)
    assert isinstance(stage.look(credential, handle, content, video), Published)
    assert stage.shown == [OURS]


def test_mastodon_30039_nothing_is_scheduled_at_the_server(stage: Stage) -> None:
    """With `scheduled_at` the key is ignored, and each repeat is a post of its own."""
    credential, content, video = stage.credential, a_post(), a_file()
    stage.commit(credential, stage.prepared(content, video, credential), content, video)
    stage.mastodon.comment(credential, stage.simulator.posts[0].id, "more", "key")
    assert all("scheduled_at" not in post.fields for post in stage.simulator.posts)
    assert all(b"scheduled_at" not in request.body for request in stage.simulator.server.requests)


def test_mastodon_21840_two_at_once_are_one_post_by_the_upload(stage: Stage) -> None:
    """Two requests with one key at once both went on; an upload belongs to one post."""
    stage.simulator.races = True
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    together, commits = Barrier(2), []

    def commit() -> None:
        together.wait()
        commits.append(stage.commit(credential, handle, content, video))

    threads = [Thread(target=commit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(each).__name__ for each in commits) == ["Published", "Unknown"]
    assert isinstance(stage.look(credential, handle, content, video), Published)
    assert stage.shown == [OURS]


def test_postybirb_335_a_video_that_is_still_processed_is_waited_for(stage: Stage) -> None:
    stage.simulator.polls = 3
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.mastodon.open(credential, content, video, unwatched)
    commit = stage.commit(credential, handle, content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, NotReady)
    with pytest.raises(NotReady):
        stage.mastodon.ready(credential, handle, content, video, unwatched)
    assert stage.shown == []


def test_trypost_281_a_post_of_the_owner_in_between_is_not_ours(either: Stage) -> None:
    stage = either
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    foreign = stage.simulator.foreign_post(OWN_ID, TEXT, VIDEO)
    assert isinstance(stage.look(credential, handle, content, video), Unfinished)
    stage.simulator.fault("post", "reset after")
    stage.commit(credential, handle, content, video)
    for _ in range(45):
        stage.simulator.foreign_post(OWN_ID, "another")
    sight = stage.look(credential, handle, content, video)
    assert isinstance(sight, Published)
    assert sight.external_id not in (None, foreign.id)


# --- uploads -------------------------------------------------------------------------------------------------------


def test_an_upload_that_a_post_has_is_not_shown_and_its_post_may_not_be_listed(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.fault("post", "reset after")
    stage.simulator.listing_lag = 600
    assert isinstance(stage.commit(credential, handle, content, video), Unknown)
    sight = stage.look(credential, handle, content, video)
    assert isinstance(sight, CannotTell)
    assert not sight.lost
    stage.simulator.later(601)
    assert isinstance(stage.look(credential, handle, content, video), Published)
    stage.simulator.remove(stage.simulator.posts[0].id)
    assert isinstance(stage.look(credential, handle, content, video), CannotTell)


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("lag", [0, 600])
def test_a_post_that_is_there_is_refused_in_any_language_and_not_taken_for_refused(
    either: Stage, language: Any, lag: int
) -> None:
    stage = either
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.fault("post", "reset after")
    stage.simulator.races, stage.simulator.language = True, language
    stage.commit(credential, handle, content, video)
    stage.simulator.listing_lag = lag if stage.simulator.kind == "mastodon" else 0
    assert isinstance(stage.commit(credential, handle, content, video), Unknown)
    assert stage.shown == [OURS]


def test_a_token_that_lasts_longer_than_time_is_kept(stage: Stage) -> None:
    stage.simulator.token_seconds = 10**15
    assert stage.connect(stage.app()).access_expires_at is None


def test_an_upload_that_is_gone_means_another(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    opened_at = datetime.fromisoformat(handle.public["opened_at"]) - timedelta(hours=23)
    handle = replace(handle, public={**handle.public, "opened_at": opened_at.isoformat()})
    stage.simulator.forget_uploads()
    with pytest.raises(HandleLost):
        stage.mastodon.ready(credential, handle, content, video, unwatched)
    assert isinstance(stage.commit(credential, handle, content, video), Unknown)
    assert stage.look(credential, handle, content, video) == Absent("the upload is gone, and in no post")


def test_a_handle_that_is_lost_leaves_the_list(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    stage.commit(credential, stage.prepared(content, video, credential), content, video)
    sight = stage.look(credential, Handle(), content, video)
    assert isinstance(sight, CannotTell)
    assert sight.lost
    listing = stage.mastodon.recent(credential, content.created_at - timedelta(seconds=1))
    assert listing.complete
    [seen] = listing.posts
    assert isinstance(seen, Seen)
    assert (seen.text, seen.external_id) == (TEXT, stage.simulator.posts[0].id)


def test_a_video_that_cannot_be_processed_is_refused(stage: Stage) -> None:
    stage.simulator.fails = True
    with pytest.raises(PostRefused, match="cannot use the video"):
        stage.prepared(a_post(), a_file(), stage.credential)


def test_what_watches_an_upload_ends_it(stage: Stage) -> None:
    def stop(_: float) -> None:
        raise InterruptedError("no more")

    with pytest.raises(InterruptedError):
        stage.mastodon.open(stage.credential, a_post(), a_file(), stop)
    assert stage.simulator.uploads == {}


def test_a_file_that_is_too_large_is_refused(stage: Stage) -> None:
    stage.simulator.most_bytes = 1000
    with pytest.raises(PostRefused):
        stage.mastodon.open(stage.credential, a_post(), a_file(), unwatched)


def test_a_text_that_is_too_long_is_refused_in_the_servers_words(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(text="x" * 501), a_file()
    commit = stage.commit(credential, stage.prepared(content, video, credential), content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, PostRefused)
    assert "limit of 500" in str(commit.error)
    assert stage.shown == []


def test_limits_are_the_servers_own(stage: Stage) -> None:
    stage.simulator.server.fail(Reply(b"", 404))
    assert stage.mastodon.limits(stage.credential).max_characters is None
    stage.simulator.most_characters = 5000
    limits = stage.mastodon.limits(stage.credential)
    assert (limits.max_characters, limits.max_bytes) == (5000, 103_809_024)


# --- the list, and comments ----------------------------------------------------------------------------------------


def test_the_list_is_complete_over_many_pages(stage: Stage) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    texts = [f"post {n} of <us> & 'you'\n\n#foxes" for n in range(95)]
    for text in texts:
        stage.simulator.foreign_post(OWN_ID, text)
    listing = stage.mastodon.recent(stage.credential, before)
    assert listing.complete
    assert [seen.text for seen in listing.posts] == texts[::-1]


def test_a_list_without_end_is_not_complete(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    for n in range(1001):
        stage.simulator.foreign_post(OWN_ID, f"post {n}")
    assert not stage.mastodon.recent(credential, content.created_at).complete
    assert isinstance(stage.look(credential, handle, content, video), CannotTell)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_comment_is_written_once(either: Stage, fault: Fault) -> None:
    stage = either
    credential, content, video = stage.credential, a_post(), a_file()
    published = stage.commit(credential, stage.prepared(content, video, credential), content, video)
    if (fault, stage.simulator.kind) == ("delivered twice", "gotosocial"):
        return  # nothing there tells the two apart
    stage.simulator.fault("post", fault)
    ids = []
    for _ in range(3):
        try:
            ids.append(stage.mastodon.comment(credential, published.external_id, "More: https://example.org", "key"))
        except Unavailable:
            continue
    assert len(ids) >= 2
    assert len(set(ids)) == 1
    assert stage.simulator.posts[0].comments == ["More: https://example.org"]


def test_a_comment_is_seen_by_those_who_see_the_post(either: Stage) -> None:
    stage = either
    credential, content, video = stage.credential, a_post(options={"visibility": "private"}), a_file()
    published = stage.commit(credential, stage.prepared(content, video, credential), content, video)
    assert stage.mastodon.comment(credential, published.external_id, "More", "key")
    [request] = [each for each in stage.simulator.server.requests if b"in_reply_to_id" in each.body]
    assert b'"visibility":"private"' in request.body


# --- accounts ------------------------------------------------------------------------------------------------------


def test_an_account_is_connected_in_a_browser_by_an_app_of_its_server(stage: Stage) -> None:
    app = stage.app()
    assert app.client_secret not in repr(app)
    grant = stage.connect(app)
    host = urlsplit(stage.simulator.url).netloc
    assert (grant.external_id, grant.username, grant.server) == (f"{OWN_ID}@{host}", f"fox@{host}", stage.simulator.url)
    assert (grant.refresh_token, grant.access_expires_at) == ("", None)
    assert grant.access_token not in repr(grant)
    credential = Credential(grant.external_id, grant.access_token, grant.server)
    content, video = a_post(), a_file()
    assert isinstance(stage.commit(credential, stage.prepared(content, video, credential), content, video), Published)
    stage.mastodon.revoke(app, grant, grant.server)
    with pytest.raises(AccountRevoked):
        stage.mastodon.recent(credential, content.created_at)


def test_a_code_is_good_once_and_for_its_verifier(stage: Stage) -> None:
    app, server = stage.app(), stage.simulator.url
    code = stage.code(app)
    with pytest.raises(AccountRevoked):
        stage.mastodon.exchange(app, code=code, verifier="another" * 8, redirect_uri=BACK, server=server)
    with pytest.raises(AccountRevoked):
        stage.mastodon.exchange(app, code=code, verifier=VERIFIER, redirect_uri=BACK, server=server)


def test_tokens_that_end_are_refreshed_where_a_server_has_a_way_to(stage: Stage) -> None:
    stage.simulator.token_seconds = 3600
    app = stage.app()
    grant = stage.connect(app)
    assert grant.access_expires_at is not None
    stage.simulator.later(3601)
    with pytest.raises(TokenExpired):
        stage.mastodon.recent(Credential(grant.external_id, grant.access_token, grant.server), datetime.now(UTC))
    fresh = stage.mastodon.refresh(app, grant, grant.server)
    assert fresh.access_token != grant.access_token
    with pytest.raises(AccountRevoked):
        stage.mastodon.refresh(app, grant, grant.server)
    with pytest.raises(AccountRevoked):
        stage.mastodon.refresh(app, Grant("a-token"), grant.server)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 502])
def test_only_a_verdict_on_the_token_ends_access(stage: Stage, status: int) -> None:
    """A proxy's page, or an error that nobody knows, says nothing of the account."""
    app, grant = stage.app(), Grant("a-token", "a-refresh-token")
    stage.simulator.server.fail(Reply(b"<html>", status))
    with pytest.raises(Unavailable):
        stage.mastodon.refresh(app, grant, stage.simulator.url)


def test_an_account_that_is_disabled_is_its_owners_to_mend(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.accounts[OWN_ID].revoked = True
    commit = stage.commit(credential, handle, content, video)
    assert isinstance(commit, Refused)
    assert isinstance(commit.error, AccountRevoked)
    assert "disabled" in str(commit.error)


def test_what_is_no_mastodon_server_is_called_so(stage: Stage) -> None:
    stage.simulator.server.fail(Reply(b"<html>", 404))
    with pytest.raises(Rejected, match="check its name"):
        stage.app()
    assert not stage.mastodon.passwords
    with pytest.raises(Rejected):
        stage.mastodon.log_in("fox", "password", stage.simulator.url)


ODD = (b"", b"[]", b"null", b'{"error": 7}', b"<html>", b'{"id": null}', b'{"id": true}', b'[{"id": []}]', b"\xff")


@pytest.mark.parametrize("status", [200, 202, 302, 400, 409, 422, 502])
def test_odd_answers_publish_nothing_that_is_not_there(stage: Stage, status: int) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    stage.simulator.foreign_post(OWN_ID, "another")
    for body in ODD:
        odd = Reply(body, status, {"Content-Type": "application/json"})
        stage.simulator.server.fail(odd)
        assert isinstance(stage.commit(credential, handle, content, video), Refused | Unknown)
        if body != b"[]":
            stage.simulator.server.fail(odd, path="statuses")
            with pytest.raises((Unavailable, Rejected)):
                stage.mastodon.recent(credential, content.created_at - timedelta(minutes=1))
        stage.simulator.server.fail(odd, path="media")
        with pytest.raises((Unavailable, Rejected)):
            stage.prepared(content, a_file(), credential)
    assert [text for text, _ in stage.shown] == ["another"]


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
    stage.simulator.server.fail(page, path="/media/")
    assert isinstance(stage.look(credential, handle, content, video), CannotTell)


def test_no_answer_puts_a_secret_into_an_error(stage: Stage) -> None:
    credential, content, video = stage.credential, a_post(), a_file()
    handle = stage.prepared(content, video, credential)
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 500, 503):
        body = b'{"error": "no: %s"}' % credential.access_token.encode()
        stage.simulator.server.fail(Reply(body, status, {"Content-Type": "application/json"}))
        commit = stage.commit(credential, handle, content, video)
        assert credential.access_token not in repr(commit)
        assert credential.access_token not in (str(commit.error) if isinstance(commit, Refused) else commit.reason)


# --- numbers ---------------------------------------------------------------------------------------------------------

DAY_OLD = 86_430
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def a_status_of_yesterday(stage: Stage) -> str:
    status_id = stage.simulator.foreign_post(OWN_ID, "A status").id
    stage.simulator.backdate(status_id, DAY_OLD)
    return status_id


def as_grown(status_id: str) -> Numbers:
    grown = numbers_at(status_id, DAY_OLD)
    return Numbers(likes=grown.likes, comments=grown.comments, shares=grown.shares)


@pytest.mark.parametrize("kind", ["mastodon", "gotosocial"])
def test_boosts_are_shares_and_nobody_counts_views(http: Http, kind: Kind) -> None:
    with mastodon_simulator(kind=kind) as simulator:
        simulator.add_account(OWN_ID, "fox")
        stage = Stage(simulator, Mastodon(http, base_url=simulator.url), http)
        status = a_status_of_yesterday(stage)
        found = stage.mastodon.measure(stage.credential, [status], NOW)
        assert found == Measured("mastodon statuses", {status: as_grown(status)})
        assert simulator.received == ["status"]


def test_only_what_the_server_itself_has_no_longer_is_gone(stage: Stage) -> None:
    status = a_status_of_yesterday(stage)
    stage.simulator.server.fail(Reply(b"<h1>Not Found</h1>", 404))
    with pytest.raises(Unavailable):
        stage.mastodon.measure(stage.credential, [status], NOW)
    stage.simulator.remove(status)
    found = stage.mastodon.measure(stage.credential, [status], NOW)
    assert found == Measured("mastodon statuses", gone=frozenset([status]))


def test_numbers_of_another_status_are_not_taken_for_ours_and_what_is_no_count_is_unknown(stage: Stage) -> None:
    status = a_status_of_yesterday(stage)
    stage.simulator.server.fail(Reply(b'{"id": "1", "favourites_count": 3}', 200))
    assert stage.mastodon.measure(stage.credential, [status], NOW) == Measured("mastodon statuses")
    stage.simulator.say(status, likes=-1, comments=2.5, shares=0)
    assert stage.mastodon.measure(stage.credential, [status], NOW).numbers == {status: Numbers(shares=0)}
    stage.simulator.say(status, shares="7")
    assert stage.mastodon.measure(stage.credential, [status], NOW) == Measured("mastodon statuses"), "asked again later"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_for_numbers_that_fails_says_nothing_of_the_status(stage: Stage, fault: Fault) -> None:
    status = a_status_of_yesterday(stage)
    stage.simulator.fault("status", fault)
    kinds: dict[str, type[ViralError]] = {"429": HeldOff, "expired": TokenExpired}
    if fault != "delivered twice":
        with pytest.raises(kinds.get(fault, Unavailable)):
            stage.mastodon.measure(stage.credential, [status], NOW)
    assert stage.mastodon.measure(stage.credential, [status], NOW).numbers == {status: as_grown(status)}
