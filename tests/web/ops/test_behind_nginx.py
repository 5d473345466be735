"""`viral web` behind a real nginx that is set as docs/deploying.md says: pages, forms, streams, addresses, sizes."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from local.spawn import free_port
from tests.cli.shell import ROOT
from tests.wait import until
from tests.web.ops.forms import forms_of
from workers.settings import Settings

NGINX = os.environ.get("NGINX_BIN") or shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="not run: there is no nginx; install it, or name it in NGINX_BIN")

OTHER_ORIGIN = "https://ops.example"
OPS_TOKEN = "q7Zr0PbW3xNc5Kd9Lm2Vt8Hs4Jf6Yg1A"
MAIN = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {ours}
}}
"""
PLAIN = "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{web}; }} }}"
"""What a newcomer begins with."""


class Behind(NamedTuple):
    documented: str
    plain: str
    log: Path


def documented(port: int, web: int) -> str:
    text = (ROOT / "docs" / "deploying.md").read_text()
    (block,) = re.findall(r"^```nginx\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert "listen 443 ssl;" in block
    assert "127.0.0.1:8000" in block
    return str(block).replace("listen 443 ssl;", f"listen 127.0.0.1:{port};").replace(":8000", f":{web}")


@contextmanager
def running(command: list[str], port: int, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=file, stderr=file)
    try:
        until(lambda: listens(port) or process.poll() is not None, f"{command[0]} to listen")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(15)


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def behind(settings: Settings, tmp_path: Path) -> Iterator[Behind]:
    web, ports = free_port(), (free_port(), free_port())
    environment = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "PORT": str(web)}
    environment |= {"HOST": "127.0.0.1", "PYTHONPATH": str(ROOT), "OPS_TOKEN": OPS_TOKEN}
    environment |= {"STRIPE_WEBHOOK_SECRET": "whsec_" + "a" * 32}
    environment |= {"TRUSTED_PROXIES": "127.0.0.1", "MEDIA_ROOT": str(tmp_path / "media")}
    ours = documented(ports[0], web) + PLAIN.format(port=ports[1], web=web)
    (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path, ours=ours))
    assert NGINX is not None
    nginx = [NGINX, "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")]
    with ExitStack() as both:
        both.enter_context(running([sys.executable, "-m", "cli.main", "web"], web, environment, tmp_path / "web.log"))
        both.enter_context(running(nginx, ports[0], {}, tmp_path / "nginx.log"))
        yield Behind(f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", tmp_path / "web.log")


@pytest.mark.proof
def test_a_browser_behind_nginx_signs_in_follows_a_page_and_acts(behind: Behind) -> None:
    own = {"Origin": behind.documented, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    with httpx.Client(base_url=behind.documented, headers=own, timeout=30) as browser:
        assert browser.post("/ops/login", data={"token": OPS_TOKEN}).status_code == 303
        assert browser.get("/ops").status_code == 200
        with browser.stream("GET", "/ops/live", headers={"Last-Event-ID": "7"}) as stream:
            events = stream.iter_bytes()
            for _ in range(2):
                assert b"event: look" in next(events), "an event arrives while the stream goes on"
        page = "/ops/act/queue.pause?target=queue:media"
        (form,) = [each for each in forms_of(browser.get(page).text) if "queue.pause" in each.action]
        done = browser.post(form.action, data=form.filled({"reason": "a try"}))
        assert done.status_code == 303, done.text
        # A page of another site, by the same browser.
        other = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert browser.post(form.action, data=form.filled({}), headers=other).status_code == 403
    # Where the Host is not passed on, a form is refused with the way out.
    refused = httpx.post(f"{behind.plain}/ops/login", data={"token": OPS_TOKEN}, headers=own | {"Origin": OTHER_ORIGIN})
    assert refused.status_code == 403
    assert "PUBLIC_URL" in refused.text


@pytest.mark.proof
def test_strangers_behind_nginx(behind: Behind) -> None:
    # Nobody is taken for a program on this machine, not even where nginx says nothing about whom it serves.
    for address in (behind.documented, behind.plain):
        for path in ("/ops", "/metrics"):
            assert httpx.get(f"{address}{path}", headers={"Accept": "text/plain"}).status_code == 401
    # What may be large gets through to us, who refuse it, and nothing larger.
    for path, size, status in (
        ("/webhooks/stripe", 900_000, 400),
        ("/webhooks/stripe", 2_000_000, 413),
        ("/api/import", 2_000_000, 401),
        ("/api/media", 2_000_000, 401),
    ):
        answer = httpx.post(f"{behind.documented}{path}", content=b" " * size, timeout=30)
        assert answer.status_code == status, (path, size, answer.text)
    # nginx appends the address that it saw; whatever stands before it was the client's to write.
    codes = []
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=30) as client:
        for n in range(12):
            forged = {"X-Forwarded-For": f"203.0.113.{n}", "Authorization": "Bearer wrong"}
            codes.append(client.get(f"{behind.documented}/metrics", headers=forged).status_code)
    assert {*codes} == {401, 429}, "all of them came from one address"
    wrong = {"Authorization": "Bearer wrong"}
    assert httpx.get(f"{behind.documented}/metrics", headers=wrong).status_code == 401, "another address is not held up"
