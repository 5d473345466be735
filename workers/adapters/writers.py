"""The generators that concepts come from: a language model where there is a key for one, and the offline grammar.

Neither is imported before it is asked: most worker processes never generate, and each would be larger by it.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

from db.transaction import SYSTEM, Database
from domain.concepts.generation import LOCAL_GRAMMAR, ConceptRequest, ConceptResponse
from domain.errors import Rejected
from domain.ports import ConceptWriter
from workers.settings import Settings

if TYPE_CHECKING:
    from integrations.llm import LanguageModels

LANGUAGE_MODEL = "language-model"


class NoModel(Rejected):
    """There is a key, and no model that it could be used for."""


class LanguageModelWriter:
    """Asks the model that the dated rows of `language_models` name for today."""

    runs_out = False

    def __init__(self, db: Database, make: "Callable[[], LanguageModels]") -> None:
        self._db = db
        self._make = make

    @cached_property
    def _models(self) -> "LanguageModels":
        return self._make()

    def write(self, request: ConceptRequest) -> ConceptResponse:
        from integrations.llm import Model  # noqa: PLC0415 - see the module's first lines

        with self._db.transaction(SYSTEM) as tx:
            chosen = tx.generating.model(self._models.providers, request.now)
        if chosen is None:
            raise NoModel("no row of language_models is enabled and in force: add one, or ask for local-grammar/v1")
        return self._models.write(Model(chosen.provider, chosen.name, chosen.usd_in, chosen.usd_out), request)


class GrammarWriter:
    """The offline grammar."""

    runs_out = True

    def write(self, request: ConceptRequest) -> ConceptResponse:
        from domain.concepts.grammar import LocalGrammar  # noqa: PLC0415 - see the module's first lines

        return LocalGrammar().write(request)


def writers(settings: Settings, db: Database) -> Mapping[str, ConceptWriter]:
    """By name, the usual one first."""
    found: dict[str, ConceptWriter] = {}
    key = settings.anthropic_api_key
    if key is not None:
        found[LANGUAGE_MODEL] = LanguageModelWriter(
            db,
            partial(
                _language_models,
                key.get_secret_value(),
                settings.anthropic_base_url,
                settings.outbound_private_hosts,
            ),
        )
    return found | {LOCAL_GRAMMAR: GrammarWriter()}


def _language_models(key: str, base_url: str, private_hosts: Collection[str]) -> "LanguageModels":
    from integrations.llm import LanguageModels  # noqa: PLC0415 - see the module's first lines

    return LanguageModels(anthropic_key=key, anthropic_base_url=base_url, private_hosts=private_hosts)
