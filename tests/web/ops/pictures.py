"""`python -m tests.web.ops.pictures` makes docs/images/ops-*.png anew: the main pages, of a made-up installation.

It starts servers of its own and needs a browser (.ci/run installs one). Nothing from outside is on the pictures.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from benchmarks import world
from benchmarks.crawl import Document
from benchmarks.servers import Servers, ours, running, until
from db.migrate import upgrade as migrate
from local.embedded import start_embedded
from local.spawn import free_port
from tests.cli import browser

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "images"

PICTURES = {
    "start": ("/ops", "light", 1200),
    "start-dark": ("/ops", "dark", 1200),
    "queues": ("/ops/queues", "light", 1200),
    "jobs": ("/ops/jobs?status=failed", "dark", 1200),
    "failures": ("/ops/failures", "light", 1200),
    "events": ("/ops/events?status=parked", "light", 1200),
    "phone": ("/ops/queues", "dark", 390),
    "posts": ("/ops/posts/all?status=failed", "light", 1200),
}
WHO = "ada"
"""Who is signed in on the pictures."""

FIRST_OF = {
    "job": ("/ops/jobs?status=failed", "/ops/jobs/"),
    "event": ("/ops/events?status=parked", "/ops/events/"),
    "tenant": ("/ops/tenants", "/ops/tenants/"),
}
"""Pictures of one thing: the first that its list links to."""
HEIGHT = 860


def main() -> int:
    chromium = browser.find()
    if chromium is None:
        sys.exit(f"a browser is needed: one of {', '.join(browser.NAMES)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="viral-pictures-") as name:
        folder = Path(name)
        # Postgres, run by root, becomes somebody else, who has to find its data here.
        folder.chmod(0o755)
        with start_embedded(folder / "home") as embedded:
            servers = Servers(embedded)
            urls = servers.create("pictures")
            migrate.upgrade(urls.owner)
            world.fill(servers.superuser("pictures"), world.WHOLE.divided(200))
            port = free_port()
            environment = ours(DATABASE_URL=urls.app, REDIS_URL=urls.redis, HOST="127.0.0.1")
            command = [sys.executable, "-m", "cli.main", "web", "--port", str(port)]
            making = [sys.executable, "-m", "cli.main", "ops", "token", "create", WHO, "--role", "act", "--json"]
            made = subprocess.run(making, env=environment, cwd=folder, capture_output=True, check=True)
            with running(command, environment, folder), browser.one_page(chromium, folder / "browser") as page:
                take(page, f"http://127.0.0.1:{port}", json.loads(made.stdout)["token"])
    return 0


def take(page: browser.Page, origin: str, token: str) -> None:
    until(lambda: _answers(origin), "the web process to serve", within=60)
    page.open(f"{origin}/ops/login")
    page.run(f"document.querySelector('[name=token]').value = {token!r}")
    page.submit("form.sign-in")
    asking = httpx.Client(base_url=origin, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    wanted = dict(PICTURES)
    for name, (listed, below) in FIRST_OF.items():
        links = Document(asking.get(listed).text).links
        found = next((link for link in links if link.startswith(below)), None)
        if found is not None:
            wanted[name] = (found, "light", 1200)
        if found is not None and name == "job":
            wanted["act"] = (f"/ops/act/job.retry?target=job:{found.rpartition('/')[2]}", "light", 1200)
    for name, (path, scheme, width) in wanted.items():
        if not path.startswith("/ops/act/") and asking.get(path).status_code != 200:
            print(f"{path}: there is no such page")
            continue
        page.show_as(width=width, height=HEIGHT, scheme=scheme)
        page.open(origin + path)
        file = FOLDER / f"ops-{name}.png"
        page.picture(file, whole=False)
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1024} KB")
    page.show_as(width=1200, height=HEIGHT, scheme="light")
    page.open(f"{origin}/ops/jobs?status=failed")
    page.click("button[formaction*='job.retry'][value=all]")
    page.picture(FOLDER / "ops-bulk.png", whole=False)


def _answers(origin: str) -> bool:
    try:
        return httpx.get(f"{origin}/healthz").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
