"""The generator and the critic that ask a language model. The offline ones are `domain.concepts.grammar` and
`domain.learning.critique.offline`.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from db.transaction import SYSTEM, Database
from domain.concepts.generation import LOCAL_GRAMMAR, ConceptRequest, ConceptResponse, LanguageModel
from domain.errors import Rejected
from domain.learning.critique.critiques import LOCAL_CRITIC, CritiqueRequest, CritiqueResponse

if TYPE_CHECKING:
    from integrations.llm.models import LanguageModels

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
        model = _model(self._db, self._models, request.now, instead=LOCAL_GRAMMAR)
        return self._models.write(model, request)


class LanguageModelCritic:
    """A critic that asks the model which the dated rows of `language_models` name for today."""

    def __init__(self, db: Database, models: "LanguageModels") -> None:
        self._db = db
        self._models = models

    def criticise(self, request: CritiqueRequest) -> CritiqueResponse:
        model = _model(self._db, self._models, request.now, instead=LOCAL_CRITIC)
        return self._models.criticise(model, request)


def _model(db: Database, models: "LanguageModels", now: datetime, *, instead: str) -> LanguageModel:
    with db.transaction(SYSTEM) as tx:
        model = tx.generating.model(models.providers, now)
    if model is None:
        providers = ", ".join(models.providers)
        raise NoModel(
            f"no row of language_models of the providers with keys ({providers}) is enabled and in force: add one, "
            f"or ask for {instead}"
        )
    return model
