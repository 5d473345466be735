"""Trends are collected from a shared cache: asked no oftener than needed, and usable while a source is down."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from db.transaction import SYSTEM
from domain.concepts.trends import STILL_USED, Collected
from integrations.http.client import Http
from integrations.trends import gnews, google, reddit
from integrations.trends.source import Source
from simulators.loopback import Loopback, Reply
from simulators.trends import trends_simulator
from workers.adapters.trends import LONGEST_WAIT, Collector
from workers.app import App

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Desk:
    """A collector over two sources of a loopback server; `now` is when it is asked."""

    def __init__(self, app: App, server: Loopback) -> None:
        self.server = server
        self.app = app
        self.http = Http("viral-tests (tests@example.com)")
        self.collector = self.another()

    def another(self) -> Collector:
        """Another process's."""
        return self.over(google.source(self.server.url), reddit.source(self.server.url))

    def over(self, *sources: Source) -> Collector:
        return Collector(self.app.db, self.http, sources)

    def collect(self, now: datetime, region: str = "US") -> Collected:
        return self.collector.collect(region, now)

    def states(self, now: datetime) -> dict[str, str]:
        return {report.source: report.state for report in self.collect(now).reports}

    def asked(self, path: str = "/trending") -> int:
        return sum(path in asked.path for asked in self.server.requests)


@pytest.fixture
def desk(app: App) -> Iterator[Desk]:
    with trends_simulator(lambda: NOW) as server:
        desk = Desk(app, server)
        yield desk
        desk.http.close()


def test_sources_are_asked_once_and_their_answers_shared(desk: Desk) -> None:
    first = desk.collect(NOW)
    assert {sighting.source for sighting in first.sightings} == {"google-trends", "reddit"}
    assert desk.states(NOW + MINUTE) == {"google-trends": "cached", "reddit": "cached"}
    again = desk.another().collect("US", NOW + MINUTE)
    assert again.sightings == first.sightings
    assert len(desk.server.requests) == 2


def test_an_old_answer_is_asked_for_again_and_only_if_it_changed(desk: Desk) -> None:
    first = desk.collect(NOW)
    later = NOW + timedelta(hours=2)
    again = desk.collect(later)
    assert again.sightings == first.sightings
    assert [report.state for report in again.reports] == ["live", "live"]
    assert desk.server.requests[-1].headers["if-none-match"]
    assert desk.states(later + MINUTE) == {"google-trends": "cached", "reddit": "cached"}


def test_regions_have_their_own_lists_and_the_world_has_one(desk: Desk) -> None:
    desk.collect(NOW)
    desk.collect(NOW, region="DE")
    assert [asked.params["geo"] for asked in desk.server.requests if "/trending" in asked.path] == ["US", "DE"]
    assert desk.asked("/r/popular") == 1


def test_a_source_that_fails_is_named_and_the_others_are_used(desk: Desk) -> None:
    desk.server.fail(Reply(b"<html>", 200), path="/trending")
    collected = desk.collect(NOW)
    assert {sighting.source for sighting in collected.sightings} == {"reddit"}
    failed = next(report for report in collected.reports if report.state == "failed")
    assert (failed.source, failed.count) == ("google-trends", 0)
    assert failed.error is not None
    assert "google-trends answers something else" in failed.error


def test_while_a_source_is_down_its_last_answer_is_used_for_a_day(desk: Desk) -> None:
    desk.collect(NOW)
    desk.server.fail(Reply(status=503), times=99, path="/trending")
    later = NOW + timedelta(hours=2)
    collected = desk.collect(later)
    stale = next(report for report in collected.reports if report.source == "google-trends")
    assert (stale.state, stale.answered_at) == ("stale", NOW)
    assert stale.error
    assert any(sighting.source == "google-trends" for sighting in collected.sightings)
    assert desk.states(NOW + STILL_USED)["google-trends"] == "failed"


def test_a_source_that_is_down_is_asked_ever_more_rarely(desk: Desk) -> None:
    desk.server.fail(Reply(status=403), times=99, path="/trending")
    for minutes in range(0, 300, 5):
        desk.collect(NOW + minutes * MINUTE)
    assert desk.asked() < 12
    before = desk.asked()
    desk.collect(NOW + 300 * MINUTE + LONGEST_WAIT)
    assert desk.asked() == before + 1


def test_the_wait_that_a_source_asks_for_is_kept(desk: Desk) -> None:
    desk.server.fail(Reply(status=429, headers={"Retry-After": "7200"}), path="/trending")
    desk.collect(NOW)
    desk.collect(NOW + 119 * MINUTE)
    assert desk.asked() == 1
    assert desk.states(NOW + 121 * MINUTE)["google-trends"] == "live"


def test_one_asks_and_the_others_use_what_there_is(desk: Desk) -> None:
    desk.collect(NOW)
    later = NOW + timedelta(hours=2)
    gate = threading.Barrier(4)

    def collect(_: int) -> Collected:
        gate.wait()
        return desk.another().collect("US", later)

    desk.server.fail(Reply(status=503, after=0.2), path="/trending")
    with ThreadPoolExecutor(4) as pool:
        collected = list(pool.map(collect, range(4)))
    assert all(each.sightings for each in collected)
    assert desk.asked() == 1 + 2  # the first time; then one process, which tried twice


def test_no_source_at_all_is_no_error(desk: Desk) -> None:
    assert desk.over().collect("US", NOW) == Collected("US", NOW, (), ())


def test_what_a_source_says_may_hold_anything_that_json_can(desk: Desk) -> None:
    body = rb'{"articles": [{"title": "a \u0000 null and \ud83d\ude00"}, {"title": "   "}, {"title": "fine"}]}'
    desk.server.fail(Reply(body))
    collected = desk.over(gnews.source(desk.server.url, "k")).collect("US", NOW)
    assert [sighting.topic for sighting in collected.sightings] == ["a null and 😀", "fine"]


def test_people_can_see_how_the_sources_are(desk: Desk) -> None:
    desk.server.fail(Reply(status=403), path="/r/popular")
    desk.collect(NOW)
    with desk.app.db.transaction(SYSTEM) as tx:
        rows = {row["source"]: row for row in tx.trends.status()}
    assert (rows["google-trends"]["region"], rows["google-trends"]["count"]) == ("US", 4)
    assert (rows["reddit"]["region"], rows["reddit"]["failures"]) == ("world", 1)
    assert rows["reddit"]["error"] == "reddit answers 403"
