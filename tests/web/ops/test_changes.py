import psycopg
from starlette.testclient import TestClient

from db.security import seeing_all_tenants

EVIL = '"><script>alert(1)</script>'


def test_changes_are_shown_newest_first_page_by_page(ops: TestClient, database_url: str) -> None:
    with psycopg.connect(seeing_all_tenants(database_url)) as connection:
        connection.execute(
            "INSERT INTO changes (kind, subject, before, after) SELECT 'limit', 'llm', NULL, "
            "jsonb_build_object('max_running', n) FROM generate_series(1, 101) AS n"
        )
        connection.execute(
            "INSERT INTO changes (kind, subject, after) VALUES ('deploy', 'web', '{\"release\": \"v7\"}')"
        )
    text = ops.get("/ops/changes").text
    assert "web runs v7" in text
    assert "llm: max_running: none → 2 <" not in text
    assert "before=" in text
    assert "web runs v7" not in ops.get("/ops/changes?kind=limit").text
    assert "llm: max_running: none → 1 <" in ops.get("/ops/changes?before=3").text


def test_texts_of_a_change_are_no_markup(ops: TestClient, database_url: str) -> None:
    with psycopg.connect(seeing_all_tenants(database_url)) as connection:
        for kind in ("deploy", "setting", "limit", "pause", "migration"):
            connection.execute(
                "INSERT INTO changes (kind, subject, before, after, cause) "
                "VALUES (%(k)s, %(x)s, jsonb_build_object(%(x)s::text, %(x)s::text), "
                "jsonb_build_object('release', %(x)s::text), %(x)s)",
                {"k": kind, "x": EVIL},
            )
    assert "<script>alert" not in ops.get("/ops/changes").text


def test_a_filter_that_cannot_be_is_refused(ops: TestClient) -> None:
    for query in ("kind=x", "since=x", "before=x", "before=99999999999999999999", f"kind={EVIL}"):
        response = ops.get(f"/ops/changes?{query}")
        assert response.status_code == 400, query
        assert "<script>alert" not in response.text
    assert ops.get("/ops/changes?since=2026-11-01T00:00&kind=&before=").status_code == 200


def test_without_a_change_it_is_said_what_would_be_there(ops: TestClient) -> None:
    assert "A deploy, changed settings" in ops.get("/ops/changes").text
