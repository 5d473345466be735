"""Who may see the operator's page, and who may not."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from db.transaction import SYSTEM, WritesRefused
from tests.builders import a_tenant
from web.ops.access import OpsAccess
from web.ops.app import PAGES, ops_routes
from web.ops.attempts import BURST, BURST_IN_ALL, EVERY
from web.ops.guard import MAX_FORM
from web.ops.origins import HEADERS
from web.server.clients import BehindProxies
from workers.app import App, build
from workers.ops import overview
from workers.ops.looking import looked
from workers.ops.operators import create_token, revoke_token

OPS_TOKEN = "q7Zr0PbW3xNc5Kd9Lm2Vt8Hs4Jf6Yg1A"
PLACE = "/ops/workers"
OWN = "https://ops.example"
FROM_OWN = {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}
HTML = {"Accept": "text/html"}

Asking = Callable[..., TestClient]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asking(app: App, clock: Clock) -> Iterator[Asking]:
    """Make clients of one process with these settings: at an address, under a base URL."""
    with ExitStack() as open_ones:
        made: dict[Any, Any] = {}

        def application(changes: dict[str, Any], fresh_for: float) -> Any:
            key = (fresh_for, *sorted((name, repr(value)) for name, value in changes.items()))
            if key not in made:
                secrets = {name: SecretStr(value) for name, value in changes.items() if name == "ops_token"}
                settings = app.settings.model_copy(update=changes | secrets)
                changed = build(settings, name="tests")
                open_ones.callback(changed.close)
                access = OpsAccess(changed, fresh_for=fresh_for, monotonic=clock)

                async def metrics(request: Request) -> Response:
                    return await access.may_look(request) or PlainTextResponse("viral_up 1")

                inside = Starlette(routes=[*ops_routes(changed, access=access), Route("/metrics", metrics)])
                made[key] = BehindProxies(inside, settings.trusted_proxies)
            return made[key]

        def ask(address: str = "203.0.113.5", base: str = OWN, fresh_for: float = 0.0, **changes: Any) -> TestClient:
            client = TestClient(
                application(changes, fresh_for), base_url=base, client=(address, 4711), follow_redirects=False
            )
            return open_ones.enter_context(client)

        yield ask


def sign_in(client: TestClient, token: str, **fields: str) -> httpx.Response:
    headers = FROM_OWN | {"Origin": str(client.base_url).rstrip("/")}
    return client.post("/ops/login", data={"token": token, **fields}, headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def form_token(client: TestClient) -> str:
    found = re.search(r'name="form_token" value="(\w+)"', client.get(PLACE).text)
    assert found is not None
    return found[1]


# --- with a token ----------------------------------------------------------------------------------------------


def test_a_token_opens_a_session_and_the_page_that_was_asked_for(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "act").text
    client = asking()
    sent_away = client.get(f"{PLACE}?state=dead&q=a%26b", headers=HTML)
    assert sent_away.status_code == 303
    assert sent_away.headers["location"] == "/ops/login?next=%2Fops%2Fworkers%3Fstate%3Ddead%26q%3Da%2526b"
    form = client.get(sent_away.headers["location"])
    assert 'value="/ops/workers?state=dead&amp;q=a%26b"' in form.text
    entered = sign_in(client, f" {token}\n", next="/ops/workers?state=dead&q=a%26b")
    assert (entered.status_code, entered.headers["location"]) == (303, "/ops/workers?state=dead&q=a%26b")
    page = client.get(PLACE)
    assert page.status_code == 200
    assert "ada (act)" in page.text
    assert client.get("/ops/nowhere").status_code == 404


def test_the_cookie_is_of_this_host_alone_over_https(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    cookie = sign_in(asking(), token).headers["set-cookie"]
    assert re.fullmatch(r"__Host-viral_ops=[0-9a-f]{64}; HttpOnly; Max-Age=43200; Path=/; SameSite=lax; Secure", cookie)
    cookie = sign_in(asking(base="http://10.0.0.4:8000"), token).headers["set-cookie"]
    assert re.fullmatch(r"viral_ops=[0-9a-f]{64}; HttpOnly; Max-Age=43200; Path=/ops; SameSite=lax", cookie)


def test_a_cookie_that_plain_http_can_set_counts_for_nothing_over_https(app: App, asking: Asking) -> None:
    plain = asking(base="http://ops.example")
    sign_in(plain, create_token(app, "mallory", "look").text)
    planted = {"Cookie": f"viral_ops={plain.cookies['viral_ops']}"}
    assert asking().get(PLACE, headers=planted).status_code == 401
    behind = {"X-Forwarded-Proto": "https"}
    assert asking(base="http://ops.example").get(PLACE, headers=planted | behind).status_code == 401
    assert asking(base="http://ops.example").get(PLACE, headers=planted).status_code == 200


def test_only_hashes_are_stored(app: App, asking: Asking, database_url: str) -> None:
    token = create_token(app, "ada", "look").text
    client = asking(ops_token=OPS_TOKEN)
    sign_in(client, token)
    session = client.cookies["__Host-viral_ops"]
    with app.db.transaction(SYSTEM) as tx:
        stored = tx.driver.execute("SELECT t::text || s::text FROM operator_tokens t, operator_sessions s").fetchall()
    assert len(stored) == 1
    assert token not in str(stored)
    assert session not in str(stored)
    assert session.encode().hex() not in str(stored)


def test_ops_token_is_shown_as_what_it_is(asking: Asking) -> None:
    client = asking(ops_token=OPS_TOKEN)
    assert sign_in(client, OPS_TOKEN).status_code == 303
    page = client.get(PLACE).text
    assert "Signed in with OPS_TOKEN, which names nobody: create named tokens" in page
    assert "OPS_TOKEN (act)" in page


def test_another_ops_token_ends_the_sessions_of_the_old_one(app: App, asking: Asking) -> None:
    client = asking(ops_token=OPS_TOKEN)
    named = create_token(app, "ada", "look").text
    sign_in(client, OPS_TOKEN)
    cookie = {"Cookie": f"__Host-viral_ops={client.cookies['__Host-viral_ops']}"}
    assert asking(ops_token=OPS_TOKEN).get(PLACE, headers=cookie).status_code == 200
    assert asking(ops_token=OPS_TOKEN[::-1]).get(PLACE, headers=cookie).status_code == 401
    assert asking().get(PLACE, headers=cookie).status_code == 401
    sign_in(client, named)
    cookie = {"Cookie": f"__Host-viral_ops={client.cookies['__Host-viral_ops']}"}
    assert asking(ops_token=OPS_TOKEN[::-1]).get(PLACE, headers=cookie).status_code == 200


def test_programs_send_a_token_as_bearer(app: App, asking: Asking) -> None:
    client = asking(ops_token=OPS_TOKEN)
    for token in (create_token(app, "grafana", "look").text, OPS_TOKEN):
        assert client.get("/metrics", headers=bearer(token)).text == "viral_up 1"
        assert client.get(PLACE, headers=bearer(token)).status_code == 200
    assert "form_token" not in client.get(PLACE, headers=bearer(OPS_TOKEN)).text
    assert not client.cookies
    for refused in (client.get("/metrics"), client.get("/metrics", headers=bearer("nobody's"))):
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="ops"'
        assert refused.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


def test_the_role_is_that_of_the_token(app: App, asking: Asking) -> None:
    client = asking()
    sign_in(client, create_token(app, "ada", "look").text)
    assert "ada (look)" in client.get(PLACE).text


def test_a_use_is_noted_at_most_once_a_minute(app: App, asking: Asking, clock: Clock) -> None:
    def seen() -> Any:
        with app.db.transaction(SYSTEM) as tx:
            return tx.driver.execute("SELECT seen_at, xmin::text FROM operator_sessions").fetchone()

    client = asking()
    sign_in(client, create_token(app, "ada", "look").text)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE operator_sessions SET seen_at = now() - interval '10 minutes'")
    before = seen()
    crossing = HTML | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get(PLACE, headers=crossing).status_code == 200
    assert seen() == before
    client.get(PLACE)
    noted = seen()
    assert noted != before
    clock.now += 30
    client.get(PLACE)
    assert seen() == noted


# --- without one -----------------------------------------------------------------------------------------------


def test_a_stranger_sees_nothing_but_the_form(asking: Asking) -> None:
    client = asking()
    for path in ("/ops", PLACE, "/ops/nowhere", "/ops/jobs/1?status=failed", "/ops/login/x", "/metrics"):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            if path == "/metrics" and method not in ("GET", "HEAD"):
                continue
            response = client.request(method, path, headers=FROM_OWN)
            assert response.status_code == 401, (method, path)
    assert client.get("/ops/login").status_code == 200
    assert client.get("/ops/static/ops.css").status_code == 200
    assert client.get("/ops/static/../app.py").status_code in (401, 404)


@pytest.mark.parametrize(
    "token", ["", "x", "viralops_" + "0" * 72, OPS_TOKEN[:-1], OPS_TOKEN + "a", OPS_TOKEN.lower(), "é" * 40, "\0" * 32]
)
def test_every_wrong_token_gets_the_same_answer(asking: Asking, token: str) -> None:
    response = sign_in(asking(ops_token=OPS_TOKEN), token)
    other = sign_in(asking(ops_token=OPS_TOKEN), "another")
    assert (response.status_code, response.text) == (401, other.text)
    assert "set-cookie" not in response.headers


def test_a_revoked_token_ends_its_sessions(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    client, program = asking(), asking()
    sign_in(client, token)
    assert program.get("/metrics", headers=bearer(token)).status_code == 200
    revoke_token(app, "ada")
    assert client.get(PLACE).status_code == 401
    assert program.get("/metrics", headers=bearer(token)).status_code == 401
    assert sign_in(client, token).status_code == 401
    other = create_token(app, "ada", "act").text  # the name is free again
    assert client.get(PLACE).status_code == 401
    assert sign_in(client, other).status_code == 303


def test_who_was_looked_up_is_looked_up_again_only_later(app: App, asking: Asking, clock: Clock) -> None:
    """Many open pages look all the time; a session ended elsewhere is over some seconds later, here it is at once."""
    token = create_token(app, "ada", "look").text
    client, leaving = asking(fresh_for=10), asking(fresh_for=10)
    sign_in(client, token)
    sign_in(leaving, token)
    assert (client.get(PLACE).status_code, leaving.get(PLACE).status_code) == (200, 200)
    cookie, fields = dict(leaving.cookies), {"form_token": form_token(leaving)}
    assert leaving.post("/ops/logout", data=fields, headers=FROM_OWN).status_code == 303
    leaving.cookies.update(cookie)
    assert leaving.get(PLACE).status_code == 401
    revoke_token(app, "ada")
    clock.now += 9
    assert client.get(PLACE).status_code == 200
    clock.now += 2
    assert client.get(PLACE).status_code == 401


def test_sessions_that_ask_are_looked_up_together(app: App, asking: Asking, clock: Clock) -> None:
    """So many open pages cost Postgres what one does; and what one look-up finds out of the others is not forgotten."""
    tokens = {name: create_token(app, name, "look").text for name in ("ada", "bob", "cleo")}
    clients = {name: asking(fresh_for=10) for name in tokens}
    for name, client in clients.items():
        sign_in(client, tokens[name])
        assert client.get(PLACE).status_code == 200
    clock.now += 11
    revoke_token(app, "bob")
    assert clients["ada"].get(PLACE).status_code == 200
    revoke_token(app, "cleo")
    assert clients["cleo"].get(PLACE).status_code == 200  # looked up with ada's, just before
    assert clients["bob"].get(PLACE).status_code == 401
    clock.now += 11
    assert clients["cleo"].get(PLACE).status_code == 401
    assert "ada (look)" in clients["ada"].get(PLACE).text


@pytest.mark.parametrize("change", ["expires_at = now()", "seen_at = now() - interval '121 minutes'"])
def test_a_session_ends(app: App, asking: Asking, clock: Clock, change: str) -> None:
    client = asking()
    sign_in(client, create_token(app, "ada", "look").text)
    assert client.get(PLACE).status_code == 200
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(f"UPDATE operator_sessions SET {change}")  # type: ignore[arg-type]
    clock.now += 7260
    assert client.get(PLACE).status_code == 401


def test_who_signs_out_is_out_and_nobody_else(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    one, other = asking(), asking()
    sign_in(one, token)
    sign_in(other, token)
    cookie = {"Cookie": f"__Host-viral_ops={one.cookies['__Host-viral_ops']}"}
    without = one.post("/ops/logout", data={"form_token": "0" * 64}, headers=FROM_OWN)
    assert without.status_code == 403
    of_another = one.post("/ops/logout", data={"form_token": form_token(other)}, headers=FROM_OWN)
    assert of_another.status_code == 403
    assert one.get("/ops/logout").status_code == 405
    assert one.get(PLACE).status_code == 200
    out = one.post("/ops/logout", data={"form_token": form_token(one)}, headers=FROM_OWN)
    assert (out.status_code, out.headers["location"]) == (303, "/ops/login")
    assert not one.cookies
    assert asking().get(PLACE, headers=cookie).status_code == 401
    assert other.get(PLACE).status_code == 200


def test_a_sign_in_begins_a_session_that_nobody_knew_before(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    mallory = asking()
    sign_in(mallory, create_token(app, "mallory", "look").text)
    begun = mallory.cookies["__Host-viral_ops"]
    for planted in (begun, "0" * 64):
        victim = asking()
        cookie = {"Cookie": f"__Host-viral_ops={planted}"}
        entered = victim.post("/ops/login", data={"token": token}, headers=FROM_OWN | cookie)
        assert victim.cookies["__Host-viral_ops"] not in (planted, begun)
        assert entered.status_code == 303
        assert asking().get(PLACE, headers=cookie).status_code == 401  # whatever was planted is over


# --- on this machine -------------------------------------------------------------------------------------------

LOCAL = {"address": "127.0.0.1", "base": "http://localhost:8000"}


@pytest.mark.parametrize(
    ("address", "base"),
    [("127.0.0.1", "http://localhost:8000"), ("::1", "http://[::1]:8000"), ("127.0.0.1", "http://127.0.0.1")],
)
def test_a_program_on_this_machine_may_look_while_there_is_no_token(asking: Asking, address: str, base: str) -> None:
    client = asking(address, base)
    page = client.get(PLACE)
    assert page.status_code == 200
    assert "No token was created yet" in page.text
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8000"},
        {"Host": "localhost.evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "evil.example@localhost"},
        {"Host": "localhost:8000:8000"},
        {"Host": "localhost:"} | {"X-Forwarded-Host": "localhost"},
        {"Host": ""},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Proto": "http"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 nginx"},
    ],
)
def test_names_that_lead_here_and_proxies_in_front_are_not_this_machine(
    asking: Asking, headers: dict[str, str]
) -> None:
    client = asking(**LOCAL)
    assert client.get(PLACE, headers=headers).status_code == 401
    assert client.get("/metrics", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9000"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_pages_of_other_sites_get_nothing_on_this_machine(asking: Asking, headers: dict[str, str]) -> None:
    client = asking(**LOCAL)
    assert client.get(PLACE, headers=headers).status_code == 403
    assert client.get("/metrics", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"public_url": "https://ops.example"},
        {"trusted_proxies": ("10.0.0.0/8",)},
        {"stripe_livemode": True},
        {"ops_token": OPS_TOKEN},
    ],
)
def test_what_strangers_reach_needs_a_token_on_this_machine_too(asking: Asking, changes: dict[str, Any]) -> None:
    assert asking(**LOCAL, **changes).get(PLACE).status_code == 401


def test_from_the_first_token_on_everybody_needs_one(app: App, asking: Asking) -> None:
    client = asking(**LOCAL)
    assert client.get(PLACE).status_code == 200
    create_token(app, "ada", "look")
    assert client.get(PLACE).status_code == 401
    revoke_token(app, "ada")
    assert client.get(PLACE).status_code == 401
    assert asking(**LOCAL).get(PLACE).status_code == 401


def test_no_other_address_needs_no_token(asking: Asking) -> None:
    for address in ("192.0.2.1", "10.0.0.1", "::ffff:192.0.2.1", "testclient", ""):
        assert asking(address, "http://localhost:8000").get(PLACE).status_code == 401


def test_a_forged_address_is_believed_of_nobody(asking: Asking) -> None:
    forged = {"X-Forwarded-For": "127.0.0.1", "Host": "localhost"}
    assert asking().get(PLACE, headers=forged).status_code == 401
    assert asking("10.0.0.1", trusted_proxies=("10.0.0.0/8",)).get(PLACE, headers=forged).status_code == 401


# --- other sites -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": OWN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": OWN, "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://ops.example.evil.example"},
        {"Origin": "https://ops.example:8443"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_no_other_site_signs_anybody_in_or_out(app: App, asking: Asking, headers: dict[str, str]) -> None:
    token = create_token(app, "ada", "look").text
    entered = asking().post("/ops/login", data={"token": token}, headers=headers)
    assert entered.status_code == 403
    assert "set-cookie" not in entered.headers
    client = asking()
    sign_in(client, token)
    out = client.post("/ops/logout", data={"form_token": form_token(client)}, headers=headers)
    assert out.status_code == 403
    assert client.get(PLACE).status_code == 200


def test_a_proxy_that_changes_the_host_is_named_by_public_url(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    headers = FROM_OWN | {"Host": "127.0.0.1:8000"}
    assert asking().post("/ops/login", data={"token": token}, headers=headers).status_code == 403
    client = asking(public_url=OWN)
    assert client.post("/ops/login", data={"token": token}, headers=headers).status_code == 303


@pytest.mark.parametrize(
    "place", ["//evil.example", "/\\evil.example", "https://evil.example", "/ops/..//evil.example"]
)
def test_a_sign_in_leads_to_no_other_site(app: App, asking: Asking, place: str) -> None:
    client = asking()
    entered = sign_in(client, create_token(app, "ada", "look").text, next=place)
    assert entered.headers["location"] == "/ops"
    assert "evil" not in client.get("/ops/login", params={"next": place}).text


def test_no_host_is_repeated(asking: Asking) -> None:
    for path in (PLACE, "/ops/login", "/ops/login/", "/ops//evil.example"):
        response = asking().get(path, headers=HTML | {"Host": "evil.example"})
        assert "evil.example" not in response.headers.get("location", "").partition("?")[0]
        assert "evil.example" not in response.text


def test_nothing_that_was_sent_becomes_markup(app: App, asking: Asking) -> None:
    nasty = "\"'><script>alert(1)</script>"
    client = asking()
    answers = [
        client.get("/ops/login", params={"next": f"/ops/{nasty}"}),
        client.get("/ops/login", params={"next": "/ops/workers?q='a'&b=%22"}),
        sign_in(client, nasty, next=f"/ops/jobs?q={nasty}"),
        client.get(f"/ops/{nasty}", headers=HTML),
        client.post("/ops/login", content=nasty, headers=FROM_OWN),
    ]
    for response in answers:
        assert "<script" not in response.text
        assert nasty not in response.text
    assert 'value="/ops/workers?q=&#39;a&#39;&amp;b=%22"' in answers[1].text


def test_whatever_is_answered_has_the_policy(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    client = asking()
    answers = [
        client.get(PLACE),
        client.get(PLACE, headers=HTML),
        client.get("/ops/login"),
        client.get("/ops/static/ops.css"),
        client.get("/ops/static/nothing.css"),
        client.post("/ops/login"),
        client.put("/ops/login"),
        sign_in(client, "wrong"),
        sign_in(client, token),
        client.get(PLACE),
        client.get("/ops/nowhere"),
        client.post(PLACE, headers=FROM_OWN),
        client.get(PLACE, headers={"Origin": "https://evil.example"}),
    ]
    assert [each.status_code for each in answers] == [401, 303, 200, 200, 404, 403, 405, 401, 303, 200, 404, 405, 403]
    for each in answers:
        assert each.headers.get_list("content-security-policy") == [HEADERS["Content-Security-Policy"]]
        assert each.headers["referrer-policy"] == "same-origin"


# --- attempts --------------------------------------------------------------------------------------------------


def test_wrong_tokens_are_limited_by_network_and_by_nothing_else(app: App, asking: Asking, clock: Clock) -> None:
    token = create_token(app, "ada", "look").text
    client = asking("2001:db8:1:2::3")
    statuses = [sign_in(client, f"wrong {n}").status_code for n in range(BURST + 3)]
    assert statuses == [401] * BURST + [429] * 3
    refused = sign_in(asking("2001:db8:1:2:ffff::"), token)  # the right one too, or it could be guessed
    assert (refused.status_code, refused.headers["retry-after"]) == (429, str(int(EVERY)))
    assert client.get("/metrics", headers=bearer("wrong")).status_code == 429
    assert sign_in(asking("2001:db8:1:3::3"), token).status_code == 303
    clock.now += EVERY
    assert sign_in(client, token).status_code == 303
    assert sign_in(client, token).status_code == 303  # what is right costs nothing


def test_the_limit_holds_for_many_threads(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    good, clients = asking("198.51.100.7"), [asking() for _ in range(8)]
    together = Barrier(len(clients) + 1)

    def attack(client: TestClient) -> list[int]:
        together.wait()
        return [client.get("/metrics", headers=bearer(f"wrong {n}")).status_code for n in range(10)]

    with ThreadPoolExecutor(len(clients)) as threads:
        attacks = [threads.submit(attack, each) for each in clients]
        together.wait()
        assert [sign_in(good, token).status_code for _ in range(5)] == [303] * 5
        statuses = [status for each in attacks for status in each.result()]
    assert statuses.count(401) == BURST
    assert statuses.count(429) == len(statuses) - BURST


def test_a_crowd_of_addresses_does_not_guess_ops_token_and_locks_nobody_out(
    app: App, asking: Asking, clock: Clock
) -> None:
    ada, first = create_token(app, "ada", "look").text, asking("198.51.100.1", ops_token=OPS_TOKEN)
    assert sign_in(first, OPS_TOKEN).status_code == 303
    for n in range(BURST_IN_ALL // BURST):
        crowd = asking(f"203.0.113.{n}", ops_token=OPS_TOKEN)
        assert {crowd.get("/metrics", headers=bearer(f"wrong {k}")).status_code for k in range(BURST)} == {401}
    late = asking("203.0.113.250", ops_token=OPS_TOKEN)
    assert late.get("/metrics", headers=bearer("wrong")).status_code == 429
    assert sign_in(late, OPS_TOKEN).status_code == 429  # it may be a guess
    assert sign_in(late, ada).status_code == 303  # nobody guesses this one
    assert sign_in(first, OPS_TOKEN).status_code == 303
    clock.now += 60
    assert sign_in(asking("203.0.113.251", ops_token=OPS_TOKEN), OPS_TOKEN).status_code == 303


def test_behind_a_proxy_attempts_are_counted_by_client(app: App, asking: Asking) -> None:
    token = create_token(app, "ada", "look").text
    client = asking("10.0.0.1", trusted_proxies=("10.0.0.0/8",))

    def attempt(token: str, forwarded: str) -> int:
        headers = FROM_OWN | {"X-Forwarded-For": forwarded}
        return client.post("/ops/login", data={"token": token}, headers=headers).status_code

    assert [attempt("wrong", f"198.51.100.{n}, 203.0.113.5") for n in range(BURST + 1)] == [401] * BURST + [429]
    assert attempt(token, "203.0.113.6") == 303


# --- bodies ----------------------------------------------------------------------------------------------------


def test_a_body_that_is_no_small_form_is_refused(asking: Asking) -> None:
    client = asking()
    form = FROM_OWN | {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/ops/login", content=b"token=" + b"x" * MAX_FORM, headers=form).status_code == 413
    assert client.post("/ops/login", content=b"&a=b" * 100, headers=form).status_code == 400
    assert client.post("/ops/login", content=b"token=\xff", headers=form).status_code == 400
    assert client.post("/ops/login", json={"token": "x"}, headers=FROM_OWN).status_code == 415
    assert client.post("/ops/login", files={"token": b"x"}, headers=FROM_OWN).status_code == 415


# --- while Postgres is away, or refuses ------------------------------------------------------------------------


@pytest.fixture
def away(app: App, owner_url: str) -> Iterator[Callable[[], None]]:
    """Have Postgres let nobody into this database any more, as when it is away."""
    name = psycopg.conninfo.conninfo_to_dict(owner_url)["dbname"]
    assert isinstance(name, str)
    database = sql.Identifier(name)
    with psycopg.connect(owner_url, dbname="postgres", autocommit=True) as owner:

        def shut() -> None:
            owner.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(database))
            end_others(owner, name)

        yield shut
        owner.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(database))


@pytest.fixture
def read_only(app: App, owner_url: str) -> Iterator[Callable[[], None]]:
    """Have Postgres take no writes any more, as a standby that another one was failed over to."""
    name = psycopg.conninfo.conninfo_to_dict(owner_url)["dbname"]
    assert isinstance(name, str)
    database = sql.Identifier(name)
    with psycopg.connect(owner_url, autocommit=True) as owner:

        def turn() -> None:
            owner.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database))
            end_others(owner, name)

        yield turn
        owner.execute("SET default_transaction_read_only = off")
        owner.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(database))


def end_others(owner: psycopg.Connection[Any], database: str) -> None:
    owner.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
        (database,),
    )


def test_pages_and_status_tell_what_a_postgres_has_that_takes_no_writes(
    app: App, asking: Asking, read_only: Callable[[], None]
) -> None:
    client = asking()
    sign_in(client, create_token(app, "ada", "look").text)
    tenant_id = a_tenant(app)
    assert "Postgres takes no writes" not in client.get("/ops").text
    read_only()
    pages = [f"/ops{page.path}" for page in PAGES if "{" not in page.path]
    for path in (*pages, f"/ops/tenants/{tenant_id}", "/ops/queues/llm"):
        page = client.get(path)
        assert page.status_code == 200, path
        assert "Postgres takes no writes" in page.text, path
    # A connection from before, of which the pool has not noticed that it was ended, says so once when it is next used.
    app.db.close()
    found, writes = looked(app, overview.status)
    assert not writes
    assert any("Postgres is read-only" in doubt.says for doubt in found.doubts)
    with pytest.raises(WritesRefused), app.db.transaction(SYSTEM) as tx:
        tx.now()


def test_whoever_was_admitted_still_is_while_postgres_serves_nobody(
    app: App, asking: Asking, clock: Clock, away: Callable[[], None]
) -> None:
    token = create_token(app, "ada", "act").text
    client, program = asking(ops_token=OPS_TOKEN), asking(ops_token=OPS_TOKEN)
    sign_in(client, token)
    client.get(PLACE)
    program.get("/metrics", headers=bearer(token))
    away()
    page = client.get(PLACE)
    assert page.status_code == 503
    assert "Nothing can be shown now" in page.text
    assert "you are remembered" in page.text
    assert "ada (look)" in page.text
    assert program.get("/metrics", headers=bearer(token)).status_code == 200
    for stranger in (bearer("wrong"), {"Cookie": f"__Host-viral_ops={'0' * 64}"}):
        refused = asking(ops_token=OPS_TOKEN).get(PLACE, headers=stranger)
        assert refused.status_code == 503
        assert "127.0.0.1" not in refused.text  # nor where Postgres is
    entered = asking(ops_token=OPS_TOKEN)
    assert sign_in(entered, OPS_TOKEN).status_code == 303
    assert "Signed in with OPS_TOKEN" in entered.get(PLACE).text
    out = entered.post("/ops/logout", data={"form_token": form_token(entered)}, headers=FROM_OWN)
    assert out.status_code == 303
    guesses = asking("198.51.100.9", ops_token=OPS_TOKEN)
    statuses = [guesses.get("/metrics", headers=bearer(f"wrong {n}")).status_code for n in range(BURST + 2)]
    assert statuses == [503] * BURST + [429] * 2  # OPS_TOKEN is to be guessed no faster then
    clock.now += 12 * 3600 + 1
    assert client.get(PLACE).status_code == 503
    assert "ada" not in client.get(PLACE).text


def test_a_program_on_this_machine_still_looks_while_postgres_serves_nobody(
    asking: Asking, away: Callable[[], None]
) -> None:
    client, other = asking(**LOCAL), asking(**LOCAL, media_most_bytes=2**20)
    assert client.get("/metrics").status_code == 200
    away()
    assert client.get("/metrics").status_code == 200
    assert other.get("/metrics").status_code == 503  # it never knew whether there is a token
