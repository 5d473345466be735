"""Instagram's client against the simulated Instagram: what each answer means, and what was really posted."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from domain.errors import Unavailable, ViralError
from domain.posting.publishing import (
    Absent,
    AccountLimits,
    AccountRevoked,
    CannotTell,
    HandleLost,
    HeldOff,
    NotReady,
    PostRefused,
    Published,
    Refused,
    TokenExpired,
    Unfinished,
    Unknown,
)
from integrations.http.client import Http
from integrations.http.errors import NotSent
from integrations.platforms.instagram import Instagram
from simulators.loopback import Reply
from simulators.platforms.platform import FAULTS, Fault
from tests.instagram_stage import ADA, CONTENT, MEDIA, TEXT, Stage, instagram_stage, unwatched, verdict


@pytest.fixture
def stage() -> Iterator[Stage]:
    with instagram_stage() as found:
        yield found


# --- the way of one post ---------------------------------------------------------------------------------------------


def test_a_post_has_the_bytes_of_the_video_and_all_that_was_asked_for(stage: Stage) -> None:
    assert stage.client.limits(stage.credential) == AccountLimits(posts_left_today=50, posts_a_day=50)
    stage.open()
    assert stage.ready() == stage.handle
    assert stage.look() == Unfinished("Instagram has the video and has not published it")
    done = stage.commit()
    [post] = stage.simulator.posts
    assert done == Published(post.id)
    assert (post.text, post.sha256) == (TEXT, hashlib.sha256(MEDIA).hexdigest())
    sent = {name: value for name, value in post.fields.items() if name != "video_url"}
    assert sent == {
        **{"media_type": "REELS", "caption": TEXT, "share_to_feed": "true"},
        **{"is_ai_generated": "true", "thumb_offset": "1500"},
    }
    link = f"https://www.instagram.com/reel/{post.id}/"
    assert stage.look() == Published(post.id, link)
    assert stage.client.permalink(stage.credential, post.id) == link
    assert stage.client.limits(stage.credential).posts_left_today == 49


def test_a_container_is_asked_for_once_a_minute_until_its_video_is_processed(stage: Stage) -> None:
    stage.simulator.processing_seconds = 150
    stage.open()
    for _ in range(3):
        with pytest.raises(NotReady) as caught:
            stage.ready()
        assert caught.value.retry_after == timedelta(minutes=1)
        assert stage.look() == CannotTell("Instagram works on the video")
        refused = stage.commit()
        assert isinstance(refused, Refused)
        assert isinstance(refused.error, NotReady)
        stage.later(timedelta(minutes=1))
    assert stage.ready() == stage.handle
    assert isinstance(stage.commit(), Published)


def test_many_threads_that_publish_one_container_make_one_post(stage: Stage) -> None:
    stage.open()
    with ThreadPoolExecutor(12) as pool:
        done = [each.result() for each in [pool.submit(stage.commit) for _ in range(12)]]
    [post] = stage.simulator.posts
    assert [each for each in done if isinstance(each, Published)] == [Published(post.id)]
    assert sum(isinstance(each, Unknown) for each in done) == 11
    assert stage.look() == Published(post.id, f"https://www.instagram.com/reel/{post.id}/")


def test_a_container_that_turns_out_to_be_published_is_not_published_again(stage: Stage) -> None:
    """As after a restore: the row does not know of the attempt, and the server would take a second one."""
    stage.simulator.accepts_repeats = True
    ours = stage.published()
    stage.handle = stage.ready()
    assert stage.commit() == Published(ours, f"https://www.instagram.com/reel/{ours}/")
    assert stage.simulator.received.count("publish") == 1
    assert len(stage.simulator.posts) == 1


def test_options_of_the_post_are_sent_as_they_are_chosen(stage: Stage) -> None:
    content = replace(CONTENT, options={"share_to_feed": False}, ai_generated=False, cover_at=None)
    handle = stage.client.open(stage.credential, content, stage.video, unwatched)
    sent = stage.simulator.containers[str(handle.public["container_id"])].fields
    assert (sent["share_to_feed"], sent["is_ai_generated"]) == ("false", "false")
    assert "thumb_offset" not in sent


# --- every call, every fault -----------------------------------------------------------------------------------------

SILENT = tuple(fault for fault in FAULTS if fault not in ("429", "expired", "delivered twice"))
DONE_SILENTLY = tuple(fault for fault in FAULTS if fault.endswith(" after"))


READS: dict[str, Callable[[Stage], object]] = {
    "limits": lambda stage: stage.client.limits(stage.credential),
    "create": lambda stage: stage.open(),
    "status": lambda stage: stage.ready(),
    "list": lambda stage: stage.client.recent(stage.credential, stage.now() - timedelta(hours=1)),
    "permalink": lambda stage: stage.client.permalink(stage.credential, stage.simulator.posts[0].id),
    "comments": lambda stage: stage.client.comment(stage.credential, stage.simulator.posts[0].id, "First", "key"),
    "comment": lambda stage: stage.client.comment(stage.credential, stage.simulator.posts[0].id, "First", "key"),
}


@pytest.mark.parametrize(("call", "fault"), list(product(READS, FAULTS)), ids=lambda each: str(each))
def test_what_changes_nothing_says_what_is_wrong_and_can_be_asked_again(stage: Stage, call: str, fault: Fault) -> None:
    stage.published()
    stage.simulator.fault(call, fault)
    found = verdict(lambda: READS[call](stage))
    if fault == "429":
        assert isinstance(found, HeldOff)
        assert not found.whole_app
        assert found.retry_after == timedelta(seconds=30)
    elif fault == "expired":
        assert isinstance(found, TokenExpired)
    elif fault in SILENT:
        assert isinstance(found, Unavailable)
        assert not isinstance(found, HeldOff | TokenExpired | NotReady | NotSent)
    else:
        assert not isinstance(found, Exception)
    assert not isinstance(verdict(lambda: READS[call](stage)), Exception)
    [post] = stage.simulator.posts
    twice = call == "comment" and fault == "delivered twice"
    assert post.comments == (["First"] * (2 if twice else 1) if call.startswith("comment") else [])


@pytest.mark.parametrize("fault", FAULTS)
def test_publishing_is_refused_only_if_that_is_certain_and_its_handle_tells_the_rest(
    stage: Stage, fault: Fault
) -> None:
    stage.open()
    stage.simulator.fault("publish", fault)
    done, found = stage.commit(), stage.look()
    if fault in ("429", "expired"):
        assert isinstance(done, Refused)
        assert isinstance(done.error, HeldOff if fault == "429" else TokenExpired)
    else:
        assert isinstance(done, Unknown)
    if fault in DONE_SILENTLY or fault == "delivered twice":
        [post] = stage.simulator.posts
        assert found == Published(post.id, f"https://www.instagram.com/reel/{post.id}/")
    else:
        assert stage.simulator.posts == []
        assert isinstance(found, Unfinished)
        assert isinstance(stage.commit(), Published)
        assert len(stage.simulator.posts) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_look_that_fails_says_nothing_and_one_without_a_list_says_published(stage: Stage, fault: Fault) -> None:
    post = stage.published()
    stage.simulator.fault("status", fault)
    found = verdict(stage.look)
    kinds = {"429": HeldOff, "expired": TokenExpired, "delivered twice": Published}
    assert isinstance(found, kinds.get(fault, Unavailable))
    stage.simulator.fault("list", fault)
    assert stage.look() == Published(*([post, f"https://www.instagram.com/reel/{post}/"] if "twice" in fault else []))


def test_what_never_left_this_machine_is_refused_for_certain(stage: Stage) -> None:
    stage.open()
    away = Instagram(Http("tests"), base_url="http://127.0.0.1:9")
    done = away.commit(stage.credential, stage.handle, CONTENT, stage.video, start=0, watch=lambda fraction: None)
    assert isinstance(done, Refused)
    assert isinstance(done.error, NotSent)


def test_what_the_watch_raises_ends_a_commit_before_it_is_sent(stage: Stage) -> None:
    stage.open()

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.client.commit(stage.credential, stage.handle, CONTENT, stage.video, start=0, watch=stop)
    assert "publish" not in stage.simulator.received


# --- Meta's numbers --------------------------------------------------------------------------------------------------

CERTAIN = [
    (190, 463, TokenExpired),
    (190, 0, TokenExpired),
    (190, 458, AccountRevoked),
    (190, 460, AccountRevoked),
    (10, 0, AccountRevoked),
    (200, 0, AccountRevoked),
    (25, 2207050, AccountRevoked),
    (4, 0, HeldOff),
    (17, 0, HeldOff),
    (32, 0, HeldOff),
    (613, 0, HeldOff),
    (9, 2207042, HeldOff),
    (9007, 2207027, NotReady),
    (36003, 2207009, PostRefused),
    (352, 2207026, PostRefused),
]
NO_VERDICT = [
    (4, 2207051),
    (100, 33),
    (100, 2207082),
    (-1, 2207001),
    (-2, 2207020),
    (24, 2207008),
    (1, 0),
    (2, 0),
    (5, 0),
]


@pytest.mark.parametrize(("code", "subcode", "kind"), CERTAIN)
def test_a_number_that_is_a_verdict_at_publishing(
    stage: Stage, code: int, subcode: int, kind: type[ViralError]
) -> None:
    stage.open()
    stage.simulator.misbehave("publish", code, subcode)
    done = stage.commit()
    assert isinstance(done, Refused)
    assert type(done.error) is kind
    assert isinstance(done.error, HeldOff) is (kind is HeldOff)
    if isinstance(done.error, HeldOff):
        assert done.error.whole_app is (code == 4)
        assert done.error.retry_after is not None
    assert isinstance(stage.look(), Unfinished)


@pytest.mark.parametrize("acted", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize(("code", "subcode"), NO_VERDICT)
def test_a_number_that_is_no_verdict_at_publishing(stage: Stage, code: int, subcode: int, *, acted: bool) -> None:
    """postiz#1681: its owner read "blocked", and posted again what was live already."""
    stage.open()
    stage.simulator.misbehave("publish", code, subcode, acted=acted)
    assert isinstance(stage.commit(), Unknown)
    found = stage.look()
    if acted:
        [post] = stage.simulator.posts
        assert found == Published(post.id, f"https://www.instagram.com/reel/{post.id}/")
    else:
        assert isinstance(found, Unfinished)
        assert stage.simulator.posts == []


AT_OPENING = [
    (-2, 2207003, Unavailable),
    (9004, 2207052, Unavailable),
    (-1, 2207032, Unavailable),
    (2, 0, Unavailable),
    (4, 2207051, HeldOff),
    (4, 0, HeldOff),
    (368, 0, HeldOff),
    (1, 2207057, PostRefused),
    (36003, 2207009, PostRefused),
    (36004, 2207010, PostRefused),
    (100, 2207023, PostRefused),
    (190, 463, TokenExpired),
    (10, 0, AccountRevoked),
]


@pytest.mark.parametrize(("code", "subcode", "kind"), AT_OPENING)
def test_a_number_at_opening(stage: Stage, code: int, subcode: int, kind: type[ViralError]) -> None:
    stage.simulator.misbehave("create", code, subcode)
    with pytest.raises(kind) as caught:
        stage.open()
    assert type(caught.value) is kind
    if isinstance(caught.value, HeldOff):
        assert caught.value.whole_app is ((code, subcode) == (4, 0))
    assert str(subcode or code) in str(caught.value) or kind is TokenExpired


def test_a_restricted_account_hears_what_to_do(stage: Stage) -> None:
    stage.open()
    stage.simulator.misbehave("publish", 25, 2207050)
    done = stage.commit()
    assert isinstance(done, Refused)
    assert "sign in to Instagram's app" in str(done.error)


# --- what became of a container --------------------------------------------------------------------------------------


@pytest.mark.parametrize("subcode", [2207003, 2207020, 2207052, 2207053])
def test_a_video_that_was_not_fetched_is_no_fault_of_the_post(stage: Stage, subcode: int) -> None:
    """postiz#1900: one failed fetch, and the whole post had failed."""
    stage.simulator.spoil(subcode)
    stage.open()
    found = stage.look()
    assert isinstance(found, Absent)
    assert found.error is None
    with pytest.raises(HandleLost):
        stage.ready()
    stage.open()
    assert stage.ready() == stage.handle
    assert isinstance(stage.commit(), Published)


def test_an_address_that_brings_nothing_is_no_fault_of_the_post_either(stage: Stage) -> None:
    stage.files.fail(Reply(status=503))
    stage.open()
    with pytest.raises(HandleLost, match="could not fetch the video"):
        stage.ready()


def test_a_video_that_instagram_does_not_take_is_refused_in_words(stage: Stage) -> None:
    stage.simulator.spoil(2207026)
    stage.open()
    with pytest.raises(PostRefused, match="format is not one that it takes") as caught:
        stage.ready()
    assert caught.value.code == "2207026"
    found = stage.look()
    assert isinstance(found, Absent)
    assert isinstance(found.error, PostRefused)


def test_a_container_of_yesterday_became_nothing(stage: Stage) -> None:
    stage.open()
    assert stage.handle.expires_at is not None
    stage.later(timedelta(hours=24, minutes=1))
    assert stage.handle.expires_at < stage.now()
    assert stage.look() == Absent("Instagram's container was not published within a day")
    with pytest.raises(HandleLost):
        stage.ready()
    assert isinstance(stage.commit(), Unknown)


def test_a_container_that_nobody_knows_is_lost_only_after_its_day(stage: Stage) -> None:
    """Before, 100/33 is what Instagram also answers for a moment; only a list of posts that has caught up tells."""
    stage.published()
    stage.simulator.containers[str(stage.handle.public["container_id"])].forgotten = True
    assert stage.look() == CannotTell("Instagram does not know the container", lost=False)
    with pytest.raises(HandleLost):
        stage.ready()
    stage.later(timedelta(hours=25))
    assert stage.look() == CannotTell("Instagram does not know the container any more", lost=True)


# --- which post it became --------------------------------------------------------------------------------------------


def test_a_newer_post_of_the_owner_is_not_taken_for_ours(stage: Stage) -> None:
    """trypost#281: bound was "the newest of the list"."""
    ours = stage.published()
    stage.simulator.foreign_post(ADA, "My holiday")
    assert stage.look() == Published(ours, f"https://www.instagram.com/reel/{ours}/")


def test_of_two_posts_that_fit_none_is_taken(stage: Stage) -> None:
    stage.published()
    stage.simulator.foreign_post(ADA, TEXT)
    assert stage.look() == Published()


def test_a_post_from_before_the_container_is_not_taken_for_ours(stage: Stage) -> None:
    stage.simulator.foreign_post(ADA, TEXT, before=3)
    ours = stage.published()
    assert stage.look() == Published(ours, f"https://www.instagram.com/reel/{ours}/")


def test_a_post_that_is_not_listed_yet_is_published_without_an_id(stage: Stage) -> None:
    stage.simulator.listing_lag = 300
    ours = stage.published()
    assert stage.look() == Published()
    stage.later(timedelta(minutes=6))
    assert stage.look() == Published(ours, f"https://www.instagram.com/reel/{ours}/")


@pytest.mark.parametrize("fault", ["500 before", "hang-up after"])
def test_a_permalink_that_never_comes_leaves_a_post_published(stage: Stage, fault: Fault) -> None:
    """postiz#1562, #1568: a live post was shown as failed."""
    ours = stage.published()
    stage.simulator.fault("permalink", fault, times=20)
    for _ in range(10):
        with pytest.raises(Unavailable):
            stage.client.permalink(stage.credential, ours)
        assert stage.look() == Published(ours, f"https://www.instagram.com/reel/{ours}/")


def test_the_list_is_whole_over_its_pages_and_says_if_it_is_not(stage: Stage) -> None:
    for minutes in range(25):
        stage.simulator.foreign_post(ADA, f"Post {minutes}", before=60 * minutes)
    stage.simulator.page = 2
    listing = stage.client.recent(stage.credential, stage.now() - timedelta(minutes=10))
    assert listing.complete
    assert [each.text for each in listing.posts[:11]] == [f"Post {minutes}" for minutes in range(11)]
    assert len(listing.posts) <= 13  # of two minutes before, since Instagram's clock may be behind
    stage.simulator.page = 1
    listing = stage.client.recent(stage.credential, stage.now() - timedelta(hours=1))
    assert (len(listing.posts), listing.complete) == (20, False)


def test_the_list_hides_no_post_by_its_whole_seconds(stage: Stage) -> None:
    since = stage.now()
    stage.published()
    assert len(stage.client.recent(stage.credential, since).posts) == 1


def test_the_first_comment_is_written_once_and_not_taken_for_a_strangers(stage: Stage) -> None:
    ours = stage.published()
    stage.simulator.comment_of_another(stage.simulator.posts[0], "First")
    stage.simulator.fault("comment", "hang-up after")
    with pytest.raises(Unavailable):
        stage.client.comment(stage.credential, ours, "First", "key")
    found = stage.client.comment(stage.credential, ours, "First", "key")
    assert found == stage.client.comment(stage.credential, ours, "First", "key")
    assert stage.simulator.posts[0].comments == ["First", "First"]


def test_a_first_comment_that_is_refused_for_good_is_none(stage: Stage) -> None:
    ours = stage.published()
    stage.simulator.misbehave("comment", 100)
    assert stage.client.comment(stage.credential, ours, "First", "key") is None


# --- the address of the video ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://videos.example.com/a.mp4",
        "http://127.0.0.1:8000/a.mp4",
        "https://127.0.0.1/a.mp4",
        "https://10.0.0.7/a.mp4",
        "https://[::1]/a.mp4",
        "https://localhost/a.mp4",
        "https://minio/a.mp4",
        "https://box.local/a.mp4",
        "https://web.internal./a.mp4",
    ],
)
def test_a_video_that_nobody_outside_reaches_is_refused_before_anything_is_sent(stage: Stage, address: str) -> None:
    client = Instagram(Http("tests"))
    video = replace(stage.video, address=lambda lifetime: address)
    with pytest.raises(PostRefused, match="PUBLIC_URL") as caught:
        client.open(stage.credential, CONTENT, video, unwatched)
    assert caught.value.code == "video_not_reachable"
    assert address not in str(caught.value)
