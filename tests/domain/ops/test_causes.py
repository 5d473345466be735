"""What a job was enqueued by: one text, which is read again as it was written."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ops.causes import LONGEST, LONGEST_NAME, Cause, CauseKind, parse, words

ONE = UUID("01a20417-5ccc-7850-9558-0a37b805228c")
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"event:{ONE}", f"the event {ONE}"),
        (f"job:{ONE}", f"the job {ONE}"),
        (f"api:{ONE}", f"a request of the key or user {ONE}"),
        ("schedule:quota.reset_due@2026-12-01T12:00:00+00:00", "the run of quota.reset_due at 2026-12-01T12:00:00"),
        ("person:ada", "ada, in the shell"),
    ],
)
def test_a_cause_is_read_as_it_was_written_and_said_in_words(text: str, shown: str) -> None:
    cause = parse(text)
    assert cause is not None
    assert str(cause) == text
    assert words(text).startswith(shown)


def test_a_run_has_its_schedule_and_its_time() -> None:
    cause = parse(str(Cause.of_run("a@b by hand", NOON)))
    assert cause is not None
    assert cause.run == ("a@b by hand", NOON)
    assert cause.uuid is None


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "job", "job:", "jobs:1", f"JOB:{ONE}", f"job:{ONE.hex}", f"job: {ONE}", f"event:{{{ONE}}}"),
        *("schedule:x", "schedule:x@", "schedule:@2026-12-01T12:00:00+00:00", "schedule:x@2026-12-01T12:00:00"),
        *("person:", "person:<b>", "person:a b", f"person:{'a' * (LONGEST_NAME + 1)}", "job:" + "1" * 10_000_000),
        f"schedule:{'x' * LONGEST}@2026-12-01T12:00:00+00:00",
    ],
)
def test_what_we_did_not_write_is_another_programs(text: str) -> None:
    assert parse(text) is None
    assert words(text) == words(None) == "another program"


@given(st.text(max_size=300))
def test_any_name_of_a_person_can_be_kept(name: str) -> None:
    cause = Cause.of_person(name)
    assert parse(str(cause)) == cause


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for kind in CauseKind:
        cause = parse(f"{kind}:{text}")
        assert cause is None or str(cause) == f"{kind}:{text}"
        assert cause is None or cause.words


def test_ids_are_ids() -> None:
    one = uuid4()
    assert Cause(CauseKind.JOB, str(one)).uuid == one
