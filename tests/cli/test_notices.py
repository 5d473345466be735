"""`viral notices` and `viral webhooks`, and their settings: who is notified, what was sent, what cannot be."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from simulators.loopback import Loopback, Reply
from tests.builders import a_tenant
from tests.cli.shell import Shell
from tests.web.ops.hurting import make_it_hurt
from tests.workers.jobs.test_outgoing import Shop, bring_forward, run
from workers.app import App, build
from workers.ops.notices import NoticeWatch
from workers.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = Fernet.generate_key().decode()


@pytest.fixture
def receiver() -> Iterator[Loopback]:
    with Loopback(lambda request: Reply()) as server:
        yield server


@pytest.fixture
def notifying(viral: Shell, receiver: Loopback) -> Shell:
    urls = f"{receiver.url}/t0p-secret {receiver.url.replace('http', 'json')}/t0p-secret"
    viral.environment |= {"NOTIFY_URLS": urls, "NOTIFY_WEBHOOK_SECRET": SECRET}
    return viral


def test_without_a_channel_it_says_how_to_have_one(viral: Shell) -> None:
    assert "Nobody has looked" in viral.done("notices", "list").out
    result = viral("notices", "test")
    assert (result.code, result.err) == (1, "")
    assert "NOTIFY_URLS is not set" in result.out
    assert "docs/notices.md" in result.out


def test_channels_are_tried_and_one_that_does_not_take_it_is_named_without_its_secret(
    notifying: Shell, receiver: Loopback
) -> None:
    assert notifying.done("notices", "test").lines == ["1 webhook: taken", "2 json: taken"]
    receiver.fail(Reply(status=503), path="/t0p-secret", times=1)
    result = notifying("notices", "test")
    assert (result.code, result.err) == (1, "")
    assert result.lines == ["1 webhook answered 503", "2 json: taken"]
    assert "t0p-secret" not in result.out
    nowhere = notifying("notices", "test", NOTIFY_URLS="https://127.0.0.1:99999/t0p-secret sleck://t0p-secret/a")
    assert (nowhere.code, nowhere.err, len(nowhere.lines)) == (1, "", 2)
    assert "t0p-secret" not in nowhere.out


def test_notices_are_listed_by_their_cause_with_the_line_that_leads_on(
    notifying: Shell, app: App, settings: Settings
) -> None:
    make_it_hurt(app)
    values = {"notify_urls": notifying.environment["NOTIFY_URLS"], "notify_webhook_secret": SECRET}
    sending = build(Settings.model_validate(settings.model_dump() | values), name="tests")
    assert NoticeWatch(sending).take_turn(timedelta(0)) is not None
    sending.close()
    found = notifying.json("notices", "list")
    assert {"parked_money:unknown_price", "accounts_disconnected"} & {each["cause"] for each in found["notices"]}
    assert [each["channel"] for each in found["channels"]] == ["1 webhook", "2 json"]
    out = notifying.done("notices", "list").out
    assert "viral events list --source stripe --status parked:unknown_price" in out
    assert "t0p-secret" not in f"{out}{found}"
    with_ended = notifying.json("notices", "list", "--ended", "-n", 1)
    assert len(with_ended["notices"]) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFY_URLS", "t0p-secret without a scheme"),
        ("NOTIFY_WEBHOOK_SECRET", "t0p-secret"),
        ("NOTIFY_QUIET_HOURS", "22-7"),
        ("NOTIFY_QUIET_HOURS", "25:00-07:00"),
        ("NOTIFY_QUIET_HOURS", "22:00-22:00"),
        ("NOTIFY_TIMEZONE", "Mars/Olympus"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_that_names_it(viral: Shell, name: str, value: str) -> None:
    line = viral.refused("notices", "test", **{name: value})
    assert name in line
    assert "t0p-secret" not in line


def test_an_endpoint_is_made_listed_sent_to_and_deleted_from_the_shell(
    viral: Shell, settings: Settings, receiver: Loopback
) -> None:
    values = {"token_encryption_keys": KEY, "webhook_receiver_base_url": receiver.url}
    sending = build(Settings.model_validate(settings.model_dump() | values), name="tests")
    shop = Shop(sending, receiver)
    viral.environment |= {"TOKEN_ENCRYPTION_KEYS": KEY, "WEBHOOK_RECEIVER_BASE_URL": receiver.url}
    of = ("--tenant", shop.id)
    made = viral.json("webhooks", "create", f"{receiver.url}/more", *of, "--event", "post.failed")
    assert made["secret"].startswith("whsec_")
    assert made["secret"] not in viral.done("webhooks", "list", *of).out
    assert made["id"] in {each["id"] for each in viral.json("webhooks", "list", *of)}
    assert viral.done("webhooks", "deliveries", *of).out == "Nothing was sent in 30 days.\n"

    shop.fail(shop.posts[0])
    run(sending)
    to_it = ("webhooks", "deliveries", *of, "--endpoint", made["id"])
    [sent] = viral.json(*to_it)
    assert (sent["event"], sent["status_code"]) == ("post.failed", 200)
    viral.done("webhooks", "replay", sent["id"])
    bring_forward(sending)
    run(sending)
    first, second = (each for each in receiver.requests if each.path == "/more")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    sending.close()

    assert viral.done("webhooks", "delete", made["id"], *of).out == "Deleted.\n"
    assert made["id"] not in {each["id"] for each in viral.json("webhooks", "list", *of)}
    for gone in (("delete", made["id"], *of), ("replay", sent["id"])):
        assert viral.refused("webhooks", *gone).startswith("viral: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("http://example.com/hook",), "https"),
        (("https://10.0.0.1/",), "internet"),
        (("https://example.com/", "--event", "post.deleted"), "post.published"),
    ],
)
def test_an_endpoint_that_cannot_be_is_one_line(viral: Shell, app: App, words: tuple[str, ...], says: str) -> None:
    line = viral.refused("webhooks", "create", *words, "--tenant", a_tenant(app), TOKEN_ENCRYPTION_KEYS=KEY)
    assert says in line


def test_nobody_s_endpoints_are_none_and_what_nobody_has_is_refused(viral: Shell) -> None:
    assert "tenant" in viral.refused("webhooks", "list", "--tenant", uuid4())
    assert viral.refused("webhooks", "replay", uuid4()).startswith("viral: ")


def test_a_command_whose_servers_are_away_is_one_line_with_the_next_thing_to_try(away: Shell) -> None:
    for words in (("status",), ("jobs", "explain", uuid4()), ("notices", "list"), ("tenants", "list")):
        line = away.refused(*words)
        assert line.startswith("viral: Postgres does not answer")
        assert "`viral doctor`" in line


def test_what_is_no_id_is_said_so(away: Shell) -> None:
    assert "it is no id; ids are as long as" in away.senseless("webhooks", "replay", "x")
