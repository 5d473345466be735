import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ops.changes import LONGEST, SET, differences, shown

STATES = st.dictionaries(st.sampled_from("abcd"), st.text(max_size=3))


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("worker_threads", 8, "8"),
        ("trend_sources", ("reddit", "gnews"), "reddit, gnews"),
        ("google_base_url", "https://ann:pass@proxy.example.com:8443/v1?key=x#y", "https://proxy.example.com:8443/v1"),
        ("ops_token", "abc", SET),
        ("sentry_dsn", "https://abc@sentry.example.com/1", SET),
        ("otel_exporter_otlp_headers", "authorization=Basic abc", SET),
        ("gnews_api_key", "abc", SET),
        ("media_tenant_bytes", 10, "10"),
    ],
)
def test_a_setting_is_kept_without_what_is_secret(name: str, value: object, kept: str) -> None:
    assert shown(name, value, secret=False) == kept


def test_of_several_secrets_their_number_is_kept() -> None:
    assert shown("stripe_webhook_secret", ("a", "b"), secret=True) == "2 set"


def test_a_long_value_is_cut() -> None:
    assert len(shown("trends_contact", "x" * 10_000, secret=False)) == LONGEST


@given(STATES, STATES)
def test_differences_lead_from_one_state_to_the_other(before: dict[str, str], after: dict[str, str]) -> None:
    was, is_ = differences(before, after)
    moved = {**before, **is_}
    assert {name: value for name, value in moved.items() if value is not None} == after
    assert all(was[name] != is_[name] for name in was)
    assert (not was) == (before == after)
