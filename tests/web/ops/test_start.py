"""The start page: it says what hurts first, and what it cannot know."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from db.ops import overview as queries
from db.transaction import SYSTEM
from tests.builders import a_tenant, an_ended_job
from tests.web.ops.hurting import EVIL, make_it_hurt, measure
from web.ops.charts import HEIGHT, WIDTH, drawn
from workers.app import App, build
from workers.ops.overview import WINDOWS, Chart, Group, Line, charts, status
from workers.settings import Settings

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def sentences(app: App) -> list[str]:
    return [harm.says for harm in status(app).harms]


def test_what_hurts_tenants_that_pay_comes_first_and_those_that_pay_most(app: App) -> None:
    make_it_hurt(app)
    found = status(app)
    assert [*dict.fromkeys(harm.group for harm in found.harms)] == [*Group]
    failed = [harm.says for harm in found.harms if "failed job" in harm.says]
    assert ["AGENCY" in failed[0], "PRO" in failed[1]] == [True, True]
    assert "has 3 failed jobs" in failed[1]
    assert "2 failed jobs of nobody who pays wait" in failed[2]


def test_each_harm_is_a_sentence_with_a_link_and_a_shell_line(app: App) -> None:
    agency = make_it_hurt(app)
    found = status(app).harms
    assert all(harm.says.endswith(".") and harm.shell.startswith("viral ") and harm.page for harm in found)
    text = "\n".join(harm.says for harm in found)
    for part in (
        "pays, and nobody can sign in.",
        "1 account of Ada's",
        "needs its owner to connect again",
        "1 post of Ada's",
        "2 events of Stripe wait: their price is in no STRIPE_…_PRICE_ID, 2 invoices among them.",
        "1 event of the last 30 days is flagged: dispute.",
        "1 clip may have been bought or not, for $1.25 together",
        "1 post may be live without our knowing.",
    ):
        assert part in text
    assert f"tenants/{agency}" in {harm.page for harm in found}


def test_nothing_hurts_a_new_installation(app: App, ops: TestClient) -> None:
    assert sentences(app) == []
    assert "Nothing hurts." in ops.get("/ops").text


def test_more_tenants_than_are_named_are_counted(app: App) -> None:
    for number in range(queries.NAMED + 2):
        tenant_id = a_tenant(app, name=f"Shop {number}", subscription_tier="STARTER")
        an_ended_job(app, "failed", ended=NOON, tenant_id=tenant_id)
    an_ended_job(app, "failed", ended=NOON)
    assert "2 more tenants have failed jobs." in sentences(app)


def test_it_says_what_it_cannot_know(app: App, settings: Settings) -> None:
    deaf = build(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}), name="tests")
    try:
        doubts = " ".join(doubt.says for doubt in status(deaf).doubts)
    finally:
        deaf.close()
    assert "Redis takes nothing" in doubts
    assert "No process has reported what it counts" in doubts
    assert "No scheduler has ever run here" in doubts
    measure(app)
    assert status(app).doubts == []
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE process_metrics SET reported_at = now() - interval '1 hour'")
        tx.driver.execute("UPDATE system_metrics SET at = at - interval '1 day'")
    doubts = " ".join(doubt.says for doubt in status(app).doubts)
    assert "No process has reported what it counts for 1h" in doubts
    assert "No scheduler has been heard of for" in doubts


class Tags(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", ["/ops", f"/ops?window={EVIL}", f"/ops?{EVIL}={EVIL}"])
def test_the_page_shows_no_markup_of_others(app: App, ops: TestClient, path: str) -> None:
    make_it_hurt(app)
    measure(app)
    text = ops.get(path).text
    for tag, attributes in Tags(text).found:
        assert tag not in ("img", "style", "iframe", "base")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "script" or (attributes["src"] or "").startswith("/ops/static/")
        assert (attributes.get("href") or "/").startswith(("/", "#"))
    assert "window" in path or "{{7*7}}" in text


def test_a_window_that_is_none_is_refused(ops: TestClient) -> None:
    response = ops.get("/ops?window=99y")
    assert response.status_code == 400
    assert "3h, 48h, 30d" in response.text


@pytest.mark.parametrize("window", WINDOWS)
def test_charts_have_their_numbers_in_a_table_and_the_changes_of_their_time(
    app: App, ops: TestClient, window: str
) -> None:
    make_it_hurt(app)
    measure(app)
    text = ops.get(f"/ops?window={window}").text
    assert text.count('class="chart"') == 4
    assert text.count('<path class="mark-line"') == 8
    assert f'aria-current="true">last {window}<' in text
    found = charts(app, WINDOWS[window])
    assert {len(chart.times) for chart in found.charts} <= {48, 49, 60, 61}
    completed = found.charts[1].lines[0].values
    assert max(value for value in completed if value is not None) > 1


def test_a_chart_has_gaps_where_nobody_looked() -> None:
    times = [NOON + timedelta(minutes=number) for number in range(5)]
    chart = Chart("A", "s", [Line("a", [1.0, 2.0, None, 4.0, None])], times)
    shown = drawn(chart, times[0], times[-1], [times[2]])
    assert shown["lines"][0]["path"] == f"M0.0 {HEIGHT - 41:.1f}L150.0 {HEIGHT - 80:.1f}M450.0 2.0h3"
    assert shown["marks"] == [WIDTH / 2]
    assert shown["measured_until"] == times[4]
    assert shown["top"] == "4"


def test_the_first_look_reads_by_indexes(app: App) -> None:
    values = {"most": queries.MOST, "named": queries.NAMED, "tiers": ["AGENCY"]}
    asked = [
        *queries.HURT.values(),
        queries.PARKED,
        queries.FLAGGED,
        queries.UNCONFIRMED_CLIPS,
        queries.UNCONFIRMED_POSTS,
    ]
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        for query in asked:
            plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {query}".encode(), values))
            assert "Seq Scan" not in plan, plan
            assert "Limit" in plan
