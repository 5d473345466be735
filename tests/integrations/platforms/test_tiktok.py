"""TikTok's client against the simulated TikTok: what each answer means, and what was really posted."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from domain.errors import NotSetUp, Unavailable, ViralError
from domain.posting.publishing import (
    Absent,
    Accepted,
    AccountRevoked,
    CannotTell,
    HandleLost,
    HeldOff,
    InInbox,
    PostRefused,
    Published,
    Refused,
    TokenExpired,
    Unfinished,
    Unknown,
)
from integrations.http.errors import NotSent
from integrations.platforms import tiktok
from integrations.platforms.tiktok import TikTok, chunks_of
from simulators.platforms.platform import FAULTS, Fault
from simulators.platforms.tiktok import MB, TikTokSimulator, Trick, tiktok_simulator
from tests.platform_stage import ADA, TEXT, VERIFIER, Stage, a_content, a_video
from tests.wait import until

MEDIA = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 64
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
CHOSEN = {"privacy_level": "PUBLIC_TO_EVERYONE", "allow_comment": True}
NOT_ACTED: tuple[Fault, ...] = ("500 before", "429", "hang-up before", "expired")


@pytest.fixture
def stage() -> Iterator[Stage[TikTokSimulator, TikTok]]:
    with tiktok_simulator(held_seconds=0.05) as simulator:
        yield Stage(simulator, TikTok, a_content(**CHOSEN), MEDIA)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PostInfo(Strict):
    """Content Posting API reference, Direct Post, video; page of November 2026."""

    privacy_level: Literal["PUBLIC_TO_EVERYONE", "MUTUAL_FOLLOW_FRIENDS", "FOLLOWER_OF_CREATOR", "SELF_ONLY"]
    title: Annotated[str, Field(max_length=2200)]
    disable_duet: bool
    disable_stitch: bool
    disable_comment: bool
    video_cover_timestamp_ms: int | None = None
    brand_content_toggle: bool
    brand_organic_toggle: bool
    is_aigc: bool


class SourceInfo(Strict):
    source: Literal["FILE_UPLOAD"]
    video_size: int
    chunk_size: int
    total_chunk_count: int


class DirectPost(Strict):
    post_info: PostInfo
    source_info: SourceInfo


class InboxUpload(Strict):
    source_info: SourceInfo


def sent(stage: Stage[TikTokSimulator, TikTok], path: str) -> dict[str, Any]:
    [request] = [each for each in stage.simulator.server.requests if path in each.path]
    assert request.headers["content-type"] == "application/json; charset=UTF-8"
    body: dict[str, Any] = json.loads(request.body)
    return body


# --- the way of one post ---------------------------------------------------------------------------------------------


def test_a_post_has_the_bytes_of_the_video_and_all_that_was_asked_for(stage: Stage[TikTokSimulator, TikTok]) -> None:
    handle = stage.open()
    assert handle.public.keys() == {"publish_id", "chunk_size"}
    assert stage.ready() == handle
    assert stage.look() == Unfinished(f"TikTok has 0 of {len(MEDIA):,} bytes", 0)
    assert isinstance(stage.commit(), Accepted)
    seen = stage.look()
    [post] = stage.simulator.posts
    assert seen == Published(post.id)
    assert len(post.id) == 19
    assert (post.sha256, post.text, post.private) == (stage.sha256, TEXT, False)
    assert stage.simulator.received == ["init", "status", "upload", "status"]
    info = DirectPost.model_validate(sent(stage, "/video/init/")).post_info
    assert info.model_dump() == {
        "privacy_level": "PUBLIC_TO_EVERYONE",
        "title": TEXT,
        "disable_comment": False,
        "disable_duet": True,
        "disable_stitch": True,
        "video_cover_timestamp_ms": 1500,
        "brand_content_toggle": False,
        "brand_organic_toggle": False,
        "is_aigc": True,
    }


def test_an_inbox_upload_sends_nothing_that_it_would_ignore(stage: Stage[TikTokSimulator, TikTok]) -> None:
    """postiz#1728, #1749"""
    stage.open(options={"inbox": True})
    InboxUpload.model_validate(sent(stage, "/inbox/video/init/"))
    assert isinstance(stage.commit(), Accepted)
    assert stage.look() == InInbox()
    assert stage.posted() == []


def test_that_somebody_paid_for_it_is_said(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.open(options={**CHOSEN, "brand_content": True, "brand_organic": True})
    info = DirectPost.model_validate(sent(stage, "/video/init/")).post_info
    assert (info.brand_content_toggle, info.brand_organic_toggle) == (True, True)


def test_without_a_choice_of_privacy_nothing_is_sent(stage: Stage[TikTokSimulator, TikTok]) -> None:
    """postiz#1362"""
    with pytest.raises(PostRefused, match="choose the privacy"):
        stage.open(options={})
    assert stage.simulator.received == []


def test_what_an_account_may_do(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.simulator.private.add(ADA)
    stage.simulator.closed.add("duet")
    limits = stage.client.limits(stage.credential)
    assert limits.max_seconds == 600
    assert limits.settings == {
        "privacy_options": ["MUTUAL_FOLLOW_FRIENDS", "FOLLOWER_OF_CREATOR", "SELF_ONLY"],
        "comment_disabled": False,
        "duet_disabled": True,
        "stitch_disabled": False,
    }


# --- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (1, (1, 1)),
        (5 * MB - 1, (5 * MB - 1, 1)),
        (64 * MB, (64 * MB, 1)),
        (64 * MB + 1, (10 * MB, 6)),
        (69_999_999, (10 * MB, 6)),
        (4000 * MB, (10 * MB, 400)),
    ],
)
def test_chunks_are_of_the_sizes_that_tiktok_takes(size: int, chunks: tuple[int, int]) -> None:
    assert chunks_of(size) == chunks
    chunk, count = chunks
    assert chunk <= 64 * MB
    assert count == 1 or chunk >= 5 * MB
    assert 0 < size - chunk * (count - 1) <= 128 * MB


@pytest.fixture
def large(stage: Stage[TikTokSimulator, TikTok]) -> Stage[TikTokSimulator, TikTok]:
    """The video has three chunks, of which the last is the longest."""
    stage.data = MEDIA * (17_500_001 // len(MEDIA)) + MEDIA[: 17_500_001 % len(MEDIA)]
    stage.video = a_video(stage.data)
    return stage


def opened_in_chunks(stage: Stage[TikTokSimulator, TikTok]) -> None:
    """Open an upload in chunks of 5 MB, as a video of more than 64 MB is."""
    stage.open()
    upload = stage.simulator.uploads[str(stage.handle.public["publish_id"])]
    upload.chunk = 5 * MB
    stage.handle = replace(stage.handle, public={**stage.handle.public, "chunk_size": 5 * MB})


def test_all_chunks_but_the_last_are_sent_while_it_is_made_ready(large: Stage[TikTokSimulator, TikTok]) -> None:
    opened_in_chunks(large)
    large.ready()
    assert large.simulator.received == ["init", "status", "upload", "upload"]
    assert large.posted() == []
    assert isinstance(large.commit(), Accepted)
    assert large.simulator.received.count("upload") == 3
    assert large.posted() == [large.sha256]
    ranges = [each.headers["content-range"] for each in large.simulator.server.requests if each.method == "PUT"]
    assert ranges == [
        "bytes 0-4999999/17500001",
        "bytes 5000000-9999999/17500001",
        "bytes 10000000-17500000/17500001",
    ]


@pytest.mark.parametrize("fault", ["500 before", "500 after", "hang-up before", "hang-up after"])
def test_a_chunk_that_is_lost_is_sent_again_from_where_tiktok_is(
    large: Stage[TikTokSimulator, TikTok], fault: Fault
) -> None:
    opened_in_chunks(large)
    large.simulator.fault("upload", fault)
    with pytest.raises(Unavailable):
        large.ready()
    large.ready()
    assert large.simulator.received.count("upload") == 3 - fault.endswith("after")
    assert isinstance(large.commit(), Accepted)
    assert large.posted() == [large.sha256]


def test_a_chunk_that_tiktok_has_already_is_refused_and_the_post_is_there(
    large: Stage[TikTokSimulator, TikTok],
) -> None:
    large.simulator.refuses_repeats = True
    opened_in_chunks(large)
    large.ready()
    large.simulator.fault("upload", "hang-up after")
    assert isinstance(large.commit(), Unknown)
    assert large.commit() == Unknown("the answer is 400")
    assert isinstance(large.look(), Published)
    assert large.posted() == [large.sha256]


def test_an_address_that_expires_before_the_last_chunk_is_a_lost_handle(large: Stage[TikTokSimulator, TikTok]) -> None:
    large.simulator.misbehave("address expires")
    opened_in_chunks(large)
    with pytest.raises(HandleLost):
        large.ready()


@pytest.mark.parametrize("cut", [0, 1, 4096, 5000, len(MEDIA) - 1])
def test_a_video_that_is_cut_at_any_byte_is_posted_once_and_whole(
    stage: Stage[TikTokSimulator, TikTok], cut: int
) -> None:
    """google-api-python-client#122, yt#192"""
    stage.open()
    assert isinstance(stage.commit(video=a_video(MEDIA, cut=cut)), Unknown)
    until(lambda: "upload" in stage.simulator.received, "the part of the upload")
    assert stage.posted() == []
    seen = stage.look()
    assert isinstance(seen, Unfinished)
    assert seen.start == 0  # the one chunk begins anew
    assert isinstance(stage.commit(start=seen.start), Accepted)
    assert stage.posted() == [stage.sha256]


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_the_last_chunk_with_every_fault(stage: Stage[TikTokSimulator, TikTok], fault: Fault) -> None:
    stage.open()
    stage.simulator.fault("upload", fault)
    done = stage.commit()
    assert stage.simulator.received.count("upload") == 1
    if fault == "429":
        assert isinstance(done, Refused)
        assert isinstance(done.error, HeldOff)
    else:
        assert isinstance(done, Unknown)
    seen = stage.look()
    if fault in NOT_ACTED:
        assert isinstance(seen, Unfinished)
        assert isinstance(stage.commit(start=seen.start), Accepted)
        seen = stage.look()
    assert isinstance(seen, Published)
    assert stage.posted() == [stage.sha256]


def reads(stage: Stage[TikTokSimulator, TikTok]) -> dict[str, Callable[[], Any]]:
    return {
        "creator_info": lambda: stage.client.limits(stage.credential),
        "init": stage.open,
        "inbox_init": lambda: stage.open(options={"inbox": True}),
        "list": lambda: stage.client.recent(stage.credential, stage.now()),
        "query": lambda: stage.client.permalink(stage.credential, "1"),
    }


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["creator_info", "init", "inbox_init", "list", "query"])
def test_what_can_be_asked_again_says_so(stage: Stage[TikTokSimulator, TikTok], call: str, fault: Fault) -> None:
    stage.simulator.fault(call, fault)
    act = reads(stage)[call]
    if fault == "delivered twice":
        act()
    else:
        kind = {"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable)
        with pytest.raises(kind) as raised:
            act()
        assert not isinstance(raised.value, NotSent)
    assert stage.simulator.received == [call]
    assert stage.posted() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_look_with_every_fault_opens_nothing_and_ends_nothing(
    stage: Stage[TikTokSimulator, TikTok], fault: Fault
) -> None:
    """postiz#1682, #1741: the token expires while the status is polled."""
    stage.open()
    stage.commit()
    stage.simulator.fault("status", fault)
    if fault in ("429", "expired"):
        with pytest.raises(HeldOff if fault == "429" else TokenExpired):
            stage.look()
        stage.refreshed()
    elif fault != "delivered twice":
        assert isinstance(stage.look(), CannotTell)
    assert isinstance(stage.look(), Published)
    assert stage.simulator.received.count("init") == 1
    assert stage.posted() == [stage.sha256]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refresh_with_every_fault_disconnects_nobody(stage: Stage[TikTokSimulator, TikTok], fault: Fault) -> None:
    """postiz#1822"""
    grant = stage.exchanged(stage.authorized(CHALLENGE))
    stage.simulator.fault("token", fault)
    if fault == "delivered twice":  # the second delivery finds the token used
        with pytest.raises(AccountRevoked):
            stage.client.refresh(stage.app, grant, "")
        return
    with pytest.raises(Unavailable) as raised:
        stage.client.refresh(stage.app, grant, "")
    assert not isinstance(raised.value, NotSent)
    if fault in NOT_ACTED:
        assert stage.client.refresh(stage.app, grant, "").refresh_token
    else:
        with pytest.raises(AccountRevoked):
            stage.client.refresh(stage.app, grant, "")


def test_where_nobody_listens_nothing_was_sent(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.open()
    stage.simulator.server.__exit__(None, None, None)
    done = stage.commit()
    assert isinstance(done, Refused)
    assert isinstance(done.error, NotSent)


@pytest.mark.parametrize("kind", [InterruptedError, Unavailable, NotSent])
def test_what_watch_raises_is_raised(kind: type[Exception], stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.open()

    def stop(_: float) -> None:
        raise kind("no more")

    with pytest.raises(kind, match="no more"):
        stage.commit(watch=stop)
    assert stage.posted() == []
    assert isinstance(stage.look(), Unfinished)


# --- tricks ----------------------------------------------------------------------------------------------------------


def committed(stage: Stage[TikTokSimulator, TikTok], trick: Trick) -> Any:
    stage.simulator.misbehave(trick)
    stage.open()
    stage.commit()
    return stage.look()


@pytest.mark.parametrize(
    ("trick", "error"),
    [
        ("fails its check", PostRefused),
        ("fails for its text", PostRefused),
        ("fails internally", None),
    ],
)
def test_a_failure_is_proof_that_there_is_no_post(
    stage: Stage[TikTokSimulator, TikTok], trick: Trick, error: type[ViralError] | None
) -> None:
    seen = committed(stage, trick)
    assert isinstance(seen, Absent)
    assert isinstance(seen.error, error) if error else seen.error is None
    assert stage.posted() == []


def test_an_account_that_took_our_access_away_says_so(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.simulator.misbehave("fails as revoked")
    stage.open()
    stage.commit()
    with pytest.raises(TokenExpired):
        stage.look()
    stage.simulator.accounts[ADA].revoked = False
    stage.refreshed()
    seen = stage.look()
    assert isinstance(seen, Absent)
    assert isinstance(seen.error, AccountRevoked)


def test_an_id_that_comes_hours_later_is_exact(stage: Stage[TikTokSimulator, TikTok]) -> None:
    """postiz#1470, #2007"""
    assert committed(stage, "id is late") == Published(None)
    stage.later(timedelta(hours=7))
    stage.refreshed()
    [post] = stage.simulator.posts
    assert stage.look() == Published(post.id)
    assert int(float(post.id)) != int(post.id)


def test_a_private_post_has_no_id(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.open(options={"privacy_level": "SELF_ONLY"})
    stage.commit()
    assert stage.look() == Published(None)
    assert stage.simulator.posts[0].private


def test_of_several_ids_the_first_is_bound_and_the_others_are_named(stage: Stage[TikTokSimulator, TikTok]) -> None:
    """AiToEarn#586"""
    seen = committed(stage, "several ids")
    assert seen == Published(stage.simulator.posts[0].id, others=("7399000000000000001",))


@pytest.mark.parametrize("trick", ["forgotten", "forgotten before"])
def test_a_forgotten_id_proves_nothing(stage: Stage[TikTokSimulator, TikTok], trick: Trick) -> None:
    assert committed(stage, trick) == CannotTell(
        "TikTok says invalid_publish_id: The publish_id does not exist.", lost=True
    )


def test_an_address_that_expired_with_less_than_all_is_proof_only_later(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.simulator.misbehave("address expires")
    stage.open()
    assert isinstance(stage.commit(), Unknown)
    assert isinstance(stage.look(), Unfinished)
    stage.later(timedelta(hours=1, minutes=6))
    assert isinstance(stage.look(), Absent)
    assert stage.posted() == []


def test_a_look_before_another_commit_keeps_a_careless_tiktok_at_one_post(
    stage: Stage[TikTokSimulator, TikTok],
) -> None:
    stage.simulator.misbehave("accepts repeats")
    stage.open()
    stage.simulator.fault("upload", "hang-up after")
    assert isinstance(stage.commit(), Unknown)
    assert isinstance(stage.look(), Published)
    stage.commit()  # what must not be done: the simulator shows it
    assert len(stage.posted()) == 2


# --- error codes -----------------------------------------------------------------------------------------------------


def test_a_cap_of_the_app_closes_it_for_all_accounts(stage: Stage[TikTokSimulator, TikTok]) -> None:
    """postiz#1854"""
    stage.simulator.active_users = 0
    for act in (stage.open, lambda: stage.client.limits(stage.credential)):
        with pytest.raises(HeldOff) as raised:
            act()
        assert (raised.value.code, raised.value.whole_app) == ("reached_active_user_cap", True)


def test_a_cap_of_the_account_is_the_accounts(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.simulator.daily_posts = 0
    with pytest.raises(HeldOff) as raised:
        stage.open()
    assert (raised.value.code, raised.value.whole_app) == ("spam_risk_too_many_posts", False)
    assert raised.value.retry_after == timedelta(days=1)


def test_an_app_without_audit_posts_to_private_accounts_only(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.simulator.audited = False
    with pytest.raises(PostRefused, match="not audited") as raised:
        stage.open()
    assert raised.value.code == "unaudited_client_can_only_post_to_private_accounts"
    stage.simulator.private.add(ADA)
    stage.open(options={"privacy_level": "SELF_ONLY"})


def test_a_privacy_that_the_account_does_not_offer_is_refused(stage: Stage[TikTokSimulator, TikTok]) -> None:
    with pytest.raises(PostRefused) as raised:
        stage.open(options={"privacy_level": "FOLLOWER_OF_CREATOR"})
    assert raised.value.code == "privacy_level_option_mismatch"


def test_its_rates_are_those_of_the_token(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.simulator.keeps_rates = True
    for _ in range(6):
        stage.open()
    with pytest.raises(HeldOff) as raised:
        stage.open()
    assert (raised.value.code, raised.value.retry_after) == ("rate_limit_exceeded", timedelta(minutes=1))


def test_a_token_of_two_hours_expires(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.later(timedelta(hours=2, minutes=1))
    with pytest.raises(TokenExpired):
        stage.open()


# --- the account's list ----------------------------------------------------------------------------------------------


def test_the_list_shows_public_posts_and_proves_nothing(stage: Stage[TikTokSimulator, TikTok]) -> None:
    began = stage.now()
    for n in range(25):
        stage.simulator.post_elsewhere(ADA, f"{n} " + "x" * 200, before=30 * n)
    stage.simulator.post_elsewhere(ADA, "old", before=9000)
    stage.open(options={"privacy_level": "SELF_ONLY"})
    stage.commit()
    listing = stage.client.recent(stage.credential, began - timedelta(hours=1))
    assert not listing.complete
    assert [seen.text[:2].strip() for seen in listing.posts] == [str(n) for n in range(25)]
    assert all(seen.cut and len(seen.text) == 150 for seen in listing.posts)


def test_an_address_tells_nothing_of_who_asked(stage: Stage[TikTokSimulator, TikTok]) -> None:
    seen = committed(stage, "id is late")
    assert seen == Published(None)
    stage.later(timedelta(hours=7))
    stage.refreshed()
    [post] = stage.simulator.posts
    address = f"https://www.tiktok.com/@ada/video/{post.id}"
    assert stage.client.permalink(stage.credential, post.id) == address
    assert stage.client.permalink(stage.credential, "1") is None
    assert stage.client.comment(stage.credential, post.id, "first", "key") is None


# --- login -----------------------------------------------------------------------------------------------------------


def test_an_account_is_connected_refreshed_and_let_go(stage: Stage[TikTokSimulator, TikTok]) -> None:
    grant = stage.exchanged(stage.authorized(CHALLENGE))
    assert (grant.external_id, grant.username, grant.scopes) == (ADA, "ada", tiktok.SCOPES)
    assert grant.access_expires_at is not None
    assert abs(grant.access_expires_at - stage.now() - timedelta(hours=2)) < timedelta(minutes=1)
    fresh = stage.client.refresh(stage.app, grant, "")
    assert fresh.refresh_token not in ("", grant.refresh_token)
    assert grant.refresh_token in stage.simulator.accounts[ADA].used_refresh_tokens
    with pytest.raises(AccountRevoked):
        stage.client.refresh(stage.app, grant, "")
    stage.client.revoke(stage.app, fresh, "")
    with pytest.raises(TokenExpired):
        stage.client.limits(replace(stage.credential, access_token=fresh.access_token))


def test_a_code_opens_nothing_twice_or_without_its_verifier(stage: Stage[TikTokSimulator, TikTok]) -> None:
    code = stage.authorized(CHALLENGE)
    with pytest.raises(AccountRevoked):
        stage.exchanged(code, "w" * 64)
    with pytest.raises(AccountRevoked):
        stage.exchanged(code)


def test_an_app_that_is_not_registered_disconnects_nobody(stage: Stage[TikTokSimulator, TikTok]) -> None:
    grant = stage.exchanged(stage.authorized(CHALLENGE))
    with pytest.raises(NotSetUp, match="TIKTOK_CLIENT_KEY"):
        stage.client.refresh(replace(stage.app, client_secret="wrong"), grant, "")


def test_a_name_that_is_not_told_loses_no_grant(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.simulator.fault("user", "500 before")
    assert stage.exchanged(stage.authorized(CHALLENGE)).username == ""


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_no_secret_is_in_a_text(stage: Stage[TikTokSimulator, TikTok], fault: Fault) -> None:
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
    for call in ("creator_info", "init", "inbox_init", "list", "query", "upload", "status", "token", "user"):
        stage.simulator.fault(call, fault)
    for act in acts:
        with suppress(StopIteration):
            try:
                texts.append(repr(act()))
            except ViralError as error:
                texts.append(f"{error!r} {error.__cause__!r}")
    for secret in [*stage.secrets(), grant.refresh_token, "a-code-of-nobody"]:
        assert not [text for text in texts if secret in text]


def test_an_address_of_somebody_else_is_sent_nothing(stage: Stage[TikTokSimulator, TikTok]) -> None:
    stage.open()
    for address in ("http://127.0.0.1:9/video/", "https://127.0.0.1/video/", "https://localhost/", "ftp://x/", ""):
        stage.handle = replace(stage.handle, secrets={"upload_url": address})
        done = stage.commit()
        assert isinstance(done, Refused)
        assert isinstance(done.error, NotSent)
