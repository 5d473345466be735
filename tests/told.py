"""What a customer of many concepts has had."""

from datetime import UTC, datetime
from functools import cache
from random import Random

from domain.concepts.generation import ConceptRequest, PastConcept
from domain.concepts.grammar import drafts_of
from domain.concepts.trends import evergreens

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@cache
def everything_told() -> tuple[PastConcept, ...]:
    """All that the grammar can make of evergreen topics."""
    told: list[PastConcept] = []
    for evergreen in evergreens(region="US", rng=Random(0), now=NOW):
        of_it: tuple[PastConcept, ...] = ()
        while made := drafts_of(ConceptRequest(1, (evergreen,), of_it, "US", len(told), NOW)):
            of_it += tuple(PastConcept(each.title, each.topic, each.format) for each in made)
        told += of_it
    return tuple(told)
