"""The past of a customer that has had every concept of evergreen topics."""

from datetime import UTC, datetime
from functools import cache
from random import Random

from domain.concepts.generation import ConceptRequest, PastConcept
from domain.concepts.grammar import drafts_of
from domain.concepts.trends import evergreens

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@cache
def all_past_concepts() -> tuple[PastConcept, ...]:
    """Return all that the grammar can make of evergreen topics."""
    past: list[PastConcept] = []
    for evergreen in evergreens(region="US", rng=Random(0), now=NOW):
        of_it: tuple[PastConcept, ...] = ()
        while made := drafts_of(ConceptRequest(1, (evergreen,), of_it, "US", len(past), NOW)):
            of_it += tuple(PastConcept(each.title, each.topic, each.format) for each in made)
        past += of_it
    return tuple(past)
