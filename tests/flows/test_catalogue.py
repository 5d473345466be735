"""Whatever somebody sets, somebody reads: words of states, job types, queues, events, log events. How that is found is
in `tests/catalogue.py` and `tests/emitted.py`."""

import re
from collections.abc import Iterator, Mapping

import pytest
import sqlalchemy as sa

import workers.jobs
from db.schema.base import one_of
from tests.catalogue import ROOT, Words, closed_lists, places, sources
from tests.emitted import logged, looked_for, not_enqueued, noted
from workers.engine.discovery import discover
from workers.engine.queues import QUEUES

NAMES_OF_THINGS = {
    "platform": "a platform is chosen by whoever connects an account; its name leads to its module by a table",
    "horizon": "all of them are gone through, in their order",
    "role": "whoever is no ADMIN is a MEMBER: one of two is compared",
    "subscription_tier": "a plan is looked up by its name",
}
"""Columns whose words are not states that follow one another."""

BY_CONTRAST = {
    "bulk_items.outcome unchanged": "it is what a `Result` says, saved with many others",
    "bulk_items.outcome refused": "it is what a `Result` says, saved with many others",
    "autopilots.mode auto": "a person says it, as above; what is neither off nor approve posts by itself",
    "media.kind image": "whatever is no video; `kind_of` makes it of the content type",
    "media.kind video": "`kind_of` makes it of the content type",
    "provider_jobs.state cancelled": "what the provider answers of a clip (`ClipState`), by its own word",
    "quota_holds.status released": "a hold that is neither held nor settled may be taken again: those two are compared",
    "job_steps.status intended": "a step that is not confirmed is looked for before it is done again",
    "job_steps.status unknown": "as intended: what is not confirmed is looked for; people see the difference",
}
"""Words that are read, or set, where this analysis does not see it, by list and word: why that is no fault."""


def faults(lists: list[Words], files: Mapping[str, str]) -> Iterator[str]:
    found = places(lists, files)
    for words in lists:
        for word in sorted(words.values):
            sets, reads = found[words.name].sets[word], found[words.name].reads[word]
            if not sets:
                yield f"{words.name} {word}: nobody sets it"
            if not reads - sets:
                yield f"{words.name} {word}: nobody reads it"


def test_each_word_that_somebody_sets_is_read_by_somebody() -> None:
    lists = [each for each in closed_lists() if each.column not in NAMES_OF_THINGS]
    assert len(lists) >= 12
    found = list(faults(lists, sources()))
    assert [fault for fault in found if fault.partition(":")[0] not in BY_CONTRAST] == []
    in_vain = BY_CONTRAST.keys() - {fault.partition(": nobody")[0] for fault in found}
    assert in_vain == set(), "these need no exception any more"


PLANTED_SCHEMA = sa.MetaData()
PLANTED = sa.Table(
    "videos",
    PLANTED_SCHEMA,
    sa.Column("status", sa.Text, server_default=sa.text("'pending'")),
    one_of("status", ("pending", "completed", "ready", "failed", "lost", "shown")),
)
PLANTED_CODE = {
    "db/videos/videos.py": """
DONE = "UPDATE videos SET status = 'completed' WHERE status = 'pending'"
READY = "SELECT id FROM videos WHERE status = 'ready'"
ENDED = ("completed",)
def fail(tx, video_id):
    tx.change(video_id, {"status": "failed"})
def show(row):
    return "it failed" if row["status"] == "failed" else None
def lose(tx, video_id):
    if tx.status != "lost":
        tx.change(video_id, {"status": "lost"})
def present():
    return {"status": "shown"}
""",
    "workers/jobs/videos.py": "from db.videos.videos import DONE, READY, fail, show\n",
}


def test_a_word_that_nobody_sets_or_nobody_reads_is_found() -> None:
    """As in the old product: `completed` is set, and what is waited for is `ready`."""
    assert list(faults(closed_lists(PLANTED_SCHEMA), PLANTED_CODE)) == [
        "videos.status completed: nobody reads it",  # a collection that nobody uses reads nothing
        "videos.status lost: nobody reads it",  # but whoever sets it
        "videos.status ready: nobody sets it",
        "videos.status shown: nobody reads it",
    ]


@pytest.mark.parametrize(
    ("path", "was", "now", "fault"),
    [
        (
            "db/posting/posts.py",
            '"status": S.IN_INBOX',
            '"status": S.PUBLISHED',
            "social_posts.status in_inbox: nobody sets it",
        ),
        (
            "db/videos/videos.py",
            "status = 'completed'",
            "status = 'complete'",
            "videos.status completed: nobody sets it",
        ),
    ],
    ids=["an enumeration's", "in SQL"],
)
def test_in_the_real_source_a_word_that_is_set_no_longer_is_found(path: str, was: str, now: str, fault: str) -> None:
    assert was in sources()[path]
    changed = dict(sources()) | {path: sources()[path].replace(was, now)}
    lists = [each for each in closed_lists() if each.name == fault.partition(" ")[0]]
    assert fault in list(faults(lists, changed))


def test_each_job_type_is_enqueued_by_somebody_and_each_queue_has_one() -> None:
    declared = discover([workers.jobs])
    handlers = {name: (each.handler.__module__, each.handler.__name__) for name, each in declared.items()}
    assert not_enqueued(handlers, sources()) == set()
    assert {each.queue for each in declared.values()} == set(QUEUES)


def test_a_job_type_that_nobody_enqueues_is_found() -> None:
    files = {
        "workers/jobs/upkeep.py": (
            '@job("a.one")\ndef one(ctx): ...\n@job("a.two")\ndef two(ctx): one.enqueue(tx)\n@job("a.three")\n'
            'def three(ctx): ...\n@job("a.four")\ndef four(ctx): ...\n@job("a.five")\ndef five(ctx): ...\n'
        ),
        "scheduler/schedule.py": (
            "from workers.jobs import upkeep\nfrom workers.jobs.upkeep import two as second\n"
            'RUNS = (run(second), "a.four", upkeep.five)\n'
        ),
    }
    handlers = {f"a.{name}": ("workers.jobs.upkeep", name) for name in ("one", "two", "three", "four", "five")}
    assert not_enqueued(handlers, files) == {"a.three"}


EXPLANATIONS = ("domain/posting/explanation.py", "domain/autopilot/explanation.py")


@pytest.mark.parametrize("path", EXPLANATIONS)
def test_what_explanations_look_for_is_written_down_by_somebody(path: str) -> None:
    """All events are shown with their words; those that decide over an explanation are found by their kind."""
    wanted = looked_for(sources()[path])
    assert wanted
    written = noted({name: text for name, text in sources().items() if name not in EXPLANATIONS})
    assert wanted - written == set()


def test_an_event_that_is_looked_for_and_never_written_is_found() -> None:
    text = 'K = "sent"\ndef f(e): return e["kind"] == K or e["details"].get("ids") or e["details"]["why"]\n'
    assert looked_for(text) - noted({"x.py": 'note("sent", why=1)'}) == {"ids"}


def test_log_events_that_documents_name_are_logged() -> None:
    emitted = logged(sources())
    families = {name.partition(".")[0] for name in emitted}
    named = {
        name
        for path in (*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
        for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", path.read_text("utf-8"))
        if name.partition(".")[0] in families and not name.endswith((".py", ".txt"))
    }
    assert len(named & {"redis.away", "web.waits", "worker.waits"}) == 3
    assert named - emitted == set()
