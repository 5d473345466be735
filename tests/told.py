"""What a customer of many concepts has had."""

from datetime import UTC, datetime
from functools import cache
from random import Random

from domain.concepts.generation import Brief, Past
from domain.concepts.grammar import drafts_of
from domain.concepts.trends import evergreens

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@cache
def everything_told() -> tuple[Past, ...]:
    """All that the grammar can make of evergreen topics."""
    told: list[Past] = []
    for evergreen in evergreens(region="US", rng=Random(0), now=NOW):
        of_it: tuple[Past, ...] = ()
        while made := drafts_of(Brief(1, (evergreen,), of_it, "US", len(told), NOW)):
            of_it += tuple(Past(each.title, each.topic, each.format) for each in made)
        told += of_it
    return tuple(told)
