"""Filters as they stand in a URL: what is understood is written back the same, and nothing else gets through."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.queue.job_filters import QUERY, STATES, JobFilter, job_filter
from domain.text.filters import Cursor, SenselessFilter, span_of_time, written

AN_ID = UUID("0190a5b2-5ccc-7850-9558-0a37b805228c")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"]), min_size=1, max_size=30).map(str.strip)
MOMENTS = st.integers(86400 * 10**6, 200 * 10**15).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
SPANS = st.integers(0, 3650 * 86400).map(lambda seconds: timedelta(seconds=seconds))

filters = st.builds(
    JobFilter,
    state=st.none() | st.sampled_from(STATES),
    job_type=st.none() | TEXTS.filter(bool),
    queue=st.none() | TEXTS.filter(bool),
    tenant_id=st.none() | st.uuids(),
    cause=st.none() | TEXTS.filter(bool),
    text=st.none() | TEXTS.filter(bool),
    since=st.none() | MOMENTS | SPANS,
    until=st.none() | MOMENTS | SPANS,
)


@given(filters)
def test_a_filter_is_read_as_it_is_written(wanted: JobFilter) -> None:
    since, until = wanted.since, wanted.until
    moments = isinstance(since, datetime) and isinstance(until, datetime) and until <= since
    spans = isinstance(since, timedelta) and isinstance(until, timedelta) and until >= since
    if moments or spans:
        with pytest.raises(SenselessFilter, match="does not lie after since"):
            job_filter(wanted.query())
    else:
        assert job_filter(wanted.query()) == wanted


@given(st.uuids(), st.none() | MOMENTS)
def test_a_place_is_read_as_it_is_written(job_id: UUID, ended: datetime | None) -> None:
    after = Cursor(job_id, ended)
    wanted = job_filter({"after": str(after)} | ({"status": "failed"} if ended else {}))
    assert wanted.after == after
    assert wanted.query() == ({"status": "failed"} if ended else {})
    assert wanted.query(after=after)["after"] == str(after)


@given(st.dictionaries(st.sampled_from([*QUERY, "order", "<script>"]), st.text(max_size=400), max_size=4))
@example({"since": "9" * 300})
@example({"since": "999999w999999w"})
@example({"since": "0001-01-01", "until": "9999-12-31T23:59:59+23:59"})
@example({"after": "20261101T000000.000000Z~nothing"})
@example({"after": "999999999T0~" + str(AN_ID)})
@example({"text": "\0"})
@example({"tenant": "{0190a5b25ccc785095580a37b805228c}"})
@example({"tenant": "-1"})
@example({"since": "٣h"})
def test_whatever_stands_in_a_url_is_a_filter_or_is_refused_in_a_short_sentence(query: dict[str, str]) -> None:
    try:
        wanted = job_filter(query)
    except SenselessFilter as error:
        says = str(error)
    else:
        assert wanted.query().keys() <= set(QUERY)
        return
    assert len(says) < 300


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"status": "nope"}, "status: there is no nope; there are pending, running"),
        ({"nope": "1"}, "nope: there is no such filter"),
        ({"tenant": "ada"}, "tenant: ada is no id"),
        ({"since": "yesterday"}, "since: yesterday is no time"),
        ({"until": "1900-01-01"}, "until: 1900-01-01 is not between 1970 and 9000"),
        ({"archive": "yes", "status": "pending"}, "the archive has only what has ended"),
        ({"after": "here"}, "after: it is no place"),
        ({"status": "failed", "after": str(AN_ID)}, "after: it is a place in another list"),
        ({"after": f"20261101T000000.000000Z~{AN_ID}"}, "after: it is a place in another list"),
        ({"type": "x" * 201}, "type: it is longer than 200 characters"),
        ({"text": "a\0b"}, "text: it has characters that no job has"),
    ],
)
def test_what_makes_no_sense_is_said(query: dict[str, str], says: str) -> None:
    with pytest.raises(SenselessFilter) as refused:
        job_filter(query)
    assert says in str(refused.value)


def test_an_empty_filter_of_a_form_is_none() -> None:
    assert job_filter({"status": "", "text": "  "}) == JobFilter()


@given(SPANS)
def test_a_span_of_time_is_read_as_it_is_written(length: timedelta) -> None:
    assert span_of_time(written(length)) == length
