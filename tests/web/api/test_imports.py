"""A browser's export goes in over HTTP, by a person without an operator, and comes out equal."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.dexie.imports import MOST_BYTES, MOST_OPEN
from domain.dexie.records import TABLES, Record
from domain.dexie.reports import BATCH, MOST_LISTED
from tests.attack.wire import head
from tests.cli.test_dexie import a_critique, a_generation, an_adjustment, an_insight, in_order
from tests.cutting import Died, Moments, rescue_all, watched
from tests.domain.dexie.test_records import records
from tests.drain import drain
from tests.integrations.store.conftest import small_disk
from tests.seeds import seeded
from tests.wait import until
from tests.web.api.test_api import refused
from tests.web.api.test_media import Tenant, Web, of_files, serving
from workers.jobs.upkeep import media as clear_media
from workers.ops import imports
from workers.settings import Settings

__all__ = ["of_files", "small_disk"]

WHOLE: dict[str, list[Any]] = {
    "generations": [a_generation(), a_generation(isFavorite=True, mood="unknown to us")],
    "critiques": [a_critique(), a_critique(appliedAt="2025-02-01T00:00:00.000Z")],
    "insights": [an_insight()],
    "adjustments": [an_adjustment()],
}


@pytest.fixture
def web(of_files: Settings) -> Iterator[Web]:
    with serving(of_files) as served:
        yield served


def a_mover(web: Web) -> Tenant:
    return Tenant(web, "generations:read", "generations:write")


def send(tenant: Tenant, content: Any, **options: Any) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | options.pop("headers", {})
    return tenant("POST", "/api/import", content=body, headers=headers, **options)


def moved_in(web: Web, tenant: Tenant, content: Any) -> dict[str, Any]:
    """Send a file, have it checked and applied, and return the import."""
    answer = send(tenant, content, params={"apply": "true"})
    assert answer.status_code == 202, answer.text
    drain(web.app)
    shown: dict[str, Any] = tenant("GET", answer.headers["Location"]).json()
    return shown


def exported(tenant: Tenant) -> dict[str, list[Any]]:
    answer = tenant("GET", "/api/export")
    assert answer.status_code == 200, answer.text
    return {table: in_order(records) for table, records in answer.json().items()}


def test_an_export_goes_in_once_it_is_wanted_and_comes_out_equal(web: Web) -> None:
    ada = a_mover(web)
    sent = send(ada, WHOLE)
    assert (sent.status_code, sent.json()["status"], sent.json()["report"]) == (202, "checking", None)
    path = sent.headers["Location"]
    drain(web.app)
    checked = ada("GET", path).json()
    assert (checked["status"], checked["percent"], checked["error"]) == ("checked", None, None)
    would = {table: counts["imported"] for table, counts in checked["report"]["tables"].items()}
    assert would == {table: len(records) for table, records in WHOLE.items()}
    assert exported(ada) == {key: [] for key in WHOLE}
    assert [ada("POST", f"{path}/apply").json()["status"] for _ in range(2)] == ["importing"] * 2
    drain(web.app)
    done = ada("GET", path).json()
    assert (done["status"], done["percent"], done["report"]) == ("done", 100, checked["report"])
    assert exported(ada) == {table: in_order(records) for table, records in WHOLE.items()}
    assert web.files() == []
    assert ada("POST", f"{path}/apply").json() == done
    assert [each["id"] for each in ada("GET", "/api/import").json()["imports"]] == [done["id"]]


def test_an_envelope_of_dexie_export_import_comes_out_as_records(web: Web) -> None:
    ada, record = a_mover(web), a_generation()
    row = record | {"date": 1736935200000, "$types": {"date": "date"}}
    data = [{"tableName": "generations", "inbound": True, "rows": [row, {"id": "x", "$types": True, "$": 1}]}]
    body = {"databaseName": "ViralDashboard", "databaseVersion": 2, "tables": [], "data": data}
    done = moved_in(web, ada, {"formatName": "dexie", "formatVersion": 1, "data": body})
    assert done["report"]["tables"]["generations"] == {"imported": 0, "coerced": 1, "skipped": 0, "rejected": 1}
    assert [each["reason"] for each in done["report"]["records"]] == [
        "expected an object, found a number",
        "date: was a JavaScript date",
    ]
    assert exported(ada)["generations"] == [record | {"date": "2025-01-15T10:00:00.000Z"}]


@settings(
    max_examples=4,  # each is a tenant and its file; `tests/domain/dexie` has hundreds
    phases=[Phase.generate],  # shrinking would make hundreds of tenants
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.fixed_dictionaries({table: st.lists(records(table), max_size=4) for table in TABLES}))
def test_whatever_goes_in_comes_out_record_by_record(web: Web, sent: dict[str, list[Any]]) -> None:
    ada = a_mover(web)
    done = moved_in(web, ada, sent)
    assert done["status"] == "done", done["error"]
    left_out = {
        (each["table"], each["index"])
        for each in done["report"]["records"]
        if each["outcome"] in ("skipped", "rejected")
    }
    wanted = {
        table: [record for n, record in enumerate(listed) if (table, n) not in left_out]
        for table, listed in sent.items()
    }
    assert canonical(exported(ada)) == canonical(wanted)
    counts = done["report"]["tables"].values()
    assert sum(sum(each.values()) for each in counts) == sum(map(len, sent.values()))


def canonical(tables: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {
        table: sorted(json.dumps(plain(each), sort_keys=True) for each in listed) for table, listed in tables.items()
    }


def plain(value: Any) -> Any:
    """Return the JSON value with JavaScript's numbers: 1 and 1.0 are one."""
    match value:
        case bool():
            return value
        case int() | float():
            return float(value) + 0.0
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case list():
            return [plain(each) for each in value]
    return value


DAMAGED: dict[bytes, str] = {
    b"": "the file is empty",
    b"[]": "an export of the old app begins with {",
    b"\x1f\x8b\x08\0\0": "it is compressed: unpack it first",
    b'{"users": [{"secret": 1}]}': "no export of the old app: it has none of",
    b'{"generations": [%s, {"id": "b", "da': "the file was cut off",
    b'{"generations": [%s, {"id": tru3}]}': "not JSON at character",
    b'{"generations": [%s, ' + b'{"a":' * 5000 + b'"': "the file was cut off",
    b'{"generations": [%s]} {}': "more follows after its end",
}


def test_of_a_damaged_or_foreign_file_nothing_is_taken_and_its_text_stays_on_its_row(web: Web) -> None:
    ada = a_mover(web)
    for content, why in DAMAGED.items():
        body = content.replace(b"%s", json.dumps(a_generation(mood="confidential")).encode())
        failed = moved_in(web, ada, body)
        assert failed["status"] == "failed"
        assert failed["error"].startswith(f"the file: {why}"), failed["error"]
        assert (failed["report"], web.files()) == (None, [])
        assert refused(ada("POST", f"/api/import/{failed['id']}/apply")) == (409, "NOT_CHECKED")
    assert not any(exported(ada).values())
    with web.app.db.transaction(SYSTEM) as tx:
        jobs = tx.jobs.list_recent(limit=100).rows
    assert {each["status"] for each in jobs if each["job_type"] == "imports.check"} == {"completed"}


def test_hostile_records_cost_themselves(web: Web) -> None:
    ada = a_mover(web)
    plain = json.dumps(a_generation()).encode()
    odd = [
        rb'{"id": "a\u0000\ud83d", "mood": "\ud800"}',
        b'{"id": "huge", "mood": 1e400, "other": -1e400}',
        b'{"id": "deep", "mood": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"id": 1' + b"0" * 5000 + b"}",
        b'{"ID": "none"}',
    ]
    content = b'{"odd \xff": [1], "generations": [%s]}' % b", ".join([plain, *odd])
    done = moved_in(web, ada, content)
    assert done["report"]["tables"]["generations"] == {"imported": 1, "coerced": 2, "skipped": 0, "rejected": 3}
    assert {each["outcome"] for each in done["report"]["records"]} == {"coerced", "skipped", "rejected"}
    assert len(exported(ada)["generations"]) == 3


def test_a_report_is_bounded_and_counts_all(web: Web) -> None:
    ada = a_mover(web)
    done = moved_in(web, ada, b'{"generations": [%s]}' % b",".join([b"{}"] * 5_000))
    report = done["report"]
    assert report["tables"]["generations"]["rejected"] == 5_000
    assert (len(report["records"]), report["left_out"]) == (MOST_LISTED, 5_000 - MOST_LISTED)


def test_what_is_there_stays_and_another_tenants_rows_are_neither_read_nor_changed(web: Web) -> None:
    ada, bob = a_mover(web), a_mover(web)
    mine = moved_in(web, ada, WHOLE)
    before = exported(ada)
    path = f"/api/import/{mine['id']}"
    assert {refused(bob(method, path)) for method in ("GET", "DELETE")} == {(404, "NOT_FOUND")}
    assert refused(bob("POST", f"{path}/apply")) == (404, "NOT_FOUND")
    assert bob("GET", "/api/import").json() == {"imports": [], "next": None}
    changed = {table: [each | {"mood": "mine"} for each in listed] for table, listed in WHOLE.items()}
    theirs = moved_in(web, bob, changed)
    assert {each["reason"] for each in theirs["report"]["records"]} == {"id: taken; the row has one made from it"}
    again = moved_in(web, ada, changed)
    assert {table: each["skipped"] for table, each in again["report"]["tables"].items()} == {
        table: len(listed) for table, listed in WHOLE.items()
    }
    assert exported(ada) == before
    assert exported(bob) == {table: in_order(listed) for table, listed in changed.items()}
    assert [each["id"] for each in ada("GET", "/api/import", params={"limit": 1}).json()["imports"]] == [again["id"]]


def test_one_file_sent_by_many_at_once_is_there_once(web: Web) -> None:
    """A tenant's files are worked on one after another; two tenants' at once, though they want the same ids."""
    ada, bob = a_mover(web), a_mover(web)
    content = {"generations": [a_generation() for _ in range(250)]}  # more than one commit
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(partial(send, params={"apply": "true"}), [ada, bob] * 2, [content] * 4))
        assert {answer.status_code for answer in sent} == {202}
        list(pool.map(drain, [web.app] * 6))
        until(lambda: all(done(tenant) == ["done"] * 2 for tenant in (ada, bob)), "all to be taken over")
    for tenant in (ada, bob):
        assert exported(tenant) == {key: in_order(content.get(key, [])) for key in WHOLE}
        counts = [show["report"]["tables"]["generations"] for show in shown(tenant)]
        assert sorted(each["skipped"] for each in counts) == [0, 250]
    assert web.files() == []


def shown(tenant: Tenant) -> list[dict[str, Any]]:
    ids = [each["id"] for each in tenant("GET", "/api/import").json()["imports"]]
    return [tenant("GET", f"/api/import/{import_id}").json() for import_id in ids]


def done(tenant: Tenant) -> list[str]:
    return [each["status"] for each in tenant("GET", "/api/import").json()["imports"]]


def test_a_tenant_has_a_few_imports_that_are_not_over_and_no_more(web: Web) -> None:
    ada = a_mover(web)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(ada, WHOLE), range(8)))
    taken = [answer for answer in answers if answer.status_code == 202]
    assert len(taken) <= MOST_OPEN
    while len(taken) < MOST_OPEN:
        taken.append(send(ada, WHOLE))
        assert taken[-1].status_code == 202
    assert refused(send(ada, WHOLE)) == (409, "TOO_MANY_IMPORTS")
    assert len(web.files()) == MOST_OPEN
    assert ada("DELETE", taken[0].headers["Location"]).status_code == 204
    assert send(ada, WHOLE).status_code == 202
    assert len(web.files()) == MOST_OPEN


def test_what_is_not_an_export_by_its_head_is_refused_before_it_comes(web: Web) -> None:
    ada = a_mover(web)
    assert refused(send(ada, b"x", headers={"Content-Type": "text/plain"})) == (415, "TYPE_UNKNOWN")
    assert refused(send(ada, b"x", headers={"Content-Encoding": "gzip"})) == (415, "ENCODING_UNSUPPORTED")
    reader = Tenant(web, "generations:read")
    assert refused(send(reader, WHOLE)) == (403, "SCOPE_MISSING")
    wire = web.wire()
    lines = [f"Authorization: Bearer {ada.key}", "Content-Type: application/json"]
    wire.send(head("POST", "/api/import", *lines, f"Content-Length: {MOST_BYTES + 1}", "Expect: 100-continue"))
    assert wire.answer() == "413"
    assert (web.files(), done(ada)) == ([], [])


def test_a_store_that_is_full_or_away_keeps_nothing(of_files: Settings, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    large = {"generations": [a_generation(mood="x" * 600_000)]}
    for folder in (small_disk, tmp_path / "file"):
        with serving(Settings.model_validate(of_files.model_dump() | {"media_dir": folder})) as web:
            ada = a_mover(web)
            assert refused(send(ada, large)) == (503, "STORE_UNAVAILABLE")
            assert refused(ada("GET", "/api/export")) == (503, "STORE_UNAVAILABLE")
            assert (web.files(), done(ada)) == ([], [])


def until_over(web: Web, moments: Moments) -> None:
    """Run until no job is live, in a process that dies at its moment, and then in others."""
    try:
        drain(watched(web.app, moments))
    except Died:
        rescue_all(web.app)
        drain(web.app)


def die() -> None:
    raise Died


def three_batches() -> dict[str, list[Any]]:
    """An export that is taken over in three transactions."""
    return {
        "generations": [a_generation(id=f"n{n}") for n in range(2)],
        "critiques": [a_critique(id="c")],
        "adjustments": [an_adjustment(id="a")],
    }


def test_what_is_only_tried_is_reported_as_what_is_taken_over(web: Web) -> None:
    """Records come upon others of earlier batches: by their id, by one that is made for another, and as insights that
    are alike; batches have 250."""
    ada, bob = a_mover(web), a_mover(web)
    theirs = a_critique()
    moved_in(web, bob, {"critiques": [theirs]})
    insights = [an_insight(pattern=f"pattern {n}") for n in range(260)]
    insights += [an_insight(pattern="pattern 3"), an_insight(id=insights[4]["id"], pattern="pattern 5")]
    insights += [an_insight(id=insights[6]["id"], pattern="new"), an_insight(pattern="new"), an_insight(pattern="")]
    generations = [a_generation() for _ in range(255)]
    critiques = [theirs, *(a_critique() for _ in range(255)), theirs, a_critique(id=f"~ {theirs['id']}")]
    adjustments = [an_adjustment() for _ in range(300)]
    content = {"generations": [*generations, *generations[:30]], "critiques": critiques}
    content |= {"insights": insights, "adjustments": [*adjustments, *adjustments[:2]]}
    path = send(ada, content).headers["Location"]
    drain(web.app)
    tried = ada("GET", path).json()
    assert tried["status"] == "checked"
    assert exported(ada) == {key: [] for key in WHOLE}
    assert ada("POST", f"{path}/apply").status_code == 202
    drain(web.app)
    report = ada("GET", path).json()["report"]
    skipped = {table: counts["skipped"] for table, counts in report["tables"].items()}
    assert skipped == {"generations": 30, "critiques": 1, "insights": 3, "adjustments": 2}
    assert report["left_out"] == 0
    assert tried["report"] == report


def test_nobody_waits_for_a_check(web: Web) -> None:
    """Between two batches what was tried is there for nobody, and no row is held."""
    ada, files, looked = a_mover(web), web.app.ports.old_app, 0
    assert files is not None

    class Slow:
        write = files.write

        def records(self, path: Path, watch: Any) -> Iterator[Record]:
            nonlocal looked
            for number, record in enumerate(files.records(path, watch)):
                yield record
                if number and number % BATCH == 0:
                    looked += 1
                    with web.app.db.transaction(ada.id) as tx:
                        tx.driver.execute("SET LOCAL lock_timeout = '1s'")
                        row = {"tenant_id": ada.id, "source_id": "c0"}
                        tx.driver.execute(
                            "INSERT INTO self_critiques (tenant_id, source_id) VALUES (%(tenant_id)s, %(source_id)s)"
                            " ON CONFLICT (tenant_id, source_id) DO UPDATE SET critique = 'changed'",
                            row,
                        )

    path = send(ada, {"critiques": [a_critique(id=f"c{n}") for n in range(600)]}).headers["Location"]
    ports = replace(web.app.ports, old_app=Slow())
    drain(replace(web.app, ports=ports))
    assert (ada("GET", path).json()["status"], looked) == ("checked", 2)


def test_a_process_may_die_at_every_moment_of_an_import(web: Web) -> None:
    """What comes after it ends with the same rows and the same report as if there had been one process; every fifth
    moment, each time others."""
    for at in range(seeded("import").randrange(5), 80, 5):
        ada = a_mover(web)
        path = send(ada, three_batches(), params={"apply": "true"}).headers["Location"]
        moments = Moments(at, die, within_transactions=True)
        until_over(web, moments)
        over = ada("GET", path).json()
        assert (over["status"], over["percent"]) == ("done", 100), moments.passed
        coerced = {table: counts["coerced"] for table, counts in over["report"]["tables"].items()}
        assert coerced == {"generations": 2, "critiques": 1, "insights": 0, "adjustments": 1}, moments.passed
        assert sum(map(len, exported(ada).values())) == 4
        assert web.files() == []
        if not moments.struck:
            break
    assert 20 < at < 77


def test_an_import_stops_where_it_is_cancelled_and_its_file_goes(web: Web) -> None:
    taken = set()
    for at in range(0, 22, 3):
        ada = a_mover(web)
        path = send(ada, three_batches(), params={"apply": "true"}).headers["Location"]
        cancel = partial(imports.cancel, web.app, ada.id, UUID(path.rpartition("/")[2]))
        moments = Moments(at, cancel, within_transactions=False)
        drain(watched(web.app, moments))
        over = ada("GET", path).json()
        if over["status"] == "done":
            break
        assert (over["status"], web.files()) == ("cancelled", []), moments.passed
        assert ada("DELETE", path).status_code == 204
        taken.add(sum(map(len, exported(ada).values())))
        assert refused(ada("POST", f"{path}/apply")) == (409, "NOT_CHECKED")
    assert taken >= {0, 2}, "before anything was taken, and between two batches"


def test_files_whose_time_is_over_are_deleted_and_rows_are_forgotten_later(web: Web) -> None:
    ada = a_mover(web)
    waiting = [send(ada, WHOLE).headers["Location"] for _ in range(2)]
    drain(web.app)
    with web.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE imports SET expires_at = now() - interval '1 second'")
    assert refused(ada("POST", f"{waiting[0]}/apply")) == (409, "NOT_CHECKED")
    assert len(web.files()) == 2
    clear(web)
    assert [each["status"] for each in shown(ada)] == ["cancelled"] * 2
    assert web.files() == []
    with web.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE imports SET deleted_at = now() - interval '91 days'")
    clear(web)
    assert shown(ada) == []


def clear(web: Web) -> None:
    with web.app.db.transaction(SYSTEM) as tx:
        clear_media.enqueue(tx)
    drain(web.app)


def test_an_export_is_of_one_moment(web: Web) -> None:
    ada = a_mover(web)
    with web.app.db.transaction(ada.id) as tx:
        tx.dexie.freeze()
        assert list(tx.dexie.records(ada.id, "generations")) == []
        with web.app.db.separate().transaction(ada.id) as other:
            other.driver.execute("INSERT INTO scoring_adjustments (tenant_id, category) VALUES (%s, 'x')", (ada.id,))
        assert list(tx.dexie.records(ada.id, "adjustments")) == []
    assert len(exported(ada)["adjustments"]) == 1


def test_whoever_reads_an_export_slowly_holds_no_connection_to_postgres(web: Web) -> None:
    ada = a_mover(web)
    moved_in(web, ada, {"generations": [a_generation(mood="x" * 3_000_000) for _ in range(2)]})
    wire = web.wire(4096)
    wire.send(head("GET", "/api/export", f"Authorization: Bearer {ada.key}"))
    assert wire.heard(60)
    with web.app.db.separate().transaction(SYSTEM) as tx:
        busy = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE %s AND pid <> pg_backend_pid()"
        assert tx.driver.execute(busy, ("idle in transaction%",)).fetchone() == (0,)
    assert refused(ada("GET", "/api/export")) == (503, "OVERLOADED")
    assert a_mover(web)("GET", "/api/export").status_code == 200
    wire.abort()
    until(lambda: ada("GET", "/api/export").status_code == 200, "the place of a reader who hung up to be free")
    answer = ada("GET", "/api/export")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="viral-dashboard-export.json"'
    assert web.files() == []
