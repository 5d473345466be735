"""The plan of the house, held against the code: who may see whom, where each library lives, and that importing does
nothing. Design: CONTRIBUTING.md, "The house"."""

import subprocess
import sys
from pathlib import Path

import pytest
from grimp import build_graph
from grimp.application.graph import ImportGraph

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("domain", "db", "integrations", "simulators", "workers", "scheduler", "web", "cli", "local")

# Who may import whom. A package that is not on this picture fails, in either column.
MAY_SEE = {
    "domain": set[str](),
    "db": {"domain"},
    "integrations": {"domain"},
    "workers": {"domain", "db", "integrations"},
    "scheduler": {"domain", "db", "integrations", "workers"},
    "web": {"domain", "db", "integrations", "workers"},
    "simulators": {"domain", "integrations"},
    "local": {"domain"},
    "cli": {"domain", "db", "integrations", "workers", "scheduler", "web", "local", "simulators"},
}

# Each library has one home.
HOMES = {
    "sqlalchemy": ("db",),
    "alembic": ("db.migrate.upgrade",),
    "psycopg": ("db", "web", "cli", "local"),
    "dramatiq": ("workers.engine.broker", "workers.engine.queues", "workers.main"),
    "redis": (
        *("workers.runtime.redis_client", "workers.engine.broker", "workers.engine.notifier", "web.api.rate_limit"),
        "scheduler.dispatcher",
    ),
    "apscheduler": ("scheduler",),
    "starlette": ("web",),
    "uvicorn": ("web",),
    "fastapi": ("web",),
    "pydantic": ("workers", "web", "integrations.llm"),
    "pydantic_ai": ("integrations.llm",),
    "anthropic": ("integrations.llm",),
    "pydantic_settings": ("workers.settings", "workers.runtime.setting_types"),
    "orjson": ("integrations", "web"),
    "stripe": ("integrations.stripe.api",),
    "jwt": ("integrations.clerk.sessions", "simulators.clerk.sessions"),
    "cryptography": ("integrations.clerk.sessions", "simulators.clerk.sessions"),
    "httpx": (),
    "httpx2": ("integrations.llm",),
    "httpcore2": ("integrations.http.wire",),
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


def uphill(graph: ImportGraph, may_see: dict[str, set[str]]) -> list[str]:
    """Imports that the picture does not allow, as `importer -> imported`."""
    houses = {top(module) for module in graph.modules if (ROOT / top(module)).is_dir()} | may_see.keys()
    return sorted(
        f"{module} -> {imported}"
        for module in graph.modules
        if top(module) in houses
        for imported in graph.find_modules_directly_imported_by(module)
        if top(imported) in houses
        and top(imported) != top(module)
        and top(imported) not in may_see.get(top(module), set())
    )


def test_nobody_imports_uphill(graph: ImportGraph) -> None:
    assert uphill(graph, MAY_SEE) == []


def test_every_folder_of_code_is_on_the_picture() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(PACKAGES)


def test_a_planted_violation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself can fail: a rule that imports its database, and a package that is not on the picture."""
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
    assert used - {"domain"} <= set(sys.stdlib_module_names)


def test_each_library_has_one_home(graph: ImportGraph) -> None:
    strays = [
        f"{module} -> {library}"
        for module in ours(graph)
        for library in graph.find_modules_directly_imported_by(module)
        if library in HOMES and not any(f"{module}.".startswith(f"{home}.") for home in HOMES[library])
    ]
    assert strays == []


def test_jobs_see_only_their_declaration_and_the_rules(graph: ImportGraph) -> None:
    jobs = [module for module in ours(graph) if module.startswith("workers.jobs.")]
    strays = [
        f"{module} -> {imported}"
        for module in jobs
        for imported in graph.find_modules_directly_imported_by(module)
        if top(imported) in PACKAGES
        and top(imported) != "domain"
        and imported != "workers.engine.job"
        and not imported.startswith("workers.jobs.")
    ]
    assert jobs
    assert strays == []


def test_no_command_opens_a_transaction(graph: ImportGraph) -> None:
    """A command calls a function with a name, which the operator's page can call too."""
    commands = [module for module in ours(graph) if module.startswith("cli.commands.")]
    assert commands
    assert [module for module in commands if "db.transaction" in graph.find_modules_directly_imported_by(module)] == []


def test_no_module_is_part_of_a_circle(graph: ImportGraph) -> None:
    def reaches_itself(module: str) -> bool:
        direct = graph.find_modules_directly_imported_by(module)
        return any(graph.chain_exists(imported, module) for imported in direct if top(imported) in PACKAGES)

    assert [module for module in ours(graph) if reaches_itself(module)] == []


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
