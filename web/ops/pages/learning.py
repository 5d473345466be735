"""How learning does: which model scores, how far off it is, what has changed, and how much evidence there is."""

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

from domain.errors import UnknownTenant
from domain.learning.accuracy import AccuracyBy, trust
from domain.learning.learner import YARDSTICK
from domain.learning.outcomes import LEARNED, SHOWN
from domain.learning.promotion import LEAST
from web.ops.page import Look, Page, WrongFilter
from workers.ops import reflexion
from workers.ops.accuracy import accuracy

GROUPS = tuple(AccuracyBy)
A_PAGE = 50

T = TypeVar("T", bound=str)


def view(look: Look) -> Mapping[str, Any]:
    """Raises:
    WrongFilter: there is no such tenant, group or horizon.
    """
    by = _one_of("by", look.query.get("by") or AccuracyBy.MODEL, GROUPS)
    horizon = _one_of("horizon", look.query.get("horizon") or SHOWN, LEARNED)
    tenant_id = _tenant(look.query.get("tenant"))
    try:
        report = accuracy(look.app, tenant_id, by=by, horizon=horizon)
        found = reflexion.overview(look.app) if tenant_id is None else reflexion.status(look.app, tenant_id)
        changes = () if tenant_id is None else reflexion.history(look.app, tenant_id, limit=A_PAGE)
    except UnknownTenant as error:
        raise WrongFilter("tenant: no tenant has this id") from error
    of = "" if tenant_id is None else f" --tenant {tenant_id}"
    return {
        **{"report": report, "found": found, "changes": changes, "tenant_id": tenant_id, "trust": trust},
        **{"by": by, "horizon": horizon, "groups": GROUPS, "horizons": LEARNED, "least": LEAST, "yardstick": YARDSTICK},
        "shells": [
            f"viral reflexion status{of}",
            f"viral reflexion accuracy --by {by} --horizon {horizon}{of}",
            f"viral reflexion history{of or ' --tenant ID'}",
        ],
    }


def _one_of(name: str, value: str, words: tuple[T, ...]) -> T:
    for word in words:
        if word == value:
            return word
    raise WrongFilter(f"{name}: there is no {value[:40]}; there are {', '.join(words)}")


def _tenant(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise WrongFilter("tenant: an id has 32 hexadecimal digits") from None


LEARNING = Page("/learning", "Learning", "learning.html", view)
