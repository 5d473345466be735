"""The old app's data comes in whole, says what it had to change, and goes out as it was."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import DBAPIError

from domain.dexie.kinds import LARGEST_RECORD, sayable
from domain.dexie.records import read
from tests.builders import a_tenant, tenant
from tests.cli.shell import PYTHONPATH, Shell, a_process, without_settings
from workers.app import App

OUTCOMES = ("imported", "coerced", "skipped", "rejected")


def a_generation(**fields: Any) -> dict[str, Any]:
    concept = {"id": "k1", "title": "Cats rule", "category": "absurd", "hashtags": ["#cats"], "caption": "Meow"}
    plain = {"id": str(uuid4()), "date": "2025-01-15T10:00:00.000Z", "concepts": [concept], "isFavorite": False}
    return plain | {"trends": [{"id": "t1", "topic": "Cats"}]} | fields


def a_critique(**fields: Any) -> dict[str, Any]:
    gap = {"category": "tech", "platform": "tiktok", "predictedVirality": 85, "actualViralityScore": 62.5}
    plain = {"id": str(uuid4()), "conceptId": "k1", "performanceGap": gap, "critique": "Too sure."}
    plain |= {"hypothesizedReasons": ["late"], "scoringIssues": [], "adjustmentPlan": "less"}
    return plain | {"confidenceLevel": "high", "createdAt": "2025-01-16T10:00:00.000Z"} | fields


def an_insight(**fields: Any) -> dict[str, Any]:
    plain = {"id": str(uuid4()), "category": "tech", "platform": "tiktok", "pattern": "tech-tiktok-over"}
    plain |= {"evidenceCount": 3, "impact": "negative", "recommendation": "apply", "appliedToScoring": False}
    seen = {"discoveredAt": "2025-01-16T10:00:00.000Z", "lastSeenAt": "2025-01-17T10:00:00.000Z"}
    return plain | seen | fields


def an_adjustment(**fields: Any) -> dict[str, Any]:
    plain = {"id": str(uuid4()), "category": "tech", "adjustmentType": "category-weight", "oldValue": 0.9}
    plain |= {"newValue": 0.8100000000000001, "reason": "over", "critiqueId": "c1"}
    return plain | {"appliedAt": "2025-01-17T10:00:00.000Z"} | fields


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an export of these lists."""

    def write(content: bytes | None = None, **tables: list[Any]) -> Path:
        path = tmp_path / f"{uuid4().hex[:6]}.json"
        path.write_bytes(json.dumps(tables).encode() if content is None else content)
        return path

    return write


@pytest.fixture
def ada(app: App) -> UUID:
    return a_tenant(app)


def outcomes(report: dict[str, Any], table: str = "generations") -> list[int]:
    return [report["tables"][table][outcome] for outcome in OUTCOMES]


def exported(viral: Shell, tenant_id: UUID | str, folder: Path) -> dict[str, list[Any]]:
    path = folder / f"{uuid4().hex[:6]}.out.json"
    viral.done("export-dexie", "--tenant", tenant_id, path)
    written: dict[str, list[Any]] = json.loads(path.read_text())
    return {table: sorted(records, key=lambda record: str(record["id"])) for table, records in written.items()}


def in_order(records: list[Any]) -> list[Any]:
    return sorted(records, key=lambda record: str(record["id"]))


def test_an_export_comes_in_and_goes_out_as_it_was(
    viral: Shell, ada: UUID, app: App, save: Save, tmp_path: Path
) -> None:
    whole = {
        "generations": [a_generation(), a_generation(isFavorite=True, mood="unknown to us")],
        "critiques": [a_critique(), a_critique(appliedAt="2025-02-01T00:00:00.000Z")],
        "insights": [an_insight()],
        "adjustments": [an_adjustment()],
    }
    before = tenant(app, ada)
    report = viral.json("import-dexie", save(**whole), "--tenant", ada)
    assert report == {
        "tenant_id": str(ada),
        "tables": {t: dict.fromkeys(OUTCOMES, 0) | {"imported": len(records)} for t, records in whole.items()},
        "records": [],
    }
    assert exported(viral, ada, tmp_path) == {table: in_order(records) for table, records in whole.items()}
    assert tenant(app, ada) == before


def test_importing_again_changes_nothing_and_says_so(viral: Shell, ada: UUID, app: App, save: Save) -> None:
    kept = a_generation(id="not-a-uuid")
    viral.json("import-dexie", save(generations=[kept]), "--tenant", ada)
    with app.db.transaction(ada) as tx:
        mine = tx.generations.by_source(ada, "not-a-uuid")
        assert mine is not None
        tx.generations.toggle_favorite(ada, mine.id)
    report = viral.json("import-dexie", save(generations=[kept | {"concepts": []}]), "--tenant", ada)
    assert outcomes(report) == [0, 0, 1, 0]
    with app.db.transaction(ada) as tx:
        after = tx.generations.by_source(ada, "not-a-uuid")
    assert after is not None
    assert (after.is_favorite, len(after.concepts)) == (True, 1)


def test_what_was_made_here_and_exported_is_known_when_it_comes_back(
    viral: Shell, ada: UUID, app: App, tmp_path: Path
) -> None:
    with app.db.transaction(ada) as tx:
        tx.driver.execute("INSERT INTO generations (tenant_id) VALUES (%s)", (ada,))
    viral.done("export-dexie", "--tenant", ada, tmp_path / "out.json")
    assert outcomes(viral.json("import-dexie", tmp_path / "out.json", "--tenant", ada)) == [0, 0, 1, 0]


def test_another_tenants_rows_stay_theirs(viral: Shell, ada: UUID, app: App, save: Save, tmp_path: Path) -> None:
    """The original overwrote them: its ids were unique for all tenants together."""
    bob = a_tenant(app, name="Bob")
    record = a_generation()
    viral.json("import-dexie", save(generations=[record]), "--tenant", ada)
    report = viral.json("import-dexie", save(generations=[record | {"concepts": []}]), "--tenant", bob)
    assert outcomes(report) == [0, 1, 0, 0]
    assert report["records"][0]["reason"] == "id: taken; the row has one made from it"
    assert exported(viral, ada, tmp_path)["generations"] == [record]
    assert exported(viral, bob, tmp_path)["generations"] == [record | {"concepts": []}]


TRICKY = b"""\xef\xbb\xbf{"generations": [
    {"id": "00000000-0000-4000-8000-000000000001", "date": "2025-01-15T10:00:00.000Z",
     "concepts": [], "trends": [], "isFavorite": true},
    {"id": "legacy-1", "date": "not a date", "isFavorite": 1,
     "concepts": [{"title": "a\\u0000b \\ud800", "score": NaN}], "trends": [{"score": 1e400}]},
    {"id": "00000000-0000-4000-8000-000000000001", "date": "2020-01-01", "concepts": [], "trends": [], "isFavorite": 0},
    null,
    {"date": "2025-01-15T10:00:00.000Z"},
    {"id": 17, "date": 1736935200000, "concepts": "none", "trends": null}
], "critiques": [
    {"id": "c", "conceptId": "%s", "createdAt": "",
     "performanceGap": {"predictedVirality": 123456789, "actualViralityScore": -Infinity}}
], "insights": [
    {"id": "i1", "category": "tech", "platform": "tiktok", "pattern": "%s", "evidenceCount": 1e30},
    {"id": "i2", "category": "tech", "platform": "tiktok", "pattern": "%s"}
], "adjustments": [
    {"id": "a1", "category": "tech", "oldValue": 99999999.99999, "newValue": 1e400}
], "settings": [{"id": 1}], "exportedAt": "2025-02-01"}
""" % (b"x" * 3000, b"p" * 5000, b"p" * 5000)


def test_every_record_of_a_tricky_file_is_accounted_for(
    viral: Shell, ada: UUID, app: App, save: Save, tmp_path: Path
) -> None:
    report = viral.json("import-dexie", save(TRICKY), "--tenant", ada)
    assert {table: outcomes(report, table) for table in report["tables"]} == {
        "generations": [1, 2, 1, 2],
        "critiques": [0, 1, 0, 0],
        "insights": [0, 1, 1, 0],
        "adjustments": [0, 1, 0, 0],
        "settings": [0, 0, 1, 0],
    }
    reasons = {(each["table"], each["index"]): each["reason"] for each in report["records"]}
    assert "half a surrogate pair replaced by U+FFFD" in reasons["generations", 1]
    assert "a NUL character replaced by U+FFFD" in reasons["generations", 1]
    assert 'date: "not a date" is no date' in reasons["generations", 1]
    first = "00000000-0000-4000-8000-000000000001"
    assert reasons["generations", 2] == f"a record of this id is there already: the row {first}"
    assert reasons["generations", 3] == "expected an object, found nothing"
    assert reasons["generations", 4] == "no id"
    assert "concepts: expected a list, found a text" in reasons["generations", 5]
    duplicated = re.fullmatch(
        r'it duplicates the record "i1" \(the row (.*)\): same category, platform and pattern', reasons["insights", 1]
    )
    with app.db.transaction(ada) as tx:
        [insight] = tx.driver.execute("SELECT id FROM reflexion_insights").fetchall()
    assert duplicated
    assert duplicated[1] == str(insight[0])
    assert all(reasons.values())
    # And what was coerced goes out as it came, but for numbers that JSON does not have.
    file = json.loads(TRICKY[3:])
    out = exported(viral, ada, tmp_path)
    assert out["generations"] == in_order([sayable(file["generations"][n]) for n in (0, 1, 5)])
    assert out["critiques"] == [sayable(file["critiques"][0])]
    assert out["insights"] == [file["insights"][0]]
    assert out["adjustments"] == [sayable(file["adjustments"][0])]


def test_the_envelope_of_dexie_export_import_is_read(viral: Shell, ada: UUID, save: Save, tmp_path: Path) -> None:
    record = a_generation(date=1736935200000)
    types = {"date": "date", "concepts": "arrayNonindexKeys", "concepts.0.hashtags": "arrayNonindexKeys"}
    rows = [record | {"$types": types}]
    tables = [{"name": "generations", "schema": "id,date,isFavorite", "rowCount": 1}]
    data = [{"tableName": "generations", "inbound": True, "rows": rows}]
    data += [{"tableName": "critiques", "inbound": False, "rows": [["k", a_critique()]]}]
    body = {"databaseName": "ViralDashboard", "databaseVersion": 2, "tables": tables, "data": data}
    path = save(json.dumps({"formatName": "dexie", "formatVersion": 1, "data": body}).encode())
    report = viral.json("import-dexie", path, "--tenant", ada)
    assert (outcomes(report), outcomes(report, "critiques")) == ([0, 1, 0, 0], [1, 0, 0, 0])
    assert report["records"][0]["reason"] == "date: was a JavaScript date"
    assert exported(viral, ada, tmp_path)["generations"] == [record | {"date": "2025-01-15T10:00:00.000Z"}]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"[]", "an export of the old app begins with {"),
        (b"\x1f\x8b\x08\x00\x00", "it is compressed: unpack it first"),
        (b'{"users": []}', "no export of the old app: it has none of generations, critiques, insights, adjustments"),
        (b'{"generations": {}}', "generations is no list"),
        (b'{"generations": [%s, {"id": "b", "da', "the file was cut off"),
        (b'{"generations": [%s', "the file was cut off"),
        (b'{"generations": [%s]', "the file was cut off"),
        (b'{"generations": [%s, ' + b'{"a":' * 5000 + b'"', "the file was cut off"),
        (b'{"generations": [%s, ' + b'{"a":' * 5000 + b"]", "not JSON at character"),
        (b'{"generations": [%s]} {}', "more follows after its end"),
        (b'{"generations": [%s, {"id": tru3}]}', "not JSON at character"),
        (b'{"formatName": "dexie", "data": {"data": [{"rows": []}]}}', "rows come before their tableName"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_in_one_line_and_nothing_is_done(
    viral: Shell, app: App, ada: UUID, save: Save, tmp_path: Path, content: bytes, why: str
) -> None:
    if b"%s" in content:
        content %= json.dumps(a_generation()).encode()
    path = save(content)
    line = viral.refused("import-dexie", path, "--new-tenant", "Bob")
    assert line.startswith(f"viral: {path}: {why}")
    assert line.endswith("; nothing was imported")
    assert [row["name"] for row in viral.json("tenants", "list")] == ["Ada's shop"]


def test_a_record_that_is_nested_too_deep_does_not_lose_the_others(viral: Shell, ada: UUID, save: Save) -> None:
    deep = b'{"id": "d", "]\\"": ' + b'{"a": [' * 10_000 + b'"}]' + b"x" * 100_000 + b'\\""' + b"]}" * 10_000 + b"}"
    deep_id = b'{"id": ' + b"[" * 900 + b"]" * 900 + b"}"
    first, last = (json.dumps(a_generation()).encode() for _ in range(2))
    content = b'{"odd": %s, "generations": [%s]}' % (deep, b", ".join([first, deep, deep_id, last]))
    report = viral.json("import-dexie", save(content), "--tenant", ada)
    assert outcomes(report) == [2, 0, 0, 2]
    assert [(each["index"], each["id"], each["reason"]) for each in report["records"]] == [
        (1, None, "nested more than 200 levels deep"),
        (2, None, "nested more than 200 levels deep"),
    ]


@pytest.mark.parametrize("order", list(permutations([1, "1", 1.0, "1.0"])), ids=str)
def test_the_keys_1_and_text_1_are_two_and_1_is_1_0(app: App, ada: UUID, order: tuple[Any, ...]) -> None:
    rows = [read("generations", a_generation(id=id)) for id in order]
    with app.db.transaction(ada) as tx:
        one_by_one = [tx.dexie.add(ada, "generations", [row])[0].outcome for row in rows[:2]]
        rest = [outcome.outcome for outcome in tx.dexie.add(ada, "generations", rows[2:])]
        again = [outcome.outcome for outcome in tx.dexie.add(ada, "generations", rows[::-1])]
        back = [record["id"] for record in tx.dexie.records(ada, "generations")]
    number = next(id for id in order if not isinstance(id, str))
    assert [*one_by_one, *rest].count("skipped") == 1
    assert again == ["skipped"] * 4
    assert sorted(map(repr, back)) == sorted(map(repr, [number, "1", "1.0"]))


def test_a_record_that_was_damaged_before_is_imported_and_reported_so(
    viral: Shell, ada: UUID, save: Save, tmp_path: Path
) -> None:
    concept = {"title": "Caf\ufffd", "caption": "a \\ufffd that is only written"}
    damaged = a_generation(concepts=[concept])
    both = a_generation(mood="\ufffd", concepts=[{"title": "\x00"}])
    sound = a_generation(concepts=[{"title": "\\ufffd"}])
    report = viral.json("import-dexie", save(generations=[damaged, both, sound]), "--tenant", ada)
    assert outcomes(report) == [2, 1, 0, 0]
    first, second = report["records"]
    result = "the export was damaged: U+FFFD stands for what was lost in"
    assert (first["index"], first["outcome"], first["reason"]) == (0, "imported", f'{result} "concepts"')
    assert (second["index"], second["outcome"]) == (1, "coerced")
    assert second["reason"] == f'a NUL character replaced by U+FFFD; {result} "mood"'
    assert exported(viral, ada, tmp_path)["generations"] == in_order([damaged, both, sound])


def test_a_row_that_stands_for_more_than_can_be_held_is_refused_by_its_number(
    viral: Shell, ada: UUID, save: Save
) -> None:
    bomb: dict[str, Any] = {"id": "b", "k0": ["x"]}
    bomb |= {f"k{n}": {"l": f"#k{n - 1}", "r": f"#k{n - 1}"} for n in range(1, 40)}
    bomb["$types"] = {f"k{n}.{side}": "#" for n in range(1, 40) for side in "lr"}
    data = [{"tableName": "generations", "inbound": True, "rows": [a_generation(), bomb, a_generation()]}]
    content = json.dumps({"formatName": "dexie", "formatVersion": 1, "data": {"data": data}}).encode()
    report = viral.json("import-dexie", save(content), "--tenant", ada)
    assert outcomes(report) == [2, 0, 0, 1]
    [refused] = report["records"]
    assert (refused["table"], refused["index"]) == ("generations", 1)
    assert refused["reason"] == "more than 4,194,304 characters when the references in it are written out"


def parts_of_a_hostile_file() -> Iterator[bytes]:
    """About 38 MB, of which four records can be read."""
    large = LARGEST_RECORD // 1000 + 1
    plain = json.dumps(a_generation()).encode()
    fitting = b'{"id": "fits", "mood": [' + b"[], " * 900_000 + b"[]]}"
    yield b'{"odd": [' + b"1" * 1000 * large + b'], "generations": [' + plain + b", "
    yield from [b'{"id": "text", "mood": "', *[b'\\"' * 500] * large, b'"}, ']
    yield from [b'{"id": "list", "mood": [', *[b'"]", ' * 200] * large, b"1]}, "]
    yield from [b'{"id": "deep", "mood": ', *[b'{"a": ' * 20] * 40_000, b"1", *[b"}" * 20] * 40_000, b"}, "]
    yield from [b'{"id": ', *[b"1" * 1000] * large, b"}, ", *[b"9" * 1000] * large, b", "]
    yield from [b'"', *[b"\\\\" * 500] * large, b'", ']
    yield from [fitting.replace(b"fits", b"fits%d" % n) + b", " for n in range(2)]
    yield from [plain.replace(b'"id"', b'"ID"', 1), b", ", json.dumps(a_generation()).encode(), b"]"]
    for n in range(300):
        yield b', "table %d": [%s]' % (n, b", ".join([b'{"id": 1}'] * 20))
    yield b"}"


@pytest.mark.proof
def test_no_more_than_a_few_records_are_in_memory_whatever_the_file_is(viral: Shell, ada: UUID, tmp_path: Path) -> None:
    path = tmp_path / "hostile.json"
    with path.open("wb") as file:
        file.writelines(parts_of_a_hostile_file())
    result, peak = peak_memory(viral.environment, "import-dexie", str(path), "--tenant", str(ada), "--json")
    report = json.loads(result)
    assert outcomes(report) == [2, 2, 0, 7]
    refused = [(each["index"], each["reason"]) for each in report["records"] if each["outcome"] == "rejected"]
    too_large = "larger than 4,194,304 characters"
    assert refused == [
        (1, too_large),
        (2, too_large),
        (3, "nested more than 200 levels deep"),
        (4, too_large),
        (5, too_large),
        (6, too_large),
        (9, "no id"),
    ]
    assert len(report["tables"]) == 51
    assert report["tables"]["(other tables)"]["skipped"] > 5000
    assert peak < 700, f"{peak} MB"


MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True)
sys.stdout.buffer.write(done.stdout)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=sys.stderr)
"""


def peak_memory(environment: dict[str, str], *words: str) -> tuple[bytes, int]:
    """What a command of the shell says, and how many MB it took."""
    command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "cli.main", *words]
    clean = without_settings() | {"PYTHONPATH": PYTHONPATH} | environment
    done = subprocess.run(command, env=clean, capture_output=True, timeout=300, check=True)
    return done.stdout, int(done.stderr)


def test_a_pipe_may_rest_for_longer_than_a_transaction_usually_may(app: App, ada: UUID) -> None:
    """Thirty records of 20 MB that are passed over take longer, too, on a busy machine."""
    with app.db.transaction(ada) as tx:
        tx.driver.execute("SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        tx.dexie.allow_rest()
        time.sleep(0.5)  # what is tried is that nothing happens meanwhile
        assert tx.dexie.try_lock()


def test_a_file_may_come_through_a_pipe(viral: Shell, ada: UUID, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = json.dumps({"generations": [a_generation() for _ in range(300)]})
    with ThreadPoolExecutor() as pool:
        pool.submit(pipe.write_text, content)
        assert outcomes(viral.json("import-dexie", pipe, "--tenant", ada)) == [300, 0, 0, 0]
    words = ("import-dexie", "-", "--tenant", str(ada), "--json")
    importing = a_process(viral.environment, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = importing.communicate(content, timeout=90)
    assert outcomes(json.loads(out)) == [0, 0, 300, 0]


def test_an_error_that_is_not_the_records_loses_none(app: App, ada: UUID) -> None:
    """Somebody else has the rows: whoever cannot wait for them must not say that the record was bad."""
    row = read("generations", a_generation())
    with app.db.transaction(ada) as other:
        other.dexie.add(ada, "generations", [row])
        with app.db.separate().transaction(ada) as tx, pytest.raises(DBAPIError, match="lock timeout"):
            tx.driver.execute("SET LOCAL lock_timeout = '1ms'")
            tx.dexie.add(ada, "generations", [row])


def test_a_batch_does_not_walk_over_the_rows_that_were_added_before_it(app: App, ada: UUID) -> None:
    """Those of this very transaction are in no statistics: a plan that reads a tenant's rows looks cheap, and an import
    of 100,000 records took the square of their number."""
    batches, of = 8, 100
    read_rows = "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = %s"
    with app.db.transaction(ada) as tx:
        for n in range(batches):
            rows = [read("adjustments", an_adjustment(id=f"a{n * of + m}")) for m in range(of)]
            added = tx.dexie.add(ada, "adjustments", rows)
            assert {each.outcome for each in added} == {"coerced"}
        [walked] = tx.driver.execute(read_rows, ("scoring_adjustments",)).fetchone() or [0]
    assert walked < batches * of


def test_imports_go_one_by_one(viral: Shell, app: App, ada: UUID, save: Save) -> None:
    """In opposite orders they would wait for each other, until Postgres ends one of them."""
    words = ("import-dexie", str(save(generations=[a_generation()])), "--tenant", str(ada), "--json")
    with app.db.transaction(ada) as tx:
        assert tx.dexie.try_lock()
        importing = a_process(viral.environment, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert importing.stderr is not None
        assert importing.stderr.readline() == "Another import is under way; waiting for its end.\n"
    out, _ = importing.communicate(timeout=90)
    assert outcomes(json.loads(out)) == [1, 0, 0, 0]


def test_a_new_tenant_is_made_for_it(viral: Shell, app: App, save: Save) -> None:
    path = save(generations=[a_generation()])
    dry = viral.json("import-dexie", path, "--new-tenant", "Bob", "--dry-run")
    assert (dry["tenant_id"], outcomes(dry)) == (None, [1, 0, 0, 0])
    assert viral.json("tenants", "list") == []
    bob = UUID(viral.json("import-dexie", path, "--new-tenant", "Bob")["tenant_id"])
    row = tenant(app, bob)
    assert (row["name"], row["used_quota"], row["monthly_quota"]) == ("Bob", 0, 10)
    with app.db.transaction(bob) as tx:
        assert len(tx.generations.history(bob).generations) == 1


def test_a_dry_run_says_what_would_happen_and_changes_nothing(viral: Shell, ada: UUID, app: App, save: Save) -> None:
    result = viral.done("import-dexie", save(TRICKY), "--tenant", ada, "--dry-run")
    assert "generations  1         2        1        2" in result.lines
    assert "generations[4] -: rejected: no id" in result.lines
    assert "Nothing was changed: a dry run." in result.lines
    with app.db.transaction(ada) as tx:
        assert tx.generations.history(ada).generations == []


def test_senseless_words_are_usage_errors(viral: Shell, save: Save) -> None:
    path = save(generations=[])
    assert "either --tenant ID or --new-tenant NAME" in viral.senseless("import-dexie", path)
    viral.senseless("import-dexie", path, "--tenant", uuid4(), "--new-tenant", "Bob")
    viral.senseless("import-dexie", path.with_name("none.json"), "--new-tenant", "Bob")
    assert "is a directory" in viral.senseless("import-dexie", path.parent, "--new-tenant", "Bob")
    viral.senseless("export-dexie", path)
    tenant_id = viral.json("import-dexie", path, "--new-tenant", "Ada")["tenant_id"]
    nowhere = path.parent / "none" / "out.json"
    assert f"{nowhere} cannot be written: No such file" in viral.senseless(
        "export-dexie", nowhere, "--tenant", tenant_id
    )
    assert "no tenant has the id" in viral.refused("import-dexie", path, "--tenant", uuid4())
    assert "no tenant has the id" in viral.refused("export-dexie", path, "--tenant", uuid4())
