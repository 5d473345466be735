"""The generators that concepts come from: a language model where there is a key for one, and the offline grammar."""

from collections.abc import Mapping

from db.transaction import SYSTEM, Database
from domain import grammar
from domain.errors import Rejected
from domain.generation import Brief, Written
from domain.ports import ConceptWriter
from integrations.llm import LanguageModels, Model
from workers.settings import Settings

LANGUAGE_MODEL = "language-model"


class NoModel(Rejected):
    """There is a key, and no model that it could be used for."""


class LanguageModelWriter:
    """Asks the model that the dated rows of `language_models` name for today."""

    def __init__(self, db: Database, models: LanguageModels) -> None:
        self._db = db
        self._models = models

    def write(self, brief: Brief) -> Written:
        with self._db.transaction(SYSTEM) as tx:
            chosen = tx.generating.model(self._models.providers, brief.now)
        if chosen is None:
            raise NoModel("no row of language_models is enabled and in force: add one, or ask for local-grammar/v1")
        return self._models.write(Model(chosen.provider, chosen.name, chosen.usd_in, chosen.usd_out), brief)


def writers(settings: Settings, db: Database) -> Mapping[str, ConceptWriter]:
    """By name, the usual one first."""
    found: dict[str, ConceptWriter] = {}
    key = settings.anthropic_api_key
    if key is not None:
        models = LanguageModels(anthropic_key=key.get_secret_value(), anthropic_base_url=settings.anthropic_base_url)
        found[LANGUAGE_MODEL] = LanguageModelWriter(db, models)
    return found | {grammar.NAME: grammar.LocalGrammar()}
