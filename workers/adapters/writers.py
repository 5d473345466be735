"""The generator that asks a language model; the offline one is `domain.concepts.grammar`."""

from typing import TYPE_CHECKING

from db.transaction import SYSTEM, Database
from domain.concepts.generation import ConceptRequest, ConceptResponse
from domain.errors import Rejected

if TYPE_CHECKING:
    from integrations.llm import LanguageModels

LANGUAGE_MODEL = "language-model"


class NoModel(Rejected):
    """There is a key, and no model that it could be used for."""


class LanguageModelWriter:
    """A writer that asks the model which the dated rows of `language_models` name for today."""

    runs_out = False

    def __init__(self, db: Database, models: "LanguageModels") -> None:
        self._db = db
        self._models = models

    def write(self, request: ConceptRequest) -> ConceptResponse:
        with self._db.transaction(SYSTEM) as tx:
            model = tx.generating.model(self._models.providers, request.now)
        if model is None:
            raise NoModel("no row of language_models is enabled and in force: add one, or ask for local-grammar/v1")
        return self._models.write(model, request)
