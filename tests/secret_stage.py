"""Secrets planted everywhere: in each secret setting (found in `Settings`), in tokens, sessions and headers, in
payloads, results and texts of errors, and in the answers of an outside that repeats whatever it is sent.

`ask_outside`, `fail`, `ask` and `commands` then do what a system does all day: run jobs, answer requests, print lists.
What was written and shown meanwhile is kept in `World.seen`.
"""

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from starlette.testclient import TestClient

from benchmarks.crawl import crawl
from cli.commands.schedules import calendar
from db.transaction import SYSTEM
from domain.concepts.generation import ConceptRequest
from domain.errors import Rejected, Unavailable
from domain.identity.access import ApiScope
from domain.identity.people import Person
from domain.ports import Ports
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.videos.submissions import ClipOrder
from integrations.clerk import webhooks as clerk
from integrations.stripe import webhooks as stripe
from simulators.clerk.events import clerk_event
from simulators.loopback import Reply, Request, json_reply
from simulators.stripe.events import stripe_event
from tests.builders import NOV_22, a_tenant
from tests.cli.shell import Result, Shell
from tests.drain import drain
from tests.language_models import CRITIQUE
from tests.web.api.test_api import INSTANCE, PAGE, a_key
from web.api.app import create_api
from web.main import WebDeps, create_app
from web.metrics import MetricsEndpoint
from web.oauth import OAuthCallback
from web.ops.access import OpsAccess
from web.ops.app import PAGES, ops_routes
from web.ops.signed_in import COOKIE_OVER_HTTPS
from web.session_verifier import session_verifier
from workers.app import App
from workers.engine.job import Context, job
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.ops.operators import create_token
from workers.runtime.ids import Ids
from workers.runtime.metrics import MetricsReport
from workers.settings import APP_IDS, Settings

MARK = "zq7w"
"""In everything that is planted, and in no text of ours."""


def planted(name: str) -> str:
    """Return a secret of this name, as random ones look."""
    return f"{MARK}{re.sub('[^a-z]', '', name)}0123456789abcdefABCDEF"


# --- settings -------------------------------------------------------------------------------------------------------


def secret_fields() -> set[str]:
    """Return the settings that hold a secret: by their type, or because they are left out of what is shown of them."""
    return {
        name
        for name, each in Settings.model_fields.items()
        if not each.repr or "SecretStr" in f"{each.annotation}{each.metadata}{type(each.default)}"
    }


def in_their_form(name: str) -> str:
    """Return a value that the setting takes, with a secret in it."""
    secret = planted(name)
    match name:
        case "stripe_secret_key" | "clerk_secret_key":
            return f"sk_test_{secret}"
        case "stripe_webhook_secret":
            return f"whsec_{secret},whsec_{secret}older"
        case "notify_urls":
            return f"json://127.0.0.1:1/{secret}"
        case "clerk_webhook_signing_secret" | "notify_webhook_secret":
            return f"whsec_{base64.b64encode(secret.encode()).decode()}"
        case "token_encryption_keys":
            return base64.urlsafe_b64encode(secret.encode()[:32]).decode()
        case "otel_exporter_otlp_headers":
            return f"authorization=Bearer%20{secret}"
    return secret


@dataclass
class World:
    """`environment` has every secret setting; `secrets` is all that must not be seen, by where it was planted.
    `seen` is what was written and shown, by where."""

    environment: dict[str, str]
    secrets: dict[str, str]
    seen: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str) -> str:
        self.secrets[name] = planted(name)
        return self.secrets[name]

    def see(self, place: str, text: str) -> None:
        self.seen[place] = f"{self.seen.get(place, '')}\n{text}"

    def leaks(self) -> list[str]:
        """Return a line for each place in which something was found: what, where and beside what."""
        found = {}
        for place, text in self.seen.items():
            for name, secret in self.secrets.items():
                if (at := text.find(secret)) >= 0:
                    found[place] = f"{name} in {place}: {text[max(0, at - 150) : at + len(secret) + 20]!r}"
        return sorted(found.values())


def echo(request: Request) -> Reply:
    """Refuse a request and repeat all of it, as its status, which the path ends with or else 401, allows."""
    headers = " ".join(f"{name}: {value}" for name, value in request.headers.items())
    repeated = f"Incorrect API key provided: {headers} {request.path}?{request.query} {request.body.decode('latin-1')}"
    error = {
        "message": repeated,
        "type": repeated[:200],
        "code": repeated[:200],
        "error_subcode": 1,
        "status": repeated,
        "param": repeated,
    }
    body = {
        "error": error,
        "message": repeated,
        "errors": [{"message": repeated, "long_message": repeated, "code": repeated}],
    }
    return json_reply(body | {"error_description": repeated, "detail": repeated, "log_id": repeated}, status=STATUS[0])


STATUS = [401]
"""What the echo answers."""


@contextmanager
def receiving(bodies: list[bytes]) -> Iterator[str]:
    """Be where errors are reported to; yields the host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def a_world(settings: Settings, outside: str, collector: str, sentry: str, home: Path) -> World:
    """Plant every secret setting. URLs with a password keep theirs, which is secret enough."""
    secrets, environment = {}, {"VIRAL_HOME": str(home), "LOG_LEVEL": "DEBUG"}
    for name in secret_fields():
        if name.endswith("_url"):
            value = getattr(settings, name)
            secrets[name] = value.partition("@")[0].rpartition(":")[2]
        elif name == "clerk_jwt_key":
            value = INSTANCE.pem()
            secrets[name] = value.splitlines()[2]
        elif name == "sentry_dsn":
            value, secrets[name] = f"http://{planted(name)}@{sentry}/7", planted(name)
        else:
            value = in_their_form(name)
            secrets[name] = value.partition(",")[0].rpartition("%20")[2]
        environment[name.upper()] = value
    for name in Settings.model_fields:
        if name.endswith(("_base_url", "_api_base")):
            environment[name.upper()] = outside
    environment |= {ids.upper(): f"id-of-{ids}" for ids in (*APP_IDS.values(), "reddit_client_id")}
    environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "STRIPE_PRO_PRICE_ID": "price_pro",
        "CLERK_AUTHORIZED_PARTIES": PAGE,
        "CLERK_ISSUER": INSTANCE.issuer,
        "CLERK_INSTANCE_ID": "ins_1",
    }
    return World(environment, secrets)


# --- what is done with them -----------------------------------------------------------------------------------------


def nothing(*_: object) -> None:
    pass


def calls(outside: str) -> Mapping[str, Callable[[Ports], object]]:
    """Return a call of everything outside that is asked with a secret; `outside` is where it is."""
    tenant_id, now = uuid4(), datetime.now(UTC)
    found: dict[str, Callable[[Ports], object]] = {
        "stripe": lambda ports: ports.cashier and ports.cashier.add_customer(tenant_id, key="key"),
        "stripe books": lambda ports: ports.records and list(ports.records.subscriptions()),
        "clerk": lambda ports: ports.people and list(ports.people.listed(Person)),
        "trends": lambda ports: ports.trends.collect("US", now),
        "model": lambda ports: next(iter(ports.writers.values())).write(
            ConceptRequest(count=1, trends=(), past=(), region="US", seed=1, now=now)
        ),
        "critic": lambda ports: next(iter(ports.critics.values())).criticise(CRITIQUE),
    }
    order = ClipOrder("gen4_turbo", "a fox in the snow", 5, "720:1280")
    for clip in ("runway", "google", "luma"):
        found[f"order of {clip}"] = lambda ports, name=clip: ports.clips[name].submit(order, "key")
        found[f"poll of {clip}"] = lambda ports, name=clip: ports.clips[name].poll("job-1")
    for platform in ("tiktok", "youtube-shorts", "instagram-reels", "bluesky", "mastodon"):
        server = outside if platform in ("bluesky", "mastodon") else ""
        credential = Credential("1", planted("credential"), server)
        grant = Grant(planted("credential"), planted("refreshtoken"), external_id="1", server=server)
        registered = AppRegistration("id", planted("appsecret"))
        found[f"limits of {platform}"] = lambda ports, p=platform, c=credential: ports.publishers[p].limits(c)
        found[f"numbers of {platform}"] = lambda ports, p=platform, c=credential: ports.publishers[p].measure(
            c, ["1"], now
        )
        found[f"refresh of {platform}"] = lambda ports, p=platform, g=grant, r=registered: ports.logins[p].refresh(
            r, g, ""
        )
        found[f"exchange of {platform}"] = lambda ports, p=platform, r=registered: ports.logins[p].exchange(
            r, code=planted("oauthcode"), verifier=planted("verifier"), redirect_uri="https://x.example", server=""
        )
    return found


def errors() -> Mapping[str, Callable[[], object]]:
    """Return what raises an error that repeats a secret."""
    secret = planted("in jobs")

    def chained() -> None:
        try:
            raise ValueError(f"the answer was {{'access_token': '{secret}'}}")
        except ValueError as error:
            raise Unavailable(f"https://user:{secret}@api.example.com/v1 answers 500") from error

    def connects() -> None:
        psycopg.connect(f"postgresql://viral:{secret}@127.0.0.1:1/viral?connect_timeout=1")

    def asks() -> None:
        httpx.get(f"http://127.0.0.1:1/v1?api_key={secret}")

    def answered() -> None:
        request = httpx.Request("GET", f"https://api.example.com/v1?access_token={secret}")
        httpx.Response(401, request=request).raise_for_status()

    def raises(error: Exception) -> None:
        raise error

    return {
        "chained": chained,
        "connects": connects,
        "asks": asks,
        "answered": answered,
        "url": lambda: raises(RuntimeError(f"cannot reach redis://:{secret}@cache.example.com:6379/0 now")),
        "rejected": lambda: raises(Rejected(f"GET https://api.example.com/v1/things?key={secret}&x=1 was refused")),
        "header": lambda: raises(Unavailable(f"it was sent Authorization: Bearer {secret} and answered 401")),
        "type": lambda: raises(TypeError(f"expected str, got sk_live_{secret}")),
        "group": lambda: raises(ExceptionGroup("two", [ValueError(f"token={secret}"), KeyError(secret)])),
        "json": lambda: raises(ValueError(json.dumps({"client_secret": secret}))),
    }


def ask_outside(app: App, world: World) -> None:
    """Have a worker run jobs that ask an outside which repeats everything."""
    asked = calls(app.settings.mastodon_base_url)
    for name in ("credential", "refreshtoken", "appsecret", "oauthcode", "verifier"):
        world.plant(name)

    @job("planted.outside", system=True, max_attempts=1)
    def outside(ctx: Context, name: str) -> None:
        ctx.report(text=str(asked[name](ctx.ports)))
        with ctx.finish():
            pass

    app = replace(app, job_types={**app.job_types, outside.name: outside})
    for status in (401, 200):
        STATUS[0] = status
        with app.db.transaction(SYSTEM) as tx:
            for name in asked:
                outside.enqueue(tx, name=name)
        drain(app)


def fail(app: App, world: World) -> list[UUID]:
    """Have a worker run jobs with secrets in their arguments, which fail with secrets in their errors, or complete with
    secrets in their results. Returns their ids."""
    raised, secret = errors(), world.plant("in jobs")

    @job("planted.failing", system=True, max_attempts=2)
    def failing(ctx: Context, words: str, name: str) -> None:
        raised[name]()

    @job("planted.done", system=True)
    def done(ctx: Context, words: str, name: str) -> None:
        ctx.report(url=f"https://x.example/?token={secret}", count=f"sk_live_{secret}", id=f"Bearer {secret}")
        ctx.step("upload", lambda key: {"upload_url": secret, "id": f"sk_live_{secret}"})
        with ctx.finish():
            pass

    app = replace(app, job_types={**app.job_types, failing.name: failing, done.name: done})
    with app.db.transaction(SYSTEM) as tx:
        job_ids = [failing.enqueue(tx, words=secret, name=name) for name in raised]
        job_ids.append(done.enqueue(tx, words=secret, name=f"sk_live_{secret}"))
    for _ in range(2):
        drain(app)
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE status = 'pending'")
    drain(app)
    return job_ids


def ask(app: App, world: World) -> None:
    """Ask a web process for everything, with secrets in all that a request has."""
    settings, secret = app.settings, world.plant("in requests")
    tenant_id = a_tenant(app)
    world.secrets["api key"] = key = a_key(app, tenant_id, *ApiScope)
    world.secrets["jwt"] = jwt = INSTANCE.token(datetime.now(UTC).timestamp(), note=secret)
    world.secrets["ops token"] = token = create_token(app, f"ada{uuid4().hex[:8]}", "look").text
    bearer = {"Authorization": f"Bearer {token}"}
    access, errors = OpsAccess(app), []
    deps = WebDeps(
        stripe_secrets=settings.reveal(settings.stripe_webhook_secret),
        clerk_secrets=settings.reveal(settings.clerk_webhook_signing_secret),
        connect=app.db.connect,
        notify=nothing,
        redis_ping=app.notifier.probe,
        clock=NOV_22.timestamp,
        make_id=Ids(),
        stripe_job=apply_stripe_event,
        clerk_job=apply_clerk_event,
        api=create_api(app, sessions=session_verifier(settings), clock=NOV_22.timestamp, origins=(PAGE,)),
        ops=ops_routes(app, access=access, calendar=calendar()),
        tracing=app.tracing,
        oauth=OAuthCallback(app),
        metrics=app.metrics,
        exposition=partial(
            MetricsEndpoint, app, write_redis=app.notifier.probe, may_look=access.may_look, calendar=calendar()
        ),
    )
    always = {"Cookie": f"__session={secret}; viral_ops={'0' * 64}", "X-Api-Key": secret}
    with TestClient(create_app(deps), base_url="https://house.example", raise_server_exceptions=False) as web:

        def send(method: str, path: str, headers: Mapping[str, str] | None = None, **sent: Any) -> httpx.Response:
            response = web.request(method, path, headers={**always, **(headers or {})}, follow_redirects=False, **sent)
            if response.status_code >= 400:
                errors.append(response.text)
            return response

        webhooks(send, deps, secret)
        drain(app)
        for credential in (key, jwt, secret, f"viral_{secret}", f"{jwt}x", f"{key[:-1]}0"):
            send("GET", f"/api/user?token={secret}", {"Authorization": f"Bearer {credential}"})
            send("GET", "/metrics", {"Authorization": f"Bearer {credential}"})
        send("GET", "/api/user", {"Authorization": f"Basic {secret}"})
        for path, methods in send("GET", "/api/openapi.json").json()["paths"].items():
            for method in methods:
                where = re.sub(r"\{[^}]+\}", str(uuid4()), path)
                body = dict.fromkeys(("name", "app_password", "password", "token", "handle", "server", "url"), secret)
                sent = {"json": body} if method in ("post", "put", "patch") else {}
                address = f"/api{where.removeprefix('/api')}?access_token={secret}"
                send(method.upper(), address, {"Authorization": f"Bearer {key}"}, **sent)
        for platform in ("tiktok", "mastodon", secret):
            send("GET", f"/oauth/{platform}/callback", params={"code": secret, "state": secret})
            send("GET", f"/oauth/{platform}/callback", params={"error": secret, "error_description": secret})
        origin = {"Origin": "https://house.example", "Cookie": ""}
        for tried in (secret, token):
            response = send("POST", "/ops/login", origin, data={"token": tried, "next": "/ops"})
        world.secrets["session"] = response.headers["set-cookie"].partition("=")[2].partition(";")[0]
        assert len(world.secrets["session"]) > 30
        assert send("GET", "/ops", {"Cookie": f"{COOKIE_OVER_HTTPS}={world.secrets['session']}"}).status_code == 200
        MetricsReport(app.db, app.metrics, role="web", release="1").send()
        world.see("/metrics", send("GET", "/metrics", bearer).text)
        for page in crawl(lambda path: _of(send("GET", path, bearer)), [page.path for page in PAGES], most=12):
            assert page.status < 500, page
            world.see(f"page {page.page}", page.text)
    world.see("error answers", "\n".join(errors))


def _of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.text


def webhooks(send: Callable[..., httpx.Response], deps: WebDeps, secret: str) -> None:
    """Deliver events that are signed, wrongly signed and malformed, each with secrets in it."""
    at = int(NOV_22.timestamp())
    about = {"id": "sub_1", "customer": "cus_1", "status": f"sk_live_{secret}", "description": f"Bearer {secret}"}
    about |= {"metadata": {"token": secret}, "items": {"data": secret}, "client_secret": secret}
    bodies = [stripe_event(kind, about, at=NOV_22) for kind in ("customer.subscription.updated", "invoice.paid", "x.y")]
    for body in (*(json.dumps(each).encode() for each in bodies), b'{"id": "%s", ' % secret.encode(), b"[1]"):
        for signature in (stripe.sign(body, deps.stripe_secrets[0], at), f"t={at},v1={secret}", secret):
            sent = send(
                "POST", "/webhooks/stripe", {"Stripe-Signature": signature, "Authorization": secret}, content=body
            )
            assert sent.status_code in (200, 400), sent.text
    person = {"id": "user_1", "email_addresses": secret, "private_metadata": {"token": secret}}
    for number, data in enumerate([person, person | {"updated_at": f"sk_live_{secret}"}]):
        body, name = json.dumps(clerk_event("user.created", data, at=NOV_22)).encode(), f"msg_{number}"
        for signature in (clerk.sign(body, deps.clerk_secrets[0], name, at), f"v1,{secret}"):
            headers = {"svix-id": name, "svix-timestamp": str(at), "svix-signature": signature}
            assert send("POST", "/webhooks/clerk", headers, content=body).status_code in (200, 400)


def commands(viral: Shell, job_ids: Sequence[UUID], events: Sequence[str]) -> Iterator[tuple[str, Result]]:
    """Run the commands that list and show; yields what each printed."""
    lists = ["jobs", "events", "failures", "changes", "metrics", "workers", "queues", "schedules", "tenants"]
    for words in (["info"], ["doctor"], ["status"], ["ops", "token", "list"], *([each, "list"] for each in lists)):
        for more in ([], ["--json"]):
            if [*words, *more] != ["info", "--json"]:  # programs read the passwords from it
                yield " ".join([*words, *more]), viral(*words, *more)
    for name, ids in (("jobs", job_ids), ("events", events)):
        for number, each in enumerate(ids):
            more = ["--json"] if number % 2 else []
            yield " ".join([name, "show", *more]), viral(name, "show", each, *more)
