"""Imports in any order and by many at once end the same, each tenant's in their own rows."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.concepts.imported import MOST_COMPETITORS, AudioTrend, CompetitorVideo, Kind
from tests.builders import a_tenant
from workers.app import App
from workers.ops import trends
from workers.ops.trends import Imported, ImportRequest

SEEN = datetime(2026, 11, 1, 9, tzinfo=UTC)
SOME = st.none() | st.integers(0, 2)
VIDEOS = st.lists(
    st.builds(
        CompetitorVideo,
        platform=st.sampled_from(["tiktok", "youtube-shorts"]),
        external_id=st.sampled_from(["1", "2"]),
        captured_at=st.sampled_from([SEEN, SEEN + timedelta(microseconds=1)]),
        title=st.sampled_from(["Brot", "brot", "Ä"]),
        channel=st.none() | st.sampled_from(["a", "B"]),
        views=SOME,
        details=st.fixed_dictionaries({}, optional={"likes": st.integers(0, 1)}),
    ),
    max_size=8,
)
SOUNDS = st.lists(
    st.builds(
        AudioTrend,
        platform=st.just("tiktok"),
        external_id=st.sampled_from(["1", "2"]),
        title=st.sampled_from(["Brot", "brot", "Ä"]),
        region=st.just("AA"),
        captured_at=st.sampled_from([SEEN, SEEN + timedelta(microseconds=1)]),
        artist=st.none() | st.sampled_from(["a", "B"]),
        usage_count=SOME,
        rank=st.none() | st.integers(1, 2),
    ),
    max_size=8,
)
KEPT_VIDEOS = """
SELECT platform, external_id, title, channel, views, details, captured_at FROM competitor_videos
WHERE tenant_id = %s ORDER BY platform, external_id
"""
KEPT_SOUNDS = """
SELECT external_id, title, artist, usage_count, rank, captured_at FROM audio_trends
WHERE region = %s ORDER BY external_id, captured_at
"""


def test_captures_in_any_order_and_any_number_of_times_end_the_same(app: App) -> None:
    one, other = a_tenant(app), a_tenant(app)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(VIDEOS, SOUNDS, st.randoms(use_true_random=False))
    def ends_the_same(videos: list[CompetitorVideo], sounds: list[AudioTrend], rng: Random) -> None:
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("DELETE FROM audio_trends; DELETE FROM competitor_videos")
            tx.imported_trends.add_audio(sounds)
            for sound in [*rng.sample(sounds, len(sounds)), *sounds[:2]]:
                tx.imported_trends.add_audio([replace(sound, region="BB")])
            tx.imported_trends.add_competitors(one, videos)
            for video in [*rng.sample(videos, len(videos)), *videos[:2]]:
                tx.imported_trends.add_competitors(other, [video])
            heard = [tx.driver.execute(KEPT_SOUNDS, (region,)).fetchall() for region in ("AA", "BB")]
            seen = [tx.driver.execute(KEPT_VIDEOS, (tenant_id,)).fetchall() for tenant_id in (one, other)]
        assert heard[0] == heard[1]
        assert seen[0] == seen[1]
        assert len(seen[0]) == len({video.key for video in videos})

    ends_the_same()


def a_file(count: int, rng: Random) -> bytes:
    row = {"platform": "tiktok", "capturedAt": SEEN.isoformat()}
    videos = [{**row, "videoId": str(n), "title": f"Video {n}", "views": n} for n in range(count)]
    sounds = [{**row, "soundId": str(n), "soundName": f"Sound {n}"} for n in range(count)]
    file = {"competitors": rng.sample(videos, count), "audio": rng.sample(sounds, count)}
    return json.dumps(file).encode()


def test_many_who_import_the_same_for_one_tenant_at_once_add_it_once(app: App) -> None:
    tenant_id, rng = a_tenant(app), Random(7)
    files = [a_file(120, rng) for _ in range(6)]

    def bring(data: bytes) -> Imported:
        return trends.import_trends(app, ImportRequest(data, tenant_id=tenant_id))

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(bring, files))
    for kind in Kind:
        assert sum(each.counts[kind]["added"] for each in done) == 120
        assert sum(each.counts[kind]["kept"] for each in done) == 5 * 120
    assert len(kept(app, tenant_id)) == 120


def kept(app: App, tenant_id: UUID) -> list[dict[str, Any]]:
    """Return the tenant's competitors' videos, page by page."""
    page = trends.competitors(app, tenant_id, platform=None, after=None, limit=50)
    rows = page.rows
    while page.next is not None:
        page = trends.competitors(app, tenant_id, platform=None, after=page.next, limit=50)
        rows += page.rows
    return rows


def test_a_newer_capture_replaces_an_older_one_and_not_the_other_way(app: App) -> None:
    tenant_id = a_tenant(app)
    old = CompetitorVideo("tiktok", "1", SEEN, "Bread", "Bakers", views=10, details={"likes": 3})
    new = CompetitorVideo("tiktok", "1", SEEN + timedelta(hours=1), "Bread at midnight")
    for video, outcome in ((old, "added"), (new, "replaced"), (old, "kept"), (new, "kept")):
        assert [each for _, each in trends.put_competitors(app, tenant_id, [video])] == [outcome]
    [row] = kept(app, tenant_id)
    assert (row["title"], row["channel"], row["views"], row["details"]) == ("Bread at midnight", None, None, {})


def test_nobody_sees_or_deletes_the_competitors_of_another(app: App) -> None:
    ada, eve = a_tenant(app), a_tenant(app)
    video = CompetitorVideo("tiktok", "1", SEEN, "Bread")
    [(row, _)] = trends.put_competitors(app, ada, [video])
    assert trends.put_competitors(app, eve, [replace(video, views=3)])[0][1] == "added"
    assert not trends.delete_competitor(app, eve, row["id"])
    assert [each["views"] for each in kept(app, ada)] == [None]
    with app.db.transaction(eve) as tx:
        assert tx.imported_trends.recent_competitors(ada, SEEN - timedelta(days=1), SEEN, 10) == ()
        assert tx.imported_trends.competitor(ada, "tiktok", "1") is None


def test_a_tenant_has_so_many_and_no_more(app: App) -> None:
    tenant_id = a_tenant(app)
    with app.db.transaction(tenant_id) as tx:
        tx.driver.execute(FILL, (tenant_id, MOST_COMPETITORS))
    kept_one = CompetitorVideo("tiktok", "1", SEEN + timedelta(hours=1), "Bread")
    assert trends.put_competitors(app, tenant_id, [kept_one])[0][1] == "replaced"
    with pytest.raises(trends.TooManyCompetitors):
        trends.put_competitors(app, tenant_id, [replace(kept_one, external_id="another")])
    with app.db.transaction(tenant_id) as tx:
        assert tx.imported_trends.count_competitors(tenant_id) == MOST_COMPETITORS


def test_many_who_add_at_once_do_not_get_beyond_it(app: App) -> None:
    tenant_id, many = a_tenant(app), 6
    with app.db.transaction(tenant_id) as tx:
        tx.driver.execute(FILL, (tenant_id, MOST_COMPETITORS - 1))
    together = Barrier(many)

    def add(number: int) -> bool:
        together.wait()
        video = CompetitorVideo("tiktok", f"another-{number}", SEEN, "Bread")
        try:
            if number % 2:
                trends.put_competitors(app, tenant_id, [video])
            else:
                file = {"videoId": video.external_id, "platform": "tiktok", "title": "Bread"}
                file["capturedAt"] = SEEN.isoformat()
                data = json.dumps({"competitors": [file]}).encode()
                trends.import_trends(app, ImportRequest(data, tenant_id=tenant_id))
        except trends.TooManyCompetitors:
            return False
        return True

    with ThreadPoolExecutor(many) as pool:
        added = list(pool.map(add, range(many)))
    assert added.count(True) == 1
    with app.db.transaction(tenant_id) as tx:
        assert tx.imported_trends.count_competitors(tenant_id) == MOST_COMPETITORS


FILL = """
INSERT INTO competitor_videos (tenant_id, platform, external_id, captured_at)
SELECT %s, 'tiktok', n::text, '2026-11-01' FROM generate_series(1, %s) AS n
"""
