"""Backoff, and what becomes of an attempt that did not succeed."""

from datetime import timedelta
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import QuotaExceeded, Rejected, Unavailable
from domain.queue.retries import Backoff, GiveUp, Retry, after_crash, after_failure

ATTEMPTS = st.integers(1, 10_000)
SEEDS = st.integers(0, 2**32).map(Random)
SPANS = st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=1))
BACKOFFS = st.builds(Backoff, base=SPANS | st.just(timedelta(0)), cap=SPANS)


@given(BACKOFFS, ATTEMPTS, SEEDS)
def test_a_wait_lies_between_nothing_and_the_ceiling(backoff: Backoff, attempt: int, rng: Random) -> None:
    assert timedelta(0) <= backoff.wait(attempt, rng) <= backoff.ceiling(attempt) <= backoff.cap


@given(BACKOFFS, ATTEMPTS)
def test_the_ceiling_never_falls_and_doubles_until_the_cap(backoff: Backoff, attempt: int) -> None:
    this, following = backoff.ceiling(attempt), backoff.ceiling(attempt + 1)
    assert following == min(this * 2, backoff.cap)


def test_the_first_ceilings_are_15_30_60_seconds_and_the_cap_an_hour() -> None:
    ceilings = [Backoff().ceiling(attempt).total_seconds() for attempt in (1, 2, 3, 8, 9, 10_000)]
    assert ceilings == [15, 30, 60, 1920, 3600, 3600]


def test_jobs_that_failed_together_do_not_return_together() -> None:
    """Full jitter: the waits fill the whole range evenly."""
    rng = Random(1)
    waits = [Backoff().wait(3, rng).total_seconds() for _ in range(2000)]
    assert min(waits) < 1
    assert max(waits) > 59
    assert 28 < mean(waits) < 32


def judge(error: BaseException, attempt: int = 1, max_attempts: int = 3) -> Retry | GiveUp:
    return after_failure(error, attempt=attempt, max_attempts=max_attempts, backoff=Backoff(), rng=Random(1))


@given(st.integers(1, 50), st.integers(1, 50))
def test_there_are_never_more_attempts_than_allowed(attempt: int, max_attempts: int) -> None:
    verdict = judge(RuntimeError("bug"), attempt, max_attempts)
    assert isinstance(verdict, Retry) == (attempt < max_attempts)


@pytest.mark.parametrize("error", [Rejected("no"), QuotaExceeded("none left")])
def test_what_is_rejected_is_given_up_at_once(error: Rejected) -> None:
    assert judge(error) == GiveUp("rejected: trying again cannot help")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2)), SEEDS)
def test_retry_after_is_a_floor(asked: timedelta, rng: Random) -> None:
    verdict = after_failure(
        Unavailable("slow down", retry_after=asked), attempt=1, max_attempts=3, backoff=Backoff(), rng=rng
    )
    assert isinstance(verdict, Retry)
    assert verdict.after >= asked
    assert verdict.after <= max(asked, Backoff().ceiling(1))


def test_the_reason_for_giving_up_counts_the_attempts() -> None:
    assert judge(Unavailable("down"), attempt=3) == GiveUp("failed 3 of 3 attempts")


def test_a_crash_is_retried_once_and_then_quarantined() -> None:
    assert after_crash(attempt=1, max_attempts=3, crashes=1) == Retry(timedelta(0))
    assert after_crash(attempt=2, max_attempts=9, crashes=2) == GiveUp(
        "quarantined: its worker process died 2 times while running it"
    )
    assert isinstance(after_crash(attempt=3, max_attempts=3, crashes=1), GiveUp)
