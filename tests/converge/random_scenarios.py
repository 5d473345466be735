"""Random scenarios of Stripe customers, in real shapes: the same seed makes the same scenario."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Final
from uuid import UUID

from domain.billing.tiers import PLANS, Tier
from domain.quota.quota import add_months
from simulators.personas import SHAPES, Persona, Shape
from tests.converge.account import (
    DAY,
    HOUR,
    SECOND,
    Account,
    Invoice,
    Item,
    Line,
    Period,
    Price,
    Subscription,
    next_period,
)

CREATED: Final = datetime.fromisoformat("2027-01-03T12:00:00+00:00")
TENANT: Final = UUID(int=7)
MOST_ACTS, LONGEST = 12, timedelta(days=900)
MIXED: frozenset[Shape] = frozenset({"basil", "endive"})
"""The shapes in which the items of one subscription may renew at different times."""

MONTHLY = {tier: Price(f"price_{tier.lower()}", tier, 1, plan.usd_per_month * 100) for tier, plan in PLANS.items()}
YEARLY = {tier: Price(f"{price.id}_year", tier, 12, price.cents * 10) for tier, price in MONTHLY.items()}
COMP = Price("price_comp", Tier.AGENCY, 1, 0)
PLANS_SOLD = [*list(MONTHLY.values())[1:], *list(YEARLY.values())[1:], COMP]
SOLD = {price.id: Tier(price.tier) for price in PLANS_SOLD if price.tier}
"""What the settings map: STRIPE_…_PRICE_ID."""
UNKNOWN = "hibernating"


@dataclass(frozen=True)
class RandomScenario:
    """The events until `now`; the tenant was made on `CREATED`. `acts` are what happened, in words."""

    seed: int
    account: Account
    acts: tuple[str, ...]
    now: datetime

    @property
    def shape(self) -> Shape:
        return self.account.who.shape


def random_scenario(seed: int, most: int = MOST_ACTS) -> RandomScenario:
    """`most`: no more acts than these, for whoever looks for the first that matters."""
    rng = Random(seed)
    who = Persona(TENANT, "cus_1", "sub_1", "user_1", "ada@example.com", shape=rng.choice(SHAPES))
    played = _Author(rng, Account(who), CREATED + rng.randint(1, 28) * DAY + rng.randint(0, 86_399) * SECOND)
    played.subscribe()
    for _ in range(min(most, rng.randint(1, MOST_ACTS))):
        if played.now > CREATED + LONGEST:
            break
        played.act()
    now = played.now + rng.choice([HOUR, 3 * DAY, 20 * DAY])
    return RandomScenario(
        seed, played.account, tuple(played.acts), max(played.now + 10 * SECOND, min(now, played.next_event))
    )


class _Author:
    """`now` is when the last act was over. `deferred` are prorations that wait for the next invoice; `unpaid` the
    invoices that nobody paid yet; `drafts` the lines of an invoice that is not issued, because Stripe gave up."""

    def __init__(self, rng: Random, account: Account, now: datetime) -> None:
        self.rng, self.account, self.now = rng, account, now
        self.acts: list[str] = []
        self.name = ""
        self.deferred: list[Line] = []
        self.unpaid: list[Invoice] = []
        self.drafts: list[Line] = []

    @property
    def row(self) -> Subscription:
        return self.account.rows[self.name]

    @property
    def next_event(self) -> datetime:
        """When Stripe has something to tell without anybody's doing."""
        return min([self.row.renews, *(bill.due for bill in self.unpaid if bill.due and bill.due > self.now)])

    def act(self) -> None:
        """One of those that can happen now."""
        row = self.row
        may: list[Callable[[], None]]
        if row.ended:
            may = [self.subscribe]
        elif row.status == "active" and self.unpaid:
            may = [self.pay_in_time, self.be_overdue]
        elif row.status == "incomplete":
            may = [self.pay, self.give_up]
        elif row.status in ("past_due", "unpaid"):
            may = [self.pay, self.pay, self.give_up, self.revert, self.renew]
        elif row.status == "trialing":
            may = [self.renew, self.renew, self.extend_trial, self.change_addons, self.cancel]
        elif row.status == UNKNOWN:
            may = [self.be_active, self.be_active, self.renew]
        else:
            may = [
                self.renew, self.renew, self.renew, self.upgrade, self.change_plan_later, self.switch_interval,
                self.change_addons, self.pause, self.schedule_end, self.cancel, self.to_and_fro, self.be_unknown,
                self.refund, self.say_nothing_new,
            ]  # fmt: skip
        self.rng.choice(may)()

    # --- how it begins

    def subscribe(self) -> None:
        """Paid at once, with a trial, by invoice, with a free stretch, or declined."""
        rng, self.name = self.rng, f"sub_{len(self.account.rows) + 1}"
        self.deferred, self.unpaid, self.drafts = [], [], []
        if len(self.account.rows):
            self.now += rng.randint(1, 40) * DAY
        plan, at = rng.choice(PLANS_SOLD), self.now
        addons = [self._addon(n, plan) for n in range(rng.choice([0, 0, 0, 1, 2, 11]))]
        way = rng.choice(["at once", "at once", "trial", "trial", "by invoice", "free stretch", "declined"])
        if way in ("free stretch", "declined") and plan.cents == 0:
            way = "at once"
        self._note(f"buys {plan.id} and {len(addons)} more, {way}")
        end = at + rng.choice([rng.randint(5, 25), rng.randint(35, 75)]) * DAY
        anchor = end if way in ("trial", "free stretch") else at

        def period(price: Price) -> Period:
            return (at, end) if anchor == end else next_period(at, at, price.months)

        row = Subscription(
            self.name, at, tuple(Item(price, period(price)) for price in (plan, *addons)), "active", anchor,
            trial=(at, end) if way == "trial" else None,
            net_days=rng.choice([7, 14, 30]) if way == "by invoice" else None,
        )  # fmt: skip
        if way == "trial":
            row = replace(row, status="trialing")
        if way == "declined":
            row = replace(row, status="incomplete")
        self.account.begin(row, checkout=way == "at once")
        free = anchor == end
        lines = [Line(each.price, each.period, 0 if free else each.price.cents) for each in row.items]
        bill = self.account.issue(self.name, "subscription_create", lines, at + SECOND)
        self.now = at + 2 * SECOND
        if way == "by invoice":
            self.unpaid.append(bill)
        elif way == "declined":
            self.unpaid.append(bill)
            self.account.move(bill, "open", "payment_failed", self.now)
        else:
            self.account.move(bill, "paid", "paid", self.now)

    # --- the months

    def renew(self) -> None:
        """The next period begins, of those items whose period ends; or the subscription ends, if that is scheduled."""
        row, at = self.row, self.row.renews
        if row.cancel_at is not None and row.cancel_at <= at:
            self._note("ends as scheduled")
            self._end(row.cancel_at)
            return
        over = row.trial is not None and at == row.trial[1]
        items = tuple(
            replace(each, period=next_period(row.anchor, at, each.price.months)) if each.period[1] == at else each
            for each in row.items
        )
        lines = [
            *self.deferred,
            *(Line(each.price, each.period, each.price.cents, quantity=each.quantity)
              for each in items if each.period[0] == at),
        ]  # fmt: skip
        self.deferred = []
        self._note(f"renews on {at:%Y-%m-%d}" + (", after the trial" if over else ""))
        status = "active" if row.status == "trialing" else row.status
        number = len(self.account.invoices)
        self.account.change(self.name, at, items=items, status=status, latest_invoice=f"in_{number}")
        self.now = at
        if row.status in ("unpaid", UNKNOWN):
            self.drafts = lines
            return
        self.now = at + (SECOND if self.rng.random() < 0.2 else HOUR)
        self._charge("subscription_cycle", lines)

    def _issue_paused(self, reason: str, lines: list[Line]) -> None:
        if self.row.paused == "keep_as_draft":
            return
        bill = self.account.issue(self.name, reason, lines, self.now)
        ends = {"void": ("void", "voided"), "mark_uncollectible": ("uncollectible", "marked_uncollectible")}
        self.account.move(bill, *ends[self.row.paused or ""], self.now)

    def _charge(self, reason: str, lines: list[Line], *, declined: float = 0.3) -> None:
        """Issue the invoice and ask for its money."""
        if self.row.paused:
            self._issue_paused(reason, lines)
            return
        bill = self.account.issue(self.name, reason, lines, self.now)
        if self.row.net_days is not None and bill.due is not None:
            self.unpaid.append(bill)
        elif sum(each.cents for each in lines) > 0 and (self.row.status == "past_due" or self.rng.random() < declined):
            self._note("which is declined")
            self.now += self.rng.choice([0, 1]) * SECOND
            self.account.move(bill, "open", "payment_failed", self.now)
            self.unpaid.append(bill)
            if self.row.status != "past_due":
                self.account.change(self.name, self.now, status="past_due")
        else:
            self.now += self.rng.choice([0, 1]) * SECOND
            self.account.move(bill, "paid", "paid", self.now)

    def pay_in_time(self) -> None:
        """Within the net term."""
        self.now = (self.now + (self.next_event - self.now) * (self.rng.random() * 0.9)).replace(microsecond=0)
        self._note("pays its invoice in time")
        for bill in list(self.unpaid):
            self._pay(bill)

    def be_overdue(self) -> None:
        """The net term ends, if it ends before the next period begins."""
        due = min(bill.due for bill in self.unpaid if bill.due)
        if due >= self.row.renews:
            self.pay_in_time()
            return
        self._note("lets its net term end")
        self.now = max(due, self.now)
        for bill in self.unpaid:
            self.account.move(bill, "open", "overdue", self.now)
        self.account.change(self.name, self.now, status="past_due")

    # --- money that was missing

    def pay(self) -> None:
        """All that is open; then it is active again."""
        self._somewhat_later()
        self._note("pays what was open")
        if self.drafts:
            self.unpaid.append(self.account.issue(self.name, "subscription_cycle", self.drafts, self.now))
            self.drafts = []
        for bill in list(self.unpaid):
            self._pay(bill)
        if self.row.status != "active":
            self.account.change(self.name, self.now, status="active")

    def _pay(self, bill: Invoice) -> None:
        self.unpaid.remove(bill)
        self.account.move(bill, "paid", "paid", self.now)

    def give_up(self) -> None:
        """Stripe retries no more."""
        self._somewhat_later()
        if self.row.status == "incomplete":
            self._note("expires")
            self.account.change(self.name, self.now, status="incomplete_expired", ended=self.now)
        elif self.row.status == "unpaid" or self.rng.random() < 0.5:
            self._note("is canceled for not paying")
            self._end(self.now)
        else:
            self._note("is unpaid")
            self.account.change(self.name, self.now, status="unpaid")

    def revert(self) -> None:
        """A plan as cheap as the cheapest; what was open is voided, and nothing is left to wait for."""
        row = self.row
        if row.status != "past_due" or row.plan.price.months == 12 or any(
            bill.reason != "subscription_update" for bill in self.unpaid
        ):  # fmt: skip
            self.pay()
            return
        self._somewhat_later()
        self._note("goes back to STARTER, and the open invoice is voided")
        items = (replace(row.plan, price=MONTHLY[Tier.STARTER]), *row.items[1:])
        self.account.change(self.name, self.now, items=items)
        for bill in self.unpaid:
            self.account.move(bill, "void", "voided", self.now)
        self.unpaid = []
        self.account.change(self.name, self.now, status="active")

    # --- other changes

    def upgrade(self) -> None:
        """Another plan at once, its difference charged at once."""
        row = self.row
        if not (price := self._other(row.plan.price)):
            return
        self._somewhat_later()
        self._note(f"changes to {price.id}, charged at once")
        self._change_plan(price)
        lines = [*self.deferred, *self._prorations(row.plan, price)]
        self.deferred = []
        self._charge("subscription_update", lines, declined=0.4)

    def change_plan_later(self) -> None:
        """Another plan at once, its difference on the next invoice; several times, more lines than a body carries."""
        for _ in range(self.rng.choice([1, 1, 5])):
            row = self.row
            if not (price := self._other(row.plan.price)):
                return
            self._somewhat_later()
            self._note(f"changes to {price.id}, charged with the next invoice")
            self._change_plan(price)
            self.deferred += self._prorations(row.plan, price)

    def switch_interval(self) -> None:
        """From monthly to yearly, or back: the cycle begins anew, and is charged at once."""
        row = self.row
        if row.paused or row.plan.price == COMP or (len(row.items) > 1 and self.account.who.shape not in MIXED):
            return
        self._somewhat_later()
        others = YEARLY if row.plan.price.months == 1 else MONTHLY
        price, at = others[self.rng.choice([Tier.STARTER, Tier.PRO, Tier.AGENCY])], self.now
        self._note(f"switches to {price.id}")
        plan = Item(price, next_period(at, at, price.months))
        addons = tuple(replace(each, period=next_period(at, at, each.price.months)) for each in row.items[1:])
        self.account.change(self.name, at, items=(plan, *addons), anchor=at, cancel_at=None)
        credit = [
            Line(each.price, (at, each.period[1]), -each.price.cents // 2, True)
            for each in row.items
            if each.price.cents
        ]
        lines = [
            *self.deferred,
            *credit,
            *(Line(each.price, each.period, each.price.cents) for each in (plan, *addons)),
        ]
        self.deferred = []
        self._charge("subscription_update", lines, declined=0.4)

    def change_addons(self) -> None:
        row = self.row
        self._somewhat_later()
        addons = row.items[1:]
        if addons and self.rng.random() < 0.5:
            self._note("removes its add-ons")
            self.account.change(self.name, self.now, items=row.items[:1])
        else:
            added = self._addon(len(addons), row.plan.price)
            monthly_too = row.plan.price.months == added.months or row.status == "trialing"
            period = row.plan.period if monthly_too else self._month_within(row)
            self._note(f"adds {added.id}")
            self.account.change(self.name, self.now, items=(*row.items, Item(added, period)))

    def _month_within(self, row: Subscription) -> Period:
        n = 0
        while add_months(row.anchor, n) <= self.now:
            n += 1
        return add_months(row.anchor, n - 1), add_months(row.anchor, n)

    def pause(self) -> None:
        row = self.row
        self._somewhat_later()
        if row.paused:
            self._note("resumes collection")
            self.account.change(self.name, self.now, paused=None)
        else:
            how = self.rng.choice(["void", "keep_as_draft", "mark_uncollectible"])
            self._note(f"pauses collection ({how})")
            self.account.change(self.name, self.now, paused=how)

    def schedule_end(self) -> None:
        row = self.row
        self._somewhat_later()
        self._note("keeps its subscription" if row.cancel_at else "is to end with its period")
        self.account.change(self.name, self.now, cancel_at=None if row.cancel_at else row.plan.period[1])

    def cancel(self) -> None:
        self._somewhat_later()
        self._note("is canceled at once")
        self._end(self.now)

    def extend_trial(self) -> None:
        row = self.row
        assert row.trial is not None
        if row.trial[1] - row.trial[0] > 25 * DAY:
            return  # nothing tells of the months of a trial that ended otherwise than it ends now
        self._somewhat_later()
        end = row.trial[1] + self.rng.randint(1, 3) * DAY
        self._note("has its trial extended")
        items = tuple(replace(each, period=(each.period[0], end)) for each in row.items)
        self.account.change(self.name, self.now, trial=(row.trial[0], end), anchor=end, items=items)
        self.account.mention(self.name, self.now)

    def to_and_fro(self) -> None:
        """Several changes within one second, in events with what was before, or in events that do not say it."""
        row = self.row
        if row.plan.price.months == 12 or row.plan.price == COMP:
            return
        self._somewhat_later()
        self._note("changes to and fro within a second")
        kind = "pending_update_applied" if self.rng.random() < 0.2 else "updated"
        led: set[tuple[Subscription, Subscription]] = set()
        for _ in range(self.rng.randint(2, 4)):
            was = self.row
            end = None if was.cancel_at else was.plan.period[1]
            plan = replace(was.plan, price=self._other(was.plan.price) or was.plan.price)
            to = replace(was, items=(plan, *was.items[1:])) if self.rng.random() < 0.6 else replace(was, cancel_at=end)
            if (was, to) not in led:  # the same change twice looks like one that is delivered twice
                led.add((was, to))
                self.account.change(self.name, self.now, kind, items=to.items, cancel_at=to.cancel_at)

    def be_unknown(self) -> None:
        self._somewhat_later()
        self._note(f"is {UNKNOWN}")
        self.account.change(self.name, self.now, status=UNKNOWN)

    def be_active(self) -> None:
        self._somewhat_later()
        self._note("is active again")
        self.account.change(self.name, self.now, status="active")
        if self.drafts:
            lines, self.drafts = self.drafts, []
            self._charge("subscription_cycle", lines)

    def refund(self) -> None:
        paid = [bill for bill in self.account.invoices if bill.status == "paid"]
        self._somewhat_later()
        if paid:
            self._note("has its money back")
            self.account.refund(paid[-1], self.now)

    def say_nothing_new(self) -> None:
        self._somewhat_later()
        self.account.mention(self.name, self.now, "pending_update_expired")

    # --- parts of these

    def _somewhat_later(self) -> None:
        """Before the next renewal, or at the very second of the last act."""
        left = 20 * HOUR if self.row.status == "incomplete" else self.row.renews - self.now
        if left > 2 * HOUR:
            self.now = (self.now + left * (self.rng.random() * 0.6)).replace(microsecond=0)

    def _change_plan(self, price: Price) -> None:
        row = self.row
        self.account.change(self.name, self.now, items=(replace(row.plan, price=price), *row.items[1:]))

    def _prorations(self, plan: Item, price: Price) -> list[Line]:
        rest = (self.now, plan.period[1])
        share = (rest[1] - rest[0]) / (plan.period[1] - plan.period[0])
        return [
            Line(plan.price, rest, -int(plan.price.cents * share), True),
            Line(price, rest, int(price.cents * share), True),
        ]

    def _other(self, price: Price) -> Price | None:
        """Another plan of the same interval."""
        if price == COMP:
            return None
        same = YEARLY if price.months == 12 else MONTHLY
        return self.rng.choice([each for each in list(same.values())[1:] if each != price])

    def _addon(self, number: int, plan: Price) -> Price:
        """Monthly beside a yearly plan, where the account's shape allows for that."""
        months = 1 if self.account.who.shape in MIXED and self.rng.random() < 0.7 else plan.months
        return Price(f"price_addon_{number}" + ("_year" if months == 12 else ""), None, months, 100)

    def _end(self, at: datetime) -> None:
        self.now = at
        self.account.change(self.name, at, "deleted", status="canceled", ended=at)
        for bill in self.unpaid:
            self.account.move(bill, "void", "voided", at + SECOND)
        self.unpaid = []
        self.now = at + SECOND

    def _note(self, text: str) -> None:
        self.acts.append(f"{self.now:%Y-%m-%d} {self.name} {text}")
