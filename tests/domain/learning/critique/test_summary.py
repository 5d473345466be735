"""What a critic gets of the outcomes, and in which form."""

import json
from dataclasses import replace

from domain.learning.critique.summary import TITLE_LENGTH, Gaps, data, gaps_of
from tests.language_models import CRITIQUE, INJECTION


def test_gaps_are_counted_by_side_and_rounded_to_a_tenth() -> None:
    assert gaps_of([]) is None
    assert gaps_of([-0.04, 3.14, -12.36, 0.0]) == Gaps(4, above=1, below=2, median=0.0, least=-12.4, greatest=3.1)
    assert str(gaps_of([-0.01])).count("-0.0") == 0


def test_titles_of_strangers_are_bounded_and_stay_within_their_string() -> None:
    long = replace(CRITIQUE.evidence[1], title='x"}]' * TITLE_LENGTH)
    sent = json.loads(json.dumps(data(replace(CRITIQUE, evidence=(CRITIQUE.evidence[0], long)))))
    assert [each["title"] for each in sent["outcomes"]] == [INJECTION, ('x"}]' * TITLE_LENGTH)[:TITLE_LENGTH]]
    assert sent["gaps"]["median_gap"] == -19.5


def test_neither_the_account_nor_any_id_is_sent() -> None:
    sent = data(replace(CRITIQUE, account="@ada.private"))
    assert sent["one_account_only"] is True
    text = json.dumps(sent)
    assert "ada" not in text
    assert str(CRITIQUE.evidence[1].outcome_id) not in text
    assert "c-1" not in text
