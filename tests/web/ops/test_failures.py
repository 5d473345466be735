import psycopg
from starlette.testclient import TestClient

from db.security import seeing_all_tenants

EVIL = '"><script>alert(1)</script>'


def test_errors_are_no_markup(ops: TestClient, database_url: str) -> None:
    with psycopg.connect(seeing_all_tenants(database_url)) as connection:
        values = {"x": EVIL}
        connection.execute(
            "INSERT INTO job_queue (job_type, queue, status, completed_at) VALUES (%(x)s, %(x)s, 'failed', now())",
            values,
        )
        connection.execute(
            "INSERT INTO job_attempts (job_id, attempt, outcome, error_class, error_message, error_group, release) "
            "SELECT id, 1, 'failed', %(x)s, %(x)s, %(x)s, %(x)s FROM job_queue",
            values,
        )
        connection.execute(
            "INSERT INTO changes (kind, subject, after) "
            "VALUES ('deploy', 'worker', jsonb_build_object('release', %(x)s::text))",
            values,
        )
    text = ops.get("/ops/failures").text
    assert "alert(1)" in text
    assert "<script>alert" not in text
    text = ops.get("/ops/failures/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E").text
    assert "<script>alert" not in text


def test_a_group_that_is_not_there_says_so(ops: TestClient) -> None:
    response = ops.get("/ops/failures/E-0")
    assert response.status_code == 404
    assert "no failure of the group E-0" in response.text
    assert "No attempt has failed" in ops.get("/ops/failures").text
