"""Posts while they are people's to plan: all or none, one of a video on an account, whoever else is at it."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from domain.errors import Conflict, PostInvalid, Rejected, UnknownAccount, UnknownPost, UnknownVideo, ViralError
from domain.posting.accounts import Grant, SealedTokens
from domain.posting.limits import limits_row
from domain.posting.publishing import AccountLimits
from domain.posting.schedule import SPACING, TURN
from tests.builders import a_tenant
from tests.web.api.test_generations import a_generation
from workers.app import App
from workers.jobs.post_plans import SUGGESTED, ForAccount, PostRequest
from workers.ops import posts

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PROBE = {
    "bytes": 50_000,
    "container": "mp4",
    "seconds": 12.0,
    "width": 1080,
    "height": 1920,
    "video_codec": "h264",
    "pixel_format": "yuv420p",
    "fps": 30.0,
    "constant_rate": True,
    "rotation": 0,
    "video_streams": 1,
    "audio_streams": 1,
    "audio_codec": "aac",
}
CONCEPT: dict[str, Any] = {
    "id": "c1",
    "title": "Why <everyone> bakes at midnight",
    "caption": "Bread does not sleep.",
    "hashtags": ["#bread", "#night", "#oven", "#rye", "#wheat", "#flour", "#yeast"],
    "postTime": {"utc": "2026-11-28T17:00:00+00:00"},
    "platformVirality": {"tiktok": {"score": 71}, "youtubeShorts": {"score": 64}},
    "script": [],
}


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOW)


class Tenant:
    """Somebody with videos and accounts."""

    def __init__(self, app: App, **columns: Any) -> None:
        self._app = app
        self.id = a_tenant(app, **columns)

    def account(self, platform: str = "mastodon", *, settings: dict[str, Any] | None = None, **columns: Any) -> UUID:
        account_id, name = uuid4(), f"ada-{uuid4().hex[:6]}"
        with self._app.db.transaction(self.id) as tx:
            grant, tokens = Grant("opens", external_id=name, username=name), SealedTokens(b"sealed", None)
            row = tx.social_accounts.connect(account_id, self.id, platform, grant=grant, tokens=tokens, now=NOW)
            if settings is not None:
                tx.social_accounts.change(self.id, row["id"], settings=settings)
            for name, value in columns.items():
                tx.driver.execute(f"UPDATE social_accounts SET {name} = %s WHERE id = %s", (value, row["id"]))
        found: UUID = row["id"]
        return found

    def video(self, *, concept: bool = False, status: str = "completed", media_id: UUID | None = None) -> UUID:
        video_id = uuid4()
        generation = a_generation(self._app, self.id, concepts=[CONCEPT]).id if concept else None
        with self._app.db.transaction(self.id) as tx:
            if media_id is None and status == "completed":
                media_id = uuid4()
                tx.driver.execute(
                    "INSERT INTO media (id, tenant_id, kind, sha256, bytes, extension, stored_at, probe)"
                    " VALUES (%s, %s, 'video', %s, 50000, 'mp4', now(), '{}')",
                    (media_id, self.id, media_id.bytes * 2),
                )
            tx.driver.execute(
                "INSERT INTO videos (id, tenant_id, status, source, title, generation_id, concept_id, media_id,"
                " details) VALUES (%s, %s, %s, %s, 'A fox', %s, %s, %s, jsonb_build_object('probe', %s::jsonb))",
                (
                    *(video_id, self.id, status, "concept" if concept else "own", generation),
                    *("c1" if concept else None, media_id, json.dumps(PROBE)),
                ),
            )
        return video_id

    def media_of(self, video_id: UUID) -> UUID:
        with self._app.db.transaction(self.id) as tx:
            row = tx.videos.get(self.id, video_id)
        assert row is not None
        media_id: UUID = row["media_id"]
        return media_id

    def create(self, video_id: UUID, *accounts: UUID, key: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        fields = {"caption": "A fox in the snow"} | fields
        request = PostRequest(video_id, [ForAccount(each) for each in accounts], **fields)
        return posts.create(self._app, self.id, request, key)

    def one(self, **fields: Any) -> dict[str, Any]:
        [post] = self.create(self.video(), self.account(), **{"at": NOW + HOUR} | fields)
        return post

    def set_status(self, post_id: UUID, status: str) -> None:
        with self._app.db.transaction(self.id) as tx:
            tx.driver.execute("UPDATE social_posts SET status = %s WHERE id = %s", (status, post_id))


@pytest.fixture
def ada(app: App) -> Tenant:
    return Tenant(app)


def kinds(app: App, tenant: Tenant, post_id: UUID) -> list[str]:
    with app.db.transaction(tenant.id) as tx:
        return [event["kind"] for event in tx.planned_posts.events(tenant.id, post_id)]


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Let so many threads do it at once; what one raised is its result."""

    def done(number: int) -> Any:
        try:
            return act(number)
        except ViralError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(done, range(count)))


# --- all or none ------------------------------------------------------------------------------------------------


def test_one_request_schedules_a_video_on_several_accounts(app: App, ada: Tenant) -> None:
    masto, sky = ada.account("mastodon"), ada.account("bluesky")
    made = ada.create(ada.video(), sky, masto, at=NOW + HOUR)
    assert [(post["account_id"], post["platform"]) for post in made] == [(sky, "bluesky"), (masto, "mastodon")]
    assert {(post["status"], post["scheduled_for"]) for post in made} == {("scheduled", NOW + HOUR)}
    assert len({post["group_id"] for post in made}) == 1
    assert [kinds(app, ada, post["id"]) for post in made] == [["asked"], ["asked"]]


def test_what_is_wrong_on_one_account_keeps_all_from_being_scheduled(app: App, ada: Tenant) -> None:
    masto, sky = ada.account("mastodon"), ada.account("bluesky")
    with pytest.raises(PostInvalid, match=r"has 400 .*at most 300: shorten it by 100") as refused:
        ada.create(ada.video(), masto, sky, caption="x" * 400)
    assert refused.value.details is not None
    assert list(refused.value.details) == [str(sky)]
    assert posts.listed(app, ada.id).posts == []


def test_a_check_shows_what_would_be_posted_and_writes_nothing(app: App, ada: Tenant) -> None:
    tiktok, sky = ada.account("tiktok"), ada.account("bluesky")
    request = PostRequest(ada.video(concept=True), [ForAccount(tiktok), ForAccount(sky)], at=NOW - HOUR)
    first, second = posts.check(app, ada.id, request)
    assert any("has passed" in fault for fault in first.faults)
    assert any("privacy_level was not chosen" in fault for fault in first.faults)
    assert (first.preview.ai_label, second.preview.ai_label, second.preview.ai_words is None) == (
        "is_aigc",
        None,
        False,
    )
    assert posts.listed(app, ada.id).posts == []


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param({"account": "another's"}, UnknownAccount, id="an account of another tenant"),
        pytest.param({"video": "another's"}, UnknownVideo, id="a video of another tenant"),
        pytest.param({"account": "none"}, Rejected, id="no account"),
        pytest.param({"account": "twice"}, Rejected, id="an account twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(app: App, ada: Tenant, fields: dict[str, str], error: type[Exception]) -> None:
    bob, own = Tenant(app), ada.account()
    accounts = {"another's": [bob.account()], "none": [], "twice": [own, own]}.get(fields.get("account", ""), [own])
    video_id = bob.video() if fields.get("video") else ada.video()
    with pytest.raises(error):
        ada.create(video_id, *accounts)
    assert posts.listed(app, None).posts == []


def test_what_is_due_now_is_claimed_at_once_and_not_with_the_next_minute(app: App, ada: Tenant) -> None:
    def jobs() -> list[Any]:
        with app.db.transaction(SYSTEM) as tx:
            return tx.driver.execute("SELECT job_type, status FROM job_queue").fetchall()

    post = ada.one(draft=True)
    ada.one()
    assert jobs() == []
    posts.edit(app, ada.id, post["id"], {"at": None})
    posts.approve(app, ada.id, post["id"])
    ada.one(at=None)
    assert jobs() == [("posting.due", "pending")]


# --- the texts --------------------------------------------------------------------------------------------------


def test_texts_are_the_concepts_as_far_as_nobody_says_others(app: App, ada: Tenant) -> None:
    insta, tube = ada.account("instagram-reels"), ada.account("youtube-shorts", settings={"privacy": "unlisted"})
    made = {
        post["account_id"]: post
        for post in posts.create(
            app, ada.id, PostRequest(ada.video(concept=True), [ForAccount(insta), ForAccount(tube)])
        )
    }
    assert {post["caption"] for post in made.values()} == {"Bread does not sleep."}
    assert made[tube]["title"] == "Why everyone bakes at midnight"
    assert made[tube]["options"]["privacy"] == "unlisted"
    assert [len(made[each]["hashtags"]) for each in (insta, tube)] == [5, 7]


def test_an_accounts_own_text_comes_before_the_one_for_all(app: App, ada: Tenant) -> None:
    one, other = ada.account(), ada.account()
    accounts = [ForAccount(one, caption="Only here"), ForAccount(other)]
    made = posts.create(app, ada.id, PostRequest(ada.video(), accounts, caption="For all"))
    assert [post["caption"] for post in made] == ["Only here", "For all"]


def test_what_a_platform_does_not_take_is_left_out_with_a_hint_or_refused_where_it_was_meant(
    app: App, ada: Tenant
) -> None:
    masto = ada.account("mastodon")
    request = PostRequest(ada.video(), [ForAccount(masto)], caption="A fox", title="For YouTube", cover_at=1.0)
    [planned] = posts.check(app, ada.id, request)
    assert planned.faults == []
    assert [hint for hint in planned.hints if "left out" in hint] == [
        "Mastodon takes no title: it is left out there",
        "Mastodon takes no time for the cover: it is left out there",
    ]
    meant = replace(request, title=None, cover_at=None, accounts=[ForAccount(masto, title="For Mastodon")])
    [planned] = posts.check(app, ada.id, meant)
    assert "Mastodon has no titles" in planned.faults[0]


# --- one video on one account -----------------------------------------------------------------------------------


def test_of_many_who_ask_for_the_same_post_one_gets_it(app: App, ada: Tenant) -> None:
    video_id, account_id = ada.video(), ada.account()
    results = at_once(16, lambda _: ada.create(video_id, account_id, at=NOW + HOUR))
    assert Counter(type(each).__name__ for each in results) == {"list": 1, "PostInvalid": 15}
    assert len(posts.listed(app, ada.id).posts) == 1


def test_requests_for_the_same_accounts_in_any_order_end_well(app: App, ada: Tenant) -> None:
    video_id, accounts = ada.video(), [ada.account() for _ in range(3)]
    orders = [accounts, accounts[::-1]] * 8
    results = at_once(16, lambda number: ada.create(video_id, *orders[number], at=NOW + HOUR))
    assert Counter(type(each).__name__ for each in results) == {"list": 1, "PostInvalid": 15}
    assert len(posts.listed(app, ada.id).posts) == 3


def test_the_same_file_by_two_videos_is_one_post_too(app: App, ada: Tenant) -> None:
    first, account_id = ada.video(), ada.account()
    twins = [first, *(ada.video(media_id=ada.media_of(first)) for _ in range(7))]
    results = at_once(8, lambda number: ada.create(twins[number], account_id, at=NOW + HOUR))
    assert Counter(type(each).__name__ for each in results) == {"list": 1, "PostInvalid": 7}


@pytest.mark.parametrize("status", ["failed", "missed", "cancelled"])
def test_a_video_whose_post_became_none_may_be_posted_again(app: App, ada: Tenant, status: str) -> None:
    video_id, account_id = ada.video(), ada.account()
    [first] = ada.create(video_id, account_id, at=NOW + HOUR)
    ada.set_status(first["id"], status)
    [second] = ada.create(video_id, account_id, at=NOW + HOUR)
    assert (first["attempt_group"], second["attempt_group"]) == (1, 2)
    with pytest.raises((Conflict, PostInvalid)):
        posts.retry(app, ada.id, first["id"])


def test_a_key_brings_back_the_posts_of_its_first_request(app: App, ada: Tenant) -> None:
    video_id, accounts = ada.video(), [ada.account(), ada.account()]
    results = at_once(8, lambda _: ada.create(video_id, *accounts, key="k1", at=NOW + HOUR))
    assert len({tuple(post["id"] for post in made) for made in results}) == 1
    with pytest.raises(Conflict, match="send a new one"):
        ada.create(video_id, *accounts, key="k1", caption="Another text", at=NOW + HOUR)


# --- suggested times --------------------------------------------------------------------------------------------


def test_a_suggested_time_is_the_concepts_and_then_the_next_free_place(app: App, ada: Tenant) -> None:
    account_id = ada.account()
    made = [ada.create(ada.video(concept=True), account_id, at=SUGGESTED)[0] for _ in range(3)]
    times = [post["scheduled_for"] for post in made]
    assert times[0] == datetime(2026, 11, 28, 17, tzinfo=UTC)
    assert all(later - earlier >= SPACING for earlier, later in pairwise(times))


def test_many_who_ask_for_suggested_times_get_places_of_their_own(app: App, ada: Tenant) -> None:
    account_id, videos = ada.account(), [ada.video(concept=True) for _ in range(8)]
    made = at_once(8, lambda number: ada.create(videos[number], account_id, at=SUGGESTED)[0])
    times = sorted(post["scheduled_for"] for post in made)
    assert all(later - earlier >= SPACING for earlier, later in pairwise(times))


def test_the_accounts_own_limit_counts_for_suggested_times(app: App, ada: Tenant) -> None:
    account_id = ada.account(daily_limit=1)
    first, second = (ada.create(ada.video(), account_id, at=SUGGESTED)[0]["scheduled_for"] for _ in range(2))
    assert second - first >= timedelta(days=1)


def test_a_usual_hour_is_one_of_the_tenants_zone(app: App) -> None:
    ada = Tenant(app, timezone="Asia/Tokyo")
    [planned] = posts.check(
        app, ada.id, PostRequest(ada.video(), [ForAccount(ada.account())], caption="x", at=SUGGESTED)
    )
    assert planned.at_reason is not None
    assert "Asia/Tokyo" in planned.at_reason


# --- changing ---------------------------------------------------------------------------------------------------


def test_what_is_changed_is_checked_as_a_new_one_is(app: App, ada: Tenant) -> None:
    post = ada.one()
    changed = posts.edit(app, ada.id, post["id"], {"caption": "Another", "at": NOW + 2 * HOUR})
    assert (changed["caption"], changed["scheduled_for"]) == ("Another", NOW + 2 * HOUR)
    with pytest.raises(PostInvalid, match="at most 500"):
        posts.edit(app, ada.id, post["id"], {"caption": "x" * 501})
    assert posts.show(app, ada.id, post["id"])["caption"] == "Another"
    assert kinds(app, ada, post["id"]) == ["asked", "changed"]


def test_a_post_may_be_planned_and_changed_while_its_video_is_made(app: App, ada: Tenant) -> None:
    [post] = ada.create(ada.video(status="rendering"), ada.account(), at=NOW + HOUR)
    assert posts.edit(app, ada.id, post["id"], {"caption": "Another"})["caption"] == "Another"
    with pytest.raises(PostInvalid, match="the video is rendering: wait"):
        ada.create(ada.video(status="rendering"), ada.account())


def test_a_missed_post_is_scheduled_by_its_new_time_only(app: App, ada: Tenant) -> None:
    post = ada.one()
    ada.set_status(post["id"], "missed")
    assert posts.edit(app, ada.id, post["id"], {"caption": "Another"})["status"] == "missed"
    assert posts.edit(app, ada.id, post["id"], {"at": NOW + 3 * HOUR})["status"] == "scheduled"


@pytest.mark.parametrize("act", ["edit", "cancel"])
def test_a_change_and_a_claim_that_race_have_one_winner(app: App, ada: Tenant, act: str) -> None:
    ids = [ada.one(at=NOW)["id"] for _ in range(8)]

    def race(number: int) -> Any:
        if number == 0:
            with app.db.transaction(SYSTEM) as tx:
                now = NOW + HOUR / 2
                return tx.posts.claim(now=now, last_turn=now - TURN, look_after=NOW + HOUR, limit=100)
        post_id = ids[number - 1]
        if act == "edit":
            return posts.edit(app, ada.id, post_id, {"caption": "Another", "at": NOW + 2 * HOUR})
        return posts.cancel(app, ada.id, post_id)

    claimed, *results = at_once(9, race)
    assert not isinstance(claimed, ViralError)
    taken = {post_id for _, post_id in claimed}
    for post_id, result in zip(ids, results, strict=True):
        post = posts.show(app, ada.id, post_id)
        if post_id in taken:
            assert isinstance(result, Conflict)
            assert (post["status"], post["caption"]) == ("claimed", "A fox in the snow")
        else:
            assert not isinstance(result, ViralError)
            assert post["status"] == {"edit": "scheduled", "cancel": "cancelled"}[act]


@pytest.mark.parametrize("status", ["claimed", "submitting", "published", "unconfirmed", "failed"])
def test_what_is_not_the_tenants_any_more_is_not_changed(app: App, ada: Tenant, status: str) -> None:
    post_id = ada.one()["id"]
    ada.set_status(post_id, status)
    for act in (lambda: posts.edit(app, ada.id, post_id, {"caption": "x"}), lambda: posts.cancel(app, ada.id, post_id)):
        with pytest.raises(Conflict, match="cannot be"):
            act()
    assert kinds(app, ada, post_id) == ["asked"]


def test_a_post_of_another_tenant_is_none(app: App, ada: Tenant) -> None:
    post_id, bob = ada.one()["id"], Tenant(app)
    for act in (posts.show, posts.approve, posts.cancel, posts.retry):
        with pytest.raises(UnknownPost):
            act(app, bob.id, post_id)


# --- approving --------------------------------------------------------------------------------------------------


def test_what_has_to_be_approved_is_scheduled_once_somebody_did(app: App, ada: Tenant) -> None:
    posts.set_policy(app, ada.id, needs_approval=True)
    post = ada.one()
    assert post["status"] == "needs_approval"
    results = at_once(8, lambda _: posts.approve(app, ada.id, post["id"]))
    assert Counter(getattr(each, "code", None) for each in results if isinstance(each, Conflict)) == {"NOT_WAITING": 7}
    shown = posts.show(app, ada.id, post["id"])
    assert (shown["status"], shown["approved_at"]) == ("scheduled", NOW)
    assert kinds(app, ada, post["id"]) == ["asked", "approved"]


def test_a_draft_waits_until_it_is_approved_and_is_posted_now_if_its_time_has_passed(app: App, ada: Tenant) -> None:
    post = ada.one(draft=True)
    assert post["status"] == "draft"
    later = replace(app, clock=lambda: NOW + 2 * HOUR)
    approved = posts.approve(later, ada.id, post["id"])
    assert (approved["status"], approved["scheduled_for"]) == ("scheduled", NOW + 2 * HOUR)


# --- once more --------------------------------------------------------------------------------------------------


def test_one_account_is_tried_again_and_not_those_that_have_it(app: App, ada: Tenant) -> None:
    accounts = [ada.account() for _ in range(3)]
    made = ada.create(ada.video(), *accounts, at=NOW + HOUR)
    for post, status in zip(made, ("published", "failed", "unconfirmed"), strict=True):
        ada.set_status(post["id"], status)
    assert posts.retry(app, ada.id, made[1]["id"])["status"] == "scheduled"
    for post, why in ((made[0], "is published"), (made[2], "nobody knows yet whether it appeared")):
        with pytest.raises(Conflict, match=why):
            posts.retry(app, ada.id, post["id"])
    assert [posts.show(app, ada.id, post["id"])["status"] for post in made] == ["published", "scheduled", "unconfirmed"]


def test_of_many_who_try_it_again_one_does(app: App, ada: Tenant) -> None:
    post = ada.one()
    ada.set_status(post["id"], "failed")
    results = at_once(16, lambda _: posts.retry(app, ada.id, post["id"]))
    assert Counter(isinstance(each, Conflict) for each in results) == {False: 1, True: 15}
    assert kinds(app, ada, post["id"]) == ["asked", "retried"]


# --- lists, calendar, policy ------------------------------------------------------------------------------------


def test_lists_are_read_page_by_page_and_by_what_is_wanted(app: App, ada: Tenant) -> None:
    account_id = ada.account("bluesky")
    made = [ada.create(ada.video(), account_id, at=NOW + n * HOUR)[0]["id"] for n in range(1, 4)]
    ada.one()
    page = posts.listed(app, ada.id, limit=2, platform="bluesky")
    rest = posts.listed(app, ada.id, limit=2, platform="bluesky", after=page.next)
    assert [post["id"] for post in (*page.posts, *rest.posts)] == made[::-1]
    assert rest.next is None
    assert posts.listed(app, ada.id, status="failed").posts == []


def test_the_calendar_has_what_is_planned_from_one_moment_to_before_another(app: App, ada: Tenant) -> None:
    account_id = ada.account()
    made = [ada.create(ada.video(), account_id, at=NOW + n * HOUR)[0]["id"] for n in (3, 1, 2)]
    found = posts.calendar(app, ada.id, NOW + HOUR, NOW + 3 * HOUR)
    assert [post["id"] for post in found] == [made[1], made[2]]
    for since, until in ((NOW, NOW), (NOW, NOW + timedelta(days=400))):
        with pytest.raises(Rejected):
            posts.calendar(app, ada.id, since, until)


def test_a_policy_changes_as_far_as_it_is_named(app: App, ada: Tenant) -> None:
    assert posts.policy(app, ada.id) == (2 * HOUR, False)
    assert posts.set_policy(app, ada.id, late_after=HOUR) == (HOUR, False)
    assert posts.set_policy(app, ada.id, needs_approval=True) == (HOUR, True)
    with pytest.raises(Rejected, match="10 minutes to 7 days"):
        posts.set_policy(app, ada.id, late_after=timedelta(days=8))


def test_what_the_platform_said_of_the_account_counts(app: App, ada: Tenant) -> None:
    account_id = ada.account()
    with app.db.transaction(ada.id) as tx:
        tx.social_accounts.save_limits(ada.id, account_id, limits_row(AccountLimits(max_characters=1000)), NOW)
    assert ada.create(ada.video(), account_id, caption="x" * 900)[0]["status"] == "scheduled"


def test_what_somebody_has_to_approve_is_approved_as_it_is_posted(app: App, ada: Tenant) -> None:
    """Neither a retry nor a new text gets past the approval."""
    posts.set_policy(app, ada.id, needs_approval=True)
    post = ada.one()
    posts.cancel(app, ada.id, post["id"])
    assert posts.retry(app, ada.id, post["id"])["status"] == "needs_approval"
    assert posts.approve(app, ada.id, post["id"])["status"] == "scheduled"
    later = NOW + timedelta(hours=3)
    assert posts.edit(app, ada.id, post["id"], {"at": later})["status"] == "scheduled"
    changed = posts.edit(app, ada.id, post["id"], {"caption": "Another text"})
    assert (changed["status"], changed["approved_at"]) == ("needs_approval", None)
