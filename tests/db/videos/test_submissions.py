"""A submission's state and its money change together, once, whoever races."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import Tx
from domain.errors import BudgetExceeded, UnknownTenant
from domain.videos.plan import Clip
from domain.videos.submissions import ClipOrder, ProviderJob, RefusedFor, SubmissionState
from tests.builders import NOV_22
from tests.video_stage import Stage, a_concept, stage
from workers.settings import Settings

USD = Decimal("1.20")


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    with stage(settings, tmp_path / "media") as made:
        yield made


def intended(here: Stage, tenant_id: UUID, *, usd: Decimal = USD) -> ProviderJob:
    video_id = here.ask(tenant_id, a_concept())
    clip = Clip(0, ClipOrder("gen4.5", "A fox", 10, "720:1280"), usd)
    with here.app.db.transaction(tenant_id) as tx:
        return tx.submissions.intend(
            tenant_id, video_id, id=uuid4(), job_id=uuid4(), provider="runway", clip=clip, now=NOV_22
        )


def accept(tx: Tx, row: ProviderJob, *, usd: Decimal | None = None, job: str = "a job") -> str | None:
    return tx.submissions.accept(
        row.tenant_id, row.id, provider_job_id=job, estimated_usd=usd, now=NOV_22, deadline_at=NOV_22
    )


def end(tx: Tx, row: ProviderJob, usd: Decimal | None = None) -> str | None:
    return tx.submissions.end(row.tenant_id, row.id, SubmissionState.SUCCEEDED, final_usd=usd, now=NOV_22)


def refuse(tx: Tx, row: ProviderJob) -> str | None:
    return tx.submissions.refuse(row.tenant_id, row.id, kind=RefusedFor.BUSY, message="no", now=NOV_22)


def doubt(tx: Tx, row: ProviderJob) -> str | None:
    return tx.submissions.doubt(row.tenant_id, row.id, message="?")


def money(here: Stage, tenant_id: UUID) -> tuple[Decimal, Decimal]:
    budget = here.budget(tenant_id)
    return budget.reserved, budget.spent


Act = Callable[[Tx, ProviderJob], Any]


@pytest.mark.parametrize(
    ("acts", "state", "reserved", "spent"),
    [
        ([], "intended", USD, 0),
        ([refuse], "refused", 0, 0),
        ([accept], "submitted", USD, 0),
        ([accept, end], "succeeded", 0, USD),
        ([accept, lambda tx, row: end(tx, row, Decimal("0.5"))], "succeeded", 0, Decimal("0.5")),
        ([accept, lambda tx, row: end(tx, row, Decimal(9))], "succeeded", 0, Decimal(9)),
        ([lambda tx, row: accept(tx, row, usd=Decimal(2))], "submitted", Decimal(2), 0),
        ([lambda tx, row: accept(tx, row, usd=Decimal(2)), end], "succeeded", 0, Decimal(2)),
        ([doubt], "unconfirmed", USD, 0),
        ([doubt, refuse], "refused", 0, 0),
        ([doubt, accept, doubt, end], "succeeded", 0, USD),
        # What a state does not allow changes nothing.
        ([end], "intended", USD, 0),
        ([accept, refuse], "submitted", USD, 0),
        ([refuse, refuse, doubt, end], "refused", 0, 0),
        ([accept, end, end, doubt, refuse], "succeeded", 0, USD),
        # An answer that comes after all: it will be charged, so it is spent.
        ([refuse, accept], "refused", 0, USD),
        ([refuse, accept, accept], "refused", 0, USD),
    ],
)
def test_the_money_goes_with_the_state(
    here: Stage, acts: list[Act], state: str, reserved: Decimal, spent: Decimal
) -> None:
    tenant_id = here.tenant()
    row = intended(here, tenant_id)
    for act in acts:
        with here.app.db.transaction(tenant_id) as tx:
            act(tx, row)
    [after] = here.submissions(tenant_id, row.video_id)
    assert after.state == state
    assert money(here, tenant_id) == (reserved, spent)
    assert sum(usd for _, usd in here.usage(tenant_id)) == spent


def test_of_many_who_end_a_submission_one_moves_the_money(here: Stage) -> None:
    tenant_id = here.tenant()
    row = intended(here, tenant_id)
    with here.app.db.transaction(tenant_id) as tx:
        accept(tx, row)

    def settle(n: int) -> str | None:
        with here.app.db.transaction(tenant_id) as tx:
            return (end if n % 2 else doubt)(tx, row)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(settle, range(1, 25)))
    assert money(here, tenant_id) == (0, USD)
    assert len(here.usage(tenant_id)) == 1


def test_many_reservations_at_once_stop_at_the_limit(here: Stage) -> None:
    tenant_id = here.tenant(usd=3)
    rows = [here.ask(tenant_id, a_concept()) for _ in range(12)]
    clip = Clip(0, ClipOrder("gen4.5", "A fox", 10, "720:1280"), Decimal("0.70"))

    def intend(video_id: UUID) -> bool:
        try:
            with here.app.db.transaction(tenant_id) as tx:
                tx.submissions.intend(
                    tenant_id, video_id, id=uuid4(), job_id=uuid4(), provider="runway", clip=clip, now=NOV_22
                )
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(intend, rows)) == 4
    assert money(here, tenant_id) == (Decimal("2.80"), 0)


def test_a_limit_holds_for_the_months_that_follow(here: Stage) -> None:
    tenant_id = here.tenant(usd=3, tier="FREE")
    here.later(days=40)
    assert here.budget(tenant_id).limit == 3
    with here.app.db.transaction(tenant_id) as tx:
        tx.video_budgets.lock(tenant_id, here.clock[0].date().replace(day=1))
    assert here.budget(tenant_id).limit == 3
    with here.app.db.transaction(tenant_id) as tx, pytest.raises(UnknownTenant):
        tx.video_budgets.lock(uuid4(), NOV_22.date().replace(day=1))
