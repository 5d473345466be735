"""Failures of one cause are one group, and a release with which they rose is named."""

from datetime import timedelta

import psycopg
import pytest

from db.security import seeing_all_tenants
from db.transaction import SYSTEM
from workers.app import App
from workers.ops.failures import MOST, GroupStory, Overview, UnknownGroup, group, overview

JOBS = """
INSERT INTO job_queue (id, job_type, queue, status, tenant_id, completed_at)
SELECT gen_random_uuid(), 'testing.fails', 'default', 'failed', %(tenant)s, now() FROM generate_series(1, %(jobs)s)
RETURNING id
"""

FAILED = """
INSERT INTO job_attempts (job_id, attempt, outcome, error_class, error_message, error_group, release, ended_at)
SELECT job_id, 1, 'failed', %(error_class)s, %(message)s || ' ' || n, %(group)s, %(release)s,
       now() - %(ago)s::interval + n * %(every)s::interval
FROM unnest(%(jobs)s::uuid[]) WITH ORDINALITY AS job (job_id, n)
"""

DEPLOY = """
INSERT INTO changes (kind, subject, at, before, after)
VALUES ('deploy', 'worker', now() - %s::interval, NULL, jsonb_build_object('release', %s::text))
"""


class Past:
    """Writes what has happened before."""

    def __init__(self, url: str) -> None:
        self._url = seeing_all_tenants(url)

    def deploy(self, release: str, ago: timedelta) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute(DEPLOY, (ago, release))

    def fail(
        self,
        count: int,
        message: str = "no answer from",
        *,
        error_class: str = "ProviderUnavailable",
        group: str | None = None,
        release: str | None = "v1",
        ago: timedelta = timedelta(minutes=30),
        every: timedelta = timedelta(seconds=10),
        tier: str | None = None,
    ) -> None:
        with psycopg.connect(self._url) as connection:
            tenant = None
            if tier is not None:
                row = connection.execute(
                    "INSERT INTO tenants (name, subscription_tier) VALUES ('t', %s) RETURNING id", (tier,)
                ).fetchone()
                tenant = row and row[0]
            rows = connection.execute(JOBS, {"jobs": count, "tenant": tenant}).fetchall()
            values = {"error_class": error_class, "message": message, "group": group, "release": release}
            connection.execute(FAILED, values | {"ago": ago, "every": every, "jobs": [row[0] for row in rows]})


@pytest.fixture
def past(database_url: str) -> Past:
    return Past(database_url)


def seen(app: App) -> Overview:
    with app.db.transaction(SYSTEM) as tx:
        return overview(tx)


def group_of(app: App, name: str) -> GroupStory:
    with app.db.transaction(SYSTEM) as tx:
        return group(tx, name)


def test_failures_of_one_cause_are_one_group_also_those_without_a_name(app: App, past: Past) -> None:
    past.fail(3, "no answer from 10.0.0.7 after", release=None)
    [first] = seen(app).groups
    past.fail(2, "no answer from 10.0.0.8 after", group=first.name)
    past.fail(4, "nobody is there", error_class="UnknownTenant")
    most, other = seen(app).groups
    assert (most.name, most.attempts) == (first.name, 5)
    assert most.title == "ProviderUnavailable: no answer from … after …"
    assert (other.attempts, other.title) == (4, "UnknownTenant: nobody is there …")
    assert [len(group_of(app, each.name).attempts) for each in (most, other)] == [5, 4]


def test_those_of_paying_tenants_come_first(app: App, past: Past) -> None:
    past.fail(9, "of free ones", tier="FREE")
    past.fail(1, "of paying ones", tier="PRO")
    assert [(each.paying, each.tenants) for each in seen(app).groups] == [(1, 1), (0, 1)]


def test_the_release_is_named_with_which_failures_rose(app: App, past: Past) -> None:
    past.deploy("v1", timedelta(hours=5))
    past.fail(3, "seldom", ago=timedelta(minutes=80), every=timedelta(minutes=1))
    past.deploy("v2", timedelta(minutes=30))
    past.fail(60, "broken", error_class="KeyError", group="KeyError-1", release="v2", ago=timedelta(minutes=29))
    found = seen(app)
    newest, first = found.rises
    assert newest.rose
    assert newest.says.startswith("failures rose with v2: from ")
    broken = next(each for each in found.groups if each.title.startswith("KeyError"))
    assert newest.groups == [broken.name]
    assert (broken.rose_with, broken.first_release) == ("v2", "v2")
    assert not first.rose
    assert next(each for each in found.groups if each.title.startswith("Provider")).rose_with is None
    shown = group_of(app, broken.name)
    assert shown.group.rose_with == "v2"
    assert [(each["release"], each["attempts"]) for each in shown.by_release] == [("v2", 60)]


def test_failures_that_were_there_before_are_no_rise(app: App, past: Past) -> None:
    past.deploy("v1", timedelta(hours=5))
    past.deploy("v2", timedelta(minutes=30))
    past.fail(238, "always", ago=timedelta(minutes=120), every=timedelta(seconds=30))
    assert not any(each.rose for each in seen(app).rises)


def test_without_a_failure_nothing_is_told(app: App) -> None:
    found = seen(app)
    assert (found.groups, found.rises, found.window.attempts) == ([], [], 0)
    with pytest.raises(UnknownGroup):
        group_of(app, "E-0")


def test_a_window_is_bounded_and_says_so(app: App, past: Past) -> None:
    past.fail(MOST + 10, "x", group="E-1", every=timedelta(0))
    found = seen(app)
    assert found.groups[0].attempts == MOST
    assert f"the newest {MOST:,} attempts that failed" in found.window.says
