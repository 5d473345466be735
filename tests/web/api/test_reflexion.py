"""What was learned, kept over HTTP: the old app's calls, each under an id of its caller's."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.learning.reflexion import PAGE_BYTES, Critique
from db.transaction import SYSTEM
from tests.web.api.test_api import NOW, refused
from tests.web.api.test_generations import Tenant
from workers.app import App

CRITIQUE: dict[str, Any] = {
    "concept_id": "k1",
    "critique": "Too sure.",
    "performance_gap": {"category": "tech", "platform": "tiktok", "predictedVirality": 85, "actualViralityScore": 62.5},
    "hypothesized_reasons": ["late"],
    "scoring_issues": [],
    "adjustment_plan": "less",
    "confidence_level": "high",
    "created_at": "2025-01-16T10:00:00Z",
}
INSIGHT: dict[str, Any] = {
    "category": "tech",
    "platform": "tiktok",
    "pattern": "tech-tiktok-over",
    "evidence_count": 3,
    "impact": "negative",
    "recommendation": "apply",
    "applied_to_scoring": False,
    "discovered_at": "2025-01-16T10:00:00Z",
    "last_seen_at": "2025-01-17T10:00:00Z",
}
ADJUSTMENT: dict[str, Any] = {
    "category": "tech",
    "adjustment_type": "category-weight",
    "old_value": 0.9,
    "new_value": 0.8100000000000001,
    "reason": "over",
    "critique_id": "c1",
    "platform": None,
    "applied_at": "2025-01-17T10:00:00Z",
}
OF_EACH = {"critiques": CRITIQUE, "insights": INSIGHT, "adjustments": ADJUSTMENT}


@pytest.fixture
def ada(app: App) -> Tenant:
    return Tenant(app)


def put(tenant: Tenant, kind: str, *, id: UUID | None = None, **fields: Any) -> dict[str, Any]:
    answer = tenant("PUT", f"/reflexion/{kind}/{id or uuid4()}", json=OF_EACH[kind] | fields)
    assert answer.status_code == 200, answer.text
    kept: dict[str, Any] = answer.json()
    return kept


def listed(tenant: Tenant, kind: str, **query: Any) -> list[dict[str, Any]]:
    """All pages together."""
    found: list[dict[str, Any]] = []
    while True:
        page = tenant("GET", f"/reflexion/{kind}", params=query).json()
        found += page[kind]
        if page["next"] is None:
            return found
        query["cursor"] = page["next"]


def test_what_is_kept_is_found_changed_and_deleted_by_whoever_has_it(app: App, ada: Tenant) -> None:
    bob = Tenant(app)
    for kind, sent in OF_EACH.items():
        mine = put(ada, kind)
        assert sent.items() <= mine.items()
        path = f"/reflexion/{kind}/{mine['id']}"
        assert put(ada, kind, id=UUID(mine["id"])) == mine == ada("GET", path).json()
        assert listed(ada, kind) == [mine]
        assert listed(bob, kind) == []
        assert refused(bob("GET", path)) == refused(bob("DELETE", path)) == (404, "NOT_FOUND")
        assert refused(bob("PUT", path, json=sent)) == (409, "ID_TAKEN")
        assert ada("DELETE", path).status_code == 204
        assert refused(ada("DELETE", path)) == (404, "NOT_FOUND")
    assert ada("GET", "/reflexion/stats").json() == dict.fromkeys(
        ("critiques", "insights", "adjustments", "recent_critiques"), 0
    )


def test_a_critiques_columns_are_read_from_its_gap_which_is_kept_as_it_was_sent(ada: Tenant) -> None:
    kept = put(ada, "critiques")
    assert (kept["category"], kept["platform"], kept["predicted_score"], kept["actual_score"]) == (
        *("tech", "tiktok"),
        *(85, 62.5),
    )
    assert kept["performance_gap"] == CRITIQUE["performance_gap"]
    assert put(ada, "critiques", category="food", predicted_score=1.5)["category"] == "food"


def test_lists_are_narrowed_as_the_old_apps_calls_were(ada: Tenant) -> None:
    old = [put(ada, "critiques", concept_id=f"k{n % 2}", created_at=f"2025-01-0{n + 1}T00:00:00Z") for n in range(5)]
    learned = put(ada, "critiques", id=UUID(old[1]["id"]), applied_at="2025-02-01T00:00:00Z", concept_id="k1")
    newest_first = [old[4], old[3], old[2], learned | {"created_at": CRITIQUE["created_at"]}, old[0]]
    newest_first.sort(key=lambda each: str(each["created_at"]), reverse=True)
    assert listed(ada, "critiques", limit=2) == newest_first
    assert {each["id"] for each in listed(ada, "critiques", unapplied="true")} == {
        each["id"] for each in old if each["id"] != learned["id"]
    }
    assert {each["id"] for each in listed(ada, "critiques", concept_id="k1")} == {old[1]["id"], old[3]["id"]}
    first = put(ada, "insights")
    again = put(ada, "insights", evidence_count=4)
    assert again == first | {"evidence_count": 4}, "one for each category, platform and pattern, which keeps its id"
    other = put(ada, "insights", pattern="other", category="food")
    moved = ada("PUT", f"/reflexion/insights/{first['id']}", json=INSIGHT | {"pattern": "new"})
    assert refused(moved) == (409, "ID_TAKEN")
    assert listed(ada, "insights", category="food") == listed(ada, "insights", pattern="other") == [other]
    weight = put(ada, "adjustments", category="food")
    put(ada, "adjustments")
    assert listed(ada, "adjustments", category="food") == [weight]
    assert ada("GET", "/reflexion/stats").json() == {
        "critiques": 5,
        "insights": 2,
        "adjustments": 2,
        "recent_critiques": 0,
    }


def test_a_page_is_bounded_in_bytes_and_the_next_one_goes_on(app: App, ada: Tenant) -> None:
    large = "x" * (PAGE_BYTES // 2 - 1000)
    with app.db.transaction(ada.id) as tx:
        for _ in range(5):
            tx.learning.save_critique(ada.id, Critique(uuid4(), "k", large, NOW))
    assert len(ada("GET", "/reflexion/critiques").json()["critiques"]) == 2
    assert len({each["id"] for each in listed(ada, "critiques")}) == 5


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("critiques", {"confidence_level": "sure"}),
    ("critiques", {"performance_gap": []}),
    ("critiques", {"predicted_score": 1e6}),
    ("critiques", {"critique": "x" * 10_001}),
    ("critiques", {"conceptId": "k1"}),
    ("insights", {"category": ""}),
    ("insights", {"evidence_count": -1}),
    ("insights", {"last_seen_at": 1763812800}),
    ("adjustments", {"old_value": "0.9"}),
    ("adjustments", {"category": "x" * 201}),
]


def test_numbers_in_a_gap_are_such_as_json_has_and_come_out_as_they_went_in(ada: Tenant) -> None:
    for number in ("1e999", "-1e999", "9" * 400):
        body = json.dumps(CRITIQUE | {"performance_gap": {"deltas": [1, {"views": 0}]}}).replace("0}", f"{number}}}")
        wrong = ada(
            "PUT", f"/reflexion/critiques/{uuid4()}", content=body, headers={"Content-Type": "application/json"}
        )
        assert (wrong.status_code, wrong.json()["error"]) == (
            *(422, "body.performance_gap: deltas.1.views: should be a number that is finite, as JSON's are"),
        )
    body = CRITIQUE | {"performance_gap": {"deltas": [1e300, 12345678901234567890, 5]}}
    kept = ada("PUT", f"/reflexion/critiques/{uuid4()}", json=body)
    assert '"deltas":[1e+300,12345678901234567890,5]' in kept.text


def test_what_is_wrong_is_named_and_not_kept(ada: Tenant) -> None:
    for kind, wrong in WRONG:
        answer = ada("PUT", f"/reflexion/{kind}/{uuid4()}", json=OF_EACH[kind] | wrong)
        assert refused(answer) == (422, "INVALID"), wrong
        assert answer.json()["details"][0]["where"] == f"body.{next(iter(wrong))}"
    assert [listed(ada, kind) for kind in OF_EACH] == [[], [], []]


def test_many_who_keep_one_at_once_leave_one(ada: Tenant) -> None:
    """By its id, of critiques and adjustments; by category, platform and pattern, whatever the ids are, of insights."""
    one = uuid4()
    with ThreadPoolExecutor(8) as pool:
        for kind in OF_EACH:
            ids = [uuid4() if kind == "insights" else one for _ in range(16)]
            kept = list(pool.map(lambda id, kind=kind: put(ada, kind, id=id), ids))
            assert listed(ada, kind) == [kept[0]]
            assert len({each["id"] for each in kept}) == 1


def test_an_adjustment_that_is_only_proposed_is_listed_in_its_place_without_a_moment(app: App, ada: Tenant) -> None:
    with app.db.transaction(SYSTEM) as tx:
        for days, applied in ((3, True), (2, False), (1, True)):
            tx.driver.execute(
                """INSERT INTO scoring_adjustments (tenant_id, category, adjustment_type, applied_at, created_at)
                VALUES (%s, %s, 'promotion', CASE WHEN %s THEN now() - %s * interval '1 day' END,
                    now() - %s * interval '1 day')""",
                (ada.id, f"c{days}", applied, days, days),
            )
    found, cursor = [], ""
    while cursor is not None:
        page = ada("GET", f"/reflexion/adjustments?limit=1{cursor and f'&cursor={cursor}'}").json()
        found += page["adjustments"]
        cursor = page["next"]
    assert [(each["category"], each["applied_at"] is not None) for each in found] == [
        ("c1", True),
        ("c2", False),
        ("c3", True),
    ]
    with app.db.transaction(ada.id) as tx:
        exported = {each["category"]: each for each in tx.dexie.records(ada.id, "adjustments")}
    assert set(exported) == {"c1", "c2", "c3"}
