"""Content that is larger than it looks, or than anybody's should be: files of the old app, and pages of the history."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from tests.attack.stage import CREDENTIAL, OWN, ROOT, Limits, Stage, attack
from tests.attack.wire import head

IMPORT = Limits(rss_mb=600, webhook_p99_ms=None)
"""The bound that README.md names, for a file of any size."""

MEGABYTE = 2**20
PLAIN = b'{"id": "plain %d", "date": "2025-01-15T10:00:00.000Z", "concepts": [], "trends": [], "isFavorite": true}'
CONCEPT = (
    b'{"title": "Cats [rule]", "category": "absurd", "hashtags": ["#a", "#b"], "caption": "\\"Meow\\"", "score": 1.5}, '
)
PART = CONCEPT * 1000


@attack("an exported row that refers to itself again and again", needs=(OWN,), limits=IMPORT)
def references(stage: Stage) -> None:
    row: dict[str, Any] = {"id": "bomb", "k0": ["x"]}
    row |= {f"k{n}": {"l": f"#k{n - 1}", "r": f"#k{n - 1}"} for n in range(1, 60)}
    row["$types"] = {f"k{n}.{side}": "#" for n in range(1, 60) for side in "lr"}
    circle = {"id": "circle", "a": {"b": "#"}, "$types": {"a.b": "#"}}
    many = {"id": "many", "a": "x" * 100_000, "l": ["#a"] * 9000, "$types": {f"l.{n}": "#" for n in range(9000)}}
    rows = [{"id": "plain"}, row, circle, many, {"id": "plain too"}]
    data = {"data": [{"tableName": "generations", "inbound": True, "rows": rows}]}
    report = imported(
        stage, [json.dumps({"formatName": "dexie", "formatVersion": 1, "data": data}).encode()], within=60
    )
    expect_rejected(stage, report, [1, 2, 3], others=2)


@attack("one exported record of 200 MB", needs=(OWN,), limits=IMPORT)
def huge_record(stage: Stage) -> None:
    report = imported(stage, generations([large(stage.of(200, 12))]), within=300)
    expect_rejected(stage, report, [1], others=2)


@attack("thirty exported records of 20 MB", needs=(OWN,), slice=False, limits=IMPORT)
def huge_records(stage: Stage) -> None:
    count = stage.of(30, 3)
    report = imported(stage, generations([large(stage.of(20, 6))] * count), within=600)
    expect_rejected(stage, report, list(range(1, count + 1)), others=2)


@attack("exported records that are just small enough, and as wide as can be", needs=(OWN,), slice=False, limits=IMPORT)
def wide_records(stage: Stage) -> None:
    wide = [b'{"id": "wide", "concepts": [{"a": [', b"[]," * 1_390_000, b"[]]}]}"]
    count = stage.of(10, 2)
    report = imported(stage, generations([wide] * count), within=300)
    counts = report["tables"]["generations"]
    stage.expect(counts["rejected"] == 0, f"{counts['rejected']} of them were rejected")


@attack("exported strings, numbers, names and nests without end", needs=(OWN,), slice=False, limits=IMPORT)
def endless_values(stage: Stage) -> None:
    times = stage.of(50, 5)
    records = [
        [b'{"id": "text", "mood": "', *[b'\\"\\\\' * (MEGABYTE // 4)] * times, b'"}'],
        [b'{"id": ', *[b"1" * MEGABYTE] * times, b"}"],
        [*[b"9" * MEGABYTE] * times],
        [b'{"id": "nest", "mood": ', *[b"[" * 1000] * 900, b"1", *[b"]" * 1000] * 900, b"}"],
    ]
    report = imported(stage, generations(records), within=300)
    expect_rejected(stage, report, [1, 2, 3, 4], others=2)
    tables = (b', "table %d": [{"id": 1}, 2, []]' % n for n in range(stage.of(100_000, 5000)))
    report = imported(stage, [b'{"generations": []', *tables, b"}"], within=300)
    stage.expect(len(report["tables"]) < 100, "unknown tables are reported without number")


@attack("a page of the history of large generations", needs=(OWN, CREDENTIAL), limits=Limits(webhook_p99_ms=None))
def history(stage: Stage) -> None:
    """They come in by SQL, where nothing bounds them; 1.1 GB were taken for one page."""
    with psycopg.connect(stage.own.database_url) as connection:
        connection.execute("SELECT set_config('app.tenant_id', %s, true)", (str(stage.own.tenant_id),))
        connection.execute(
            """
            INSERT INTO generations (tenant_id, date, concepts)
            SELECT %(tenant)s, now() - n * interval '1 minute',
                jsonb_build_array(jsonb_build_object('title', 'large', 'texts',
                    (SELECT jsonb_agg(md5(n::text || m)) FROM generate_series(1, %(texts)s) m)))
            FROM generate_series(1, %(count)s) n
            """,
            {"tenant": stage.own.tenant_id, "count": stage.of(100, 30), "texts": 40_000},
        )
    ask = head("GET", "/api/history?limit=100", f"Authorization: Bearer {stage.target.credential}")
    with stage.watching(webhooks=False):
        for _ in range(3):
            with stage.wire(60) as wire:
                wire.send(ask)
                stage.note(wire.answer())
    stage.expect(set(stage.answers) == {"200"}, "a page of the history is not answered")


def imported(stage: Stage, parts: Iterable[bytes], *, within: float) -> dict[str, Any]:
    """The report of `viral import-dexie`, whose memory is watched; it may take so many seconds."""
    path = stage.own.folder / "export.json"
    with path.open("wb") as file:
        file.writelines(parts)
    report = stage.own.folder / "report.json"
    command = [sys.executable, "-m", "cli.main", "import-dexie", str(path), "--new-tenant", "attacker", "--json"]
    try:
        with report.open("wb") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=stage.own.environment, stdout=out)
            with stage.watching(pid=process.pid, webhooks=False):
                code = _ended(process, within)
        stage.note(code)
        stage.expect(code == "imported", f"the import is {code}")
        found: dict[str, Any] = json.loads(report.read_bytes() or b"{}") if code == "imported" else NOTHING
        return found
    finally:
        path.unlink()


NOTHING: dict[str, Any] = {"tables": {"generations": {"rejected": 0, "imported": 0, "coerced": 0}}, "records": []}


def _ended(process: "subprocess.Popen[bytes]", within: float) -> str:
    try:
        return "imported" if process.wait(within) == 0 else f"refused with {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"not done after {within:g} s"


def expect_rejected(stage: Stage, report: dict[str, Any], indexes: list[int], *, others: int) -> None:
    """These, each with its number, and no others."""
    rejected = [each["index"] for each in report["records"] if each["outcome"] == "rejected"]
    stage.expect(rejected == indexes, f"rejected are the records {rejected}, and not {indexes}")
    counts = report["tables"]["generations"]
    taken = counts["imported"] + counts["coerced"]
    stage.expect(taken == others, f"{taken} of the others are taken, and not {others}")


def generations(records: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """An export of these records, between two plain ones."""
    yield b'{"generations": [' + PLAIN % 1
    for record in records:
        yield b",\n"
        yield from record
    yield b",\n" + PLAIN % 2 + b"]}"


def large(megabytes: int) -> Iterable[bytes]:
    parts = megabytes * MEGABYTE // len(PART) + 1
    return [b'{"id": "large", "concepts": [', *[PART] * parts, b"{}]}"]
