"""How far predictions were off, for one tenant or all. The API and the shell use this."""

from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from db.learning.accuracy import Asked
from db.transaction import SYSTEM
from domain.concepts.timing import zone_of
from domain.errors import Rejected
from domain.learning.accuracy import MOST_GROUPS, AccuracyBy, AccuracyReport
from domain.learning.numbers import Horizon
from domain.learning.outcomes import LEARNED, SHOWN
from domain.learning.performance import period, weeks
from workers.app import App


def accuracy(
    app: App,
    tenant_id: UUID | None,
    *,
    by: AccuracyBy = AccuracyBy.WEEK,
    horizon: Horizon = SHOWN,
    since: datetime | None = None,
    until: datetime | None = None,
) -> AccuracyReport:
    """Return how far predictions were off on outcomes of a period, at one horizon; weeks are those of the tenant's
    zone, or of UTC for all tenants together.

    Raises:
        UnknownTenant: there is none of this id.
        Rejected: it is no period, or one that is too long, or nothing is predicted for the horizon.
    """
    if horizon not in LEARNED:
        raise Rejected(f"horizon: nothing is predicted for {horizon}; use {' or '.join(LEARNED)}")
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        zone = ZoneInfo("UTC") if tenant_id is None else zone_of(tx.tenants.get(tenant_id)["timezone"])
        now = app.now(tx)
        begins, ends = period(since, until, now)
        asked = Asked(tenant_id, horizon, begins, ends)
        touched = weeks(begins, ends, zone) if by == AccuracyBy.WEEK else ()
        total, groups = tx.accuracy.groups(asked, by=by, weeks=touched, limit=MOST_GROUPS + 1)
        evidence, changes = tx.accuracy.evidence(asked), tx.accuracy.changes(asked)
    return AccuracyReport(
        *(by, horizon, begins, ends, zone.key, total, groups[:MOST_GROUPS], len(groups) > MOST_GROUPS),
        evidence=evidence,
        changes=changes,
    )
