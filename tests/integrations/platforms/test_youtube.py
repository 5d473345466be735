"""YouTube's client against the simulated YouTube: what each answer means, and what was really posted."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from unittest.mock import ANY

import pytest

from domain.errors import NotSetUp, Unavailable, ViralError
from domain.posting.publishing import (
    Absent,
    Accepted,
    AccountRevoked,
    CannotTell,
    HeldOff,
    PostRefused,
    Published,
    Refused,
    TokenExpired,
    Unfinished,
    Unknown,
)
from integrations.http.errors import NotSent
from integrations.platforms import youtube
from integrations.platforms.answers import Answer
from integrations.platforms.youtube import YouTube
from integrations.platforms.youtube_errors import error_of
from simulators.loopback import Request
from simulators.platforms.platform import FAULTS, Fault
from simulators.platforms.youtube import Trick, YouTubeSimulator, youtube_simulator
from tests.google_api import check
from tests.platform_stage import ADA, TEXT, VERIFIER, Stage, a_content, a_video
from tests.wait import until

MEDIA = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 64
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
NOT_ACTED: tuple[Fault, ...] = ("500 before", "429", "hang-up before", "expired")
OurStage = Stage[YouTubeSimulator, YouTube]


@pytest.fixture
def stage() -> Iterator[OurStage]:
    with youtube_simulator(held_seconds=0.05) as simulator:
        stage = Stage(simulator, YouTube, a_content(privacy="public", notify_subscribers=False), MEDIA)
        yield stage
        for request in simulator.server.requests:
            check(request)


# --- requests as Google describes them ---------------------------------------------------------------------------


def test_the_description_catches_what_google_would_ignore() -> None:
    for wrong in (
        {"snippet": {"catgoryId": "22"}},
        {"status": {"privacyStatus": "PUBLIC"}},
        {"snippet": {"tags": "fox"}},
        {"status": {"containsSyntheticMedia": "true"}},
    ):
        body = json.dumps(wrong).encode()
        with pytest.raises(AssertionError, match=r"has no|is no|is PUBLIC"):
            check(Request("POST", "/resumable/upload/youtube/v3/videos", "part=snippet", {}, body))


# --- the way of one post ---------------------------------------------------------------------------------------------


def test_a_video_has_the_bytes_and_all_that_was_asked_for(stage: OurStage) -> None:
    handle = stage.open()
    assert handle.public == {"size": len(MEDIA), "opened_at": ANY}
    assert stage.ready() == handle
    assert stage.look() == Unfinished(f"YouTube has 0 of {len(MEDIA):,} bytes", 0)
    assert isinstance(stage.commit(), Accepted)
    [post] = stage.simulator.posts
    assert stage.look() == Published(post.id, f"https://www.youtube.com/shorts/{post.id}")
    assert stage.client.permalink(stage.credential, post.id) == f"https://www.youtube.com/shorts/{post.id}"
    assert (post.sha256, post.private) == (stage.sha256, False)
    assert post.fields == {
        "snippet": {"title": "A fox", "description": TEXT, "tags": ["vd-mark-1", "fox"], "categoryId": "22"},
        "status": {"privacyStatus": "public", "selfDeclaredMadeForKids": False, "containsSyntheticMedia": True},
        "notify": False,
    }
    assert stage.simulator.received == ["open", "look", "upload", "look", "videos"]


def test_without_a_choice_of_privacy_nothing_is_sent(stage: OurStage) -> None:
    with pytest.raises(PostRefused, match="choose the privacy"):
        stage.open(options={})
    assert stage.simulator.received == []


def test_there_is_room_for_the_mark_whatever_the_hashtags(stage: OurStage) -> None:
    stage.open(hashtags=tuple("#" + "x" * 99 + str(n) for n in range(9)))
    [session] = stage.simulator.sessions.values()
    assert len(session.resource["snippet"]["tags"]) == 5
    assert session.resource["snippet"]["tags"][0] == "vd-mark-1"


def test_a_video_that_is_processed_is_not_published_yet(stage: OurStage) -> None:
    stage.simulator.processing_seconds = 600
    stage.open()
    assert isinstance(stage.commit(), Accepted)
    assert isinstance(stage.look(), Accepted)
    stage.later(timedelta(minutes=11))
    assert isinstance(stage.look(), Published)


@pytest.mark.parametrize("cut", [0, 1, 4096, 5000, 9999, len(MEDIA) - 1])
@pytest.mark.parametrize("trick", [None, "keeps half of a part"])
def test_a_video_that_is_cut_at_any_byte_goes_on_there_once_and_whole(
    stage: OurStage, cut: int, trick: Trick | None
) -> None:
    """google-api-python-client#122, yt#192"""
    stage.simulator.misbehave(trick)
    stage.open()
    assert isinstance(stage.commit(video=a_video(MEDIA, cut=cut)), Unknown)
    until(lambda: "upload" in stage.simulator.received, "the part of the upload")
    assert stage.posted() == []
    seen = stage.look()
    assert isinstance(seen, Unfinished)
    assert seen.start == (cut if trick is None else cut // 2)
    assert isinstance(stage.commit(start=seen.start), Accepted)
    assert stage.posted() == [stage.sha256]
    assert stage.simulator.received.count("upload") == 2


def test_a_commit_at_a_wrong_byte_makes_nothing(stage: OurStage) -> None:
    stage.open()
    assert isinstance(stage.commit(start=100), Unknown)
    assert stage.look() == Unfinished(f"YouTube has 0 of {len(MEDIA):,} bytes", 0)


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_the_upload_with_every_fault(stage: OurStage, fault: Fault) -> None:
    stage.open()
    stage.simulator.fault("upload", fault)
    done = stage.commit()
    assert stage.simulator.received.count("upload") == 1
    if fault in ("429", "expired"):
        assert isinstance(done, Refused)
        assert isinstance(done.error, HeldOff if fault == "429" else TokenExpired)
    else:
        assert isinstance(done, Accepted if fault == "delivered twice" else Unknown)
    seen = stage.look()
    if fault in NOT_ACTED:
        assert isinstance(seen, Unfinished)
        assert isinstance(stage.commit(start=seen.start), Accepted)
        seen = stage.look()
    assert isinstance(seen, Published)
    assert stage.posted() == [stage.sha256]


def reads(stage: OurStage) -> dict[str, Callable[[], Any]]:
    return {
        "open": stage.open,
        "channels": lambda: stage.client.recent(stage.credential, stage.now()),
        "playlist": lambda: stage.client.recent(stage.credential, stage.now()),
        "videos": lambda: stage.client.recent(stage.credential, stage.now()),
        "comments": lambda: stage.client.comment(stage.credential, stage.simulator.posts[0].id, "first", "key"),
        "comment": lambda: stage.client.comment(stage.credential, stage.simulator.posts[0].id, "first", "key"),
    }


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["open", "channels", "playlist", "videos", "comments", "comment"])
def test_what_can_be_asked_again_says_so(stage: OurStage, call: str, fault: Fault) -> None:
    """post-for-me#337, postiz#1900: what fails before the point of no return is tried again."""
    stage.simulator.post_elsewhere(ADA, "another")
    stage.simulator.fault(call, fault)
    act = reads(stage)[call]
    if fault == "delivered twice":
        act()
    else:
        kind = {"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable)
        with pytest.raises(kind) as raised:
            act()
        assert not isinstance(raised.value, NotSent)
        act()
    assert stage.posted() == []
    if call == "comment" and fault != "delivered twice":
        assert stage.simulator.posts[0].comments == ["first"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_look_with_every_fault_ends_nothing(stage: OurStage, fault: Fault) -> None:
    stage.open()
    stage.commit()
    stage.simulator.fault("look", fault)
    if fault in ("429", "expired"):
        with pytest.raises(HeldOff if fault == "429" else TokenExpired):
            stage.look()
    elif fault != "delivered twice":
        assert isinstance(stage.look(), CannotTell)
    assert isinstance(stage.look(), Published)
    assert stage.posted() == [stage.sha256]


@pytest.mark.parametrize("fault", FAULTS)
def test_that_its_state_cannot_be_read_changes_nothing_about_a_video(stage: OurStage, fault: Fault) -> None:
    """postiz#1562, #1568"""
    stage.open()
    stage.commit()
    stage.simulator.fault("videos", fault, times=2)
    if fault in ("429", "expired"):
        with pytest.raises(HeldOff if fault == "429" else TokenExpired):
            stage.look()
    else:
        assert isinstance(stage.look(), Published if fault == "delivered twice" else Accepted)
    stage.later(timedelta(hours=13))
    stage.refreshed()
    if fault == "expired":
        with pytest.raises(TokenExpired):
            stage.look()
    assert isinstance(stage.look(), Published)


def test_a_video_whose_state_cannot_be_read_may_still_be_rejected(stage: OurStage) -> None:
    stage.simulator.misbehave("rejected as duplicate")
    stage.open()
    stage.commit()
    stage.simulator.fault("videos", "500 before")
    assert isinstance(stage.look(), Accepted)
    assert isinstance(stage.look(), Absent)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refresh_with_every_fault_disconnects_nobody(stage: OurStage, fault: Fault) -> None:
    """postiz#1822, #1884"""
    grant = stage.exchanged(stage.authorized(CHALLENGE))
    stage.simulator.fault("token", fault)
    if fault != "delivered twice":
        with pytest.raises(Unavailable) as raised:
            stage.client.refresh(stage.app, grant, "")
        assert not isinstance(raised.value, NotSent)
    fresh = stage.client.refresh(stage.app, grant, "")
    assert (fresh.refresh_token, fresh.access_token != grant.access_token) == ("", True)


def test_where_nobody_listens_nothing_was_sent(stage: OurStage) -> None:
    stage.open()
    stage.simulator.server.__exit__(None, None, None)
    done = stage.commit()
    assert isinstance(done, Refused)
    assert isinstance(done.error, NotSent)


@pytest.mark.parametrize("kind", [InterruptedError, Unavailable, NotSent])
def test_what_watch_raises_is_raised(kind: type[Exception], stage: OurStage) -> None:
    stage.open()

    def stop(_: float) -> None:
        raise kind("no more")

    with pytest.raises(kind, match="no more"):
        stage.commit(watch=stop)
    assert isinstance(stage.look(), Unfinished)


# --- tricks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trick", "code", "words"),
    [
        ("rejected as duplicate", "duplicate", "the channel has this video already"),
        ("rejected for copyright", "copyright", "it infringes a copyright"),
        ("fails in processing", "codec", "its codec"),
    ],
)
def test_a_video_that_is_rejected_later_is_no_post(stage: OurStage, trick: Trick, code: str, words: str) -> None:
    stage.simulator.misbehave(trick)
    stage.open()
    assert isinstance(stage.commit(), Accepted)
    seen = stage.look()
    assert isinstance(seen, Absent)
    assert isinstance(seen.error, PostRefused)
    assert seen.error.code == code
    assert words in str(seen.error)
    assert stage.posted() == []


@pytest.mark.parametrize("trick", ["forgotten", "forgotten before", "expires at once"])
def test_a_session_that_is_gone_proves_nothing(stage: OurStage, trick: Trick) -> None:
    stage.simulator.misbehave(trick)
    stage.open()
    stage.commit()
    assert stage.look() == CannotTell("YouTube knows the upload no longer", lost=True)
    listing = stage.client.recent(stage.credential, stage.now() - timedelta(hours=1))
    assert listing.complete
    assert [seen.mark for seen in listing.posts] == (["mark-1"] if trick == "forgotten" else [])


def test_a_list_with_a_video_that_cannot_be_read_yet_proves_nothing(stage: OurStage) -> None:
    stage.simulator.post_elsewhere(ADA, "older", before=7200)
    stage.simulator.misbehave("forgotten")
    stage.open()
    stage.commit()
    stage.simulator.reading_lag = 600
    since = stage.now() - timedelta(hours=1)
    listing = stage.client.recent(stage.credential, since)
    assert (listing.posts, listing.complete) == ((), False)
    stage.later(timedelta(minutes=11))
    listing = stage.client.recent(stage.credential, since)
    assert ([seen.mark for seen in listing.posts], listing.complete) == (["mark-1"], True)


def test_an_old_video_that_cannot_be_read_is_no_matter(stage: OurStage) -> None:
    stage.simulator.post_elsewhere(ADA, "older", before=7200)
    gone = stage.simulator.post_elsewhere(ADA, "oldest", before=9000)
    stage.simulator.unreadable.add(gone.id)
    assert stage.client.recent(stage.credential, stage.now() - timedelta(hours=1)).complete
    assert not stage.client.recent(stage.credential, stage.now() - timedelta(hours=3)).complete


@pytest.mark.parametrize("hours", [0, 13])
def test_a_video_that_is_shown_to_nobody_is_not_called_published(stage: OurStage, hours: int) -> None:
    stage.open()
    stage.commit()
    stage.simulator.reading_lag = 14 * 3600
    stage.later(timedelta(hours=hours))
    stage.refreshed()
    sight = stage.look()
    assert isinstance(sight, CannotTell)
    assert not sight.lost
    stage.later(timedelta(hours=15))
    stage.refreshed()
    assert isinstance(stage.look(), Published)


@pytest.mark.parametrize(("seconds", "kind"), [(None, Published), (7, Published), (8, Published), (3, CannotTell)])
def test_a_video_whose_end_is_missing_is_a_persons_to_look_at(
    stage: OurStage, seconds: int | None, kind: type[Any]
) -> None:
    """google-api-python-client#122"""
    stage.simulator.seconds = seconds
    stage.open()
    stage.commit()
    assert isinstance(stage.look(), kind)


def test_a_session_ends_by_itself(stage: OurStage) -> None:
    stage.open()
    stage.later(timedelta(days=8))
    stage.refreshed()
    assert isinstance(stage.commit(), Unknown)
    assert stage.look() == CannotTell("YouTube knows the upload no longer", lost=True)


def test_a_look_before_another_commit_keeps_it_at_one_post(stage: OurStage) -> None:
    stage.simulator.misbehave("accepts repeats")
    stage.open()
    stage.simulator.fault("upload", "hang-up after")
    assert isinstance(stage.commit(), Unknown)
    assert isinstance(stage.look(), Published)
    stage.commit()  # what must not be done: the simulator shows it
    assert len(stage.posted()) == 2


# --- errors ----------------------------------------------------------------------------------------------------------


def test_a_quota_of_the_project_is_everybodys_until_midnight_in_california(stage: OurStage) -> None:
    stage.simulator.uploads_a_day = 0
    with pytest.raises(HeldOff) as raised:
        stage.open()
    assert (raised.value.code, raised.value.whole_app) == ("quotaExceeded", True)


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        (datetime(2026, 11, 27, 12, 0, tzinfo=UTC), 20),
        (datetime(2026, 7, 1, 6, 30, tzinfo=UTC), 0.5),
        (datetime(2026, 3, 8, 9, 0, tzinfo=UTC), 22),  # there it is 1:00 on the day that has 23 hours
    ],
    ids=str,
)
def test_midnight_in_california(now: datetime, hours: float) -> None:
    answer = Answer(403, {}, {"error": {"errors": [{"reason": "quotaExceeded"}]}})
    error = error_of(answer, now)
    assert isinstance(error, HeldOff)
    assert error.retry_after == timedelta(hours=hours, minutes=1)


def test_a_limit_of_the_channel_is_the_channels(stage: OurStage) -> None:
    stage.simulator.channel_uploads = 0
    with pytest.raises(HeldOff) as raised:
        stage.open()
    assert (raised.value.code, raised.value.whole_app) == ("uploadLimitExceeded", False)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, "authError", TokenExpired),
        (401, "youtubeSignupRequired", AccountRevoked),
        (403, "insufficientPermissions", AccountRevoked),
        (403, "accessNotConfigured", HeldOff),
        (403, "rateLimitExceeded", HeldOff),
        (400, "invalidTitle", PostRefused),
        (409, "conflict", Unavailable),
        (503, "backendError", Unavailable),
        (302, "", Unavailable),
    ],
)
def test_what_a_reason_means(status: int, reason: str, kind: type[ViralError]) -> None:
    body = {"error": {"code": status, "message": "no", "errors": [{"reason": reason}]}}
    assert type(error_of(Answer(status, {}, body), datetime.now(UTC))) is kind


def test_a_token_of_an_hour_expires(stage: OurStage) -> None:
    stage.open()
    stage.later(timedelta(hours=1, minutes=1))
    done = stage.commit()
    assert isinstance(done, Refused)
    assert isinstance(done.error, TokenExpired)
    stage.refreshed()
    assert isinstance(stage.commit(), Accepted)
    assert stage.posted() == [stage.sha256]


def test_a_title_that_is_refused_is_refused_with_words(stage: OurStage) -> None:
    with pytest.raises(PostRefused) as raised:
        stage.open(title="x" * 101)
    assert raised.value.code == "invalidTitle"


# --- the channel's list and comments ---------------------------------------------------------------------------------


def test_the_list_has_private_videos_too_and_gives_the_mark_back(stage: OurStage) -> None:
    """trypost#281"""
    began = stage.now()
    stage.simulator.page = 2
    for n in range(5):
        stage.simulator.post_elsewhere(ADA, f"{n}", before=300 + n)
    stage.simulator.post_elsewhere(ADA, "old", before=9000)
    stage.open(options={"privacy": "private"})
    stage.commit()
    listing = stage.client.recent(stage.credential, began - timedelta(hours=1))
    assert listing.complete
    assert [(seen.text, seen.mark) for seen in listing.posts] == [
        (TEXT, "mark-1"),
        *((str(n), None) for n in range(5)),
    ]


def test_a_comment_is_written_once(stage: OurStage) -> None:
    stage.open()
    stage.commit()
    [post] = stage.simulator.posts
    stage.simulator.comment_of_another(post, "first")
    stage.simulator.fault("comment", "hang-up after")
    with pytest.raises(Unavailable):
        stage.client.comment(stage.credential, post.id, "first", "key")
    assert stage.client.comment(stage.credential, post.id, "first", "key")
    assert post.comments == ["first", "first"]


# --- login -----------------------------------------------------------------------------------------------------------


def test_an_account_is_connected_refreshed_and_let_go(stage: OurStage) -> None:
    grant = stage.exchanged(stage.authorized(CHALLENGE))
    assert (grant.external_id, grant.username, grant.scopes) == (ADA, "ada", youtube.SCOPES)
    assert grant.refresh_token
    fresh = stage.client.refresh(stage.app, grant, "")
    assert fresh.refresh_token == ""
    stage.client.revoke(stage.app, grant, "")
    with pytest.raises(AccountRevoked):
        stage.client.refresh(stage.app, grant, "")
    stage.client.revoke(stage.app, grant, "")


def test_a_code_opens_nothing_twice_or_without_its_verifier(stage: OurStage) -> None:
    code = stage.authorized(CHALLENGE)
    with pytest.raises(AccountRevoked):
        stage.exchanged(code, "w" * 64)
    with pytest.raises(AccountRevoked):
        stage.exchanged(code)


def test_an_app_that_is_not_registered_disconnects_nobody(stage: OurStage) -> None:
    grant = stage.exchanged(stage.authorized(CHALLENGE))
    with pytest.raises(NotSetUp, match="GOOGLE_CLIENT_ID"):
        stage.client.refresh(replace(stage.app, client_secret="wrong"), grant, "")


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_no_secret_is_in_a_text(stage: OurStage, fault: Fault) -> None:
    stage.simulator.post_elsewhere(ADA, "another")
    grant = stage.exchanged(stage.authorized(CHALLENGE))
    stage.open()
    texts = [repr(stage.handle), repr(grant), repr(stage.credential), repr(stage.client)]
    acts: list[Callable[[], Any]] = [
        *reads(stage).values(),
        stage.commit,
        stage.look,
        lambda: stage.client.refresh(stage.app, grant, ""),
        lambda: stage.exchanged("a-code-of-nobody"),
    ]
    for call in ("open", "channels", "playlist", "videos", "comments", "comment", "upload", "look", "token"):
        stage.simulator.fault(call, fault)
    for act in acts:
        with suppress(StopIteration):
            try:
                texts.append(repr(act()))
            except ViralError as error:
                texts.append(f"{error!r} {error.__cause__!r}")
    for secret in [*stage.secrets(), grant.refresh_token, "a-code-of-nobody"]:
        assert not [text for text in texts if secret in text]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/", "https://example.com/", "https://x.googleapis.com.evil.com/", ""]
)
def test_a_session_elsewhere_is_sent_nothing(stage: OurStage, url: str) -> None:
    stage.open()
    stage.handle = replace(stage.handle, secrets={"session": url})
    done = stage.commit()
    assert isinstance(done, Refused)
    assert isinstance(done.error, NotSent)
