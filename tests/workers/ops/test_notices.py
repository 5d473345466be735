"""Somebody is told: one message for all that hurts, to every channel, at least once, and without a secret in it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from db.transaction import SYSTEM
from domain.ops.notices import KINDS
from integrations.channels import Sent
from simulators.loopback import Loopback, Reply
from tests.web.ops.hurting import EVIL, make_it_hurt, measure
from workers.app import App, build
from workers.ops import notices, overview
from workers.ops.notices import NoticeWatch, causes, channels_of, check, report, try_channels
from workers.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT_ONCE = timedelta(0)


@pytest.fixture
def receiver() -> Iterator[Loopback]:
    with Loopback(lambda request: Reply()) as server:
        yield server


def telling_by(settings: Settings, *urls: str, **others: Any) -> App:
    changed = {"notify_urls": " ".join(urls), "notify_webhook_secret": SECRET, "public_url": "https://viral.example"}
    return build(Settings.model_validate(settings.model_dump() | changed | others), name="tests")


@pytest.fixture
def telling(settings: Settings, receiver: Loopback) -> Iterator[App]:
    """Both kinds of channel, at one receiver: a signed webhook, and one of apprise's."""
    plain = receiver.url.replace("http://", "json://")
    app = telling_by(settings, f"{receiver.url}/signed/t0p-secret", f"{plain}/apprise/t0p-secret?rto=2")
    yield app
    app.close()


def verdict(app: App) -> tuple[str, str]:
    with app.db.transaction(SYSTEM) as tx:
        return check(app, tx)


def arrived(receiver: Loopback, path: str) -> list[Any]:
    return [each for each in receiver.requests if each.path.startswith(f"/{path}/")]


def test_all_that_hurts_is_one_message_by_each_channel_told_once(telling: App, receiver: Loopback) -> None:
    make_it_hurt(telling)
    watch = NoticeWatch(telling)
    assert watch.take_turn(AT_ONCE) is not None
    assert watch.send_due() == 2
    assert watch.take_turn(AT_ONCE) is None
    assert watch.send_due() == 0
    [signed], [plain] = arrived(receiver, "signed"), arrived(receiver, "apprise")
    body: Any = Webhook(SECRET).verify(signed.body, dict(signed.headers))
    assert body["type"] == "notices.sent"
    by_cause = {each["cause"]: each for each in body["data"]["notices"]}
    assert {"failed_jobs", "needs_reconnect", "deserted", "parked_money:thin", "unconfirmed_posts"} <= by_cause.keys()
    assert by_cause["unconfirmed_posts"]["page"] == "https://viral.example/ops/posts"
    assert "viral posts list --status unconfirmed" in body["data"]["text"]
    assert json.loads(plain.body)["message"] == body["data"]["text"]
    assert EVIL not in body["data"]["text"]


def test_every_cause_of_the_first_look_is_of_a_kind_that_is_known(app: App, settings: Settings) -> None:
    make_it_hurt(app)
    deaf = build(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}), name="tests")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO job_queue (job_type, queue) VALUES ('a', 'llm')")
        tx.driver.execute("INSERT INTO queue_policies (queue, paused_at) VALUES ('media', now())")
        tx.driver.execute("INSERT INTO job_queue (job_type, queue) VALUES ('a', 'media')")
    found = {each.cause.partition(":")[0] for each in causes(overview.status(deaf))}
    deaf.close()
    assert found <= KINDS.keys()
    assert KINDS.keys() - found == {"parked_identity", "queue_late", "no_scheduler"}


def test_many_processes_look_and_send_and_each_channel_is_told_once(telling: App, receiver: Loopback) -> None:
    make_it_hurt(telling)
    watches = [NoticeWatch(telling) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        written = [*threads.map(lambda watch: watch.take_turn(), watches)]
        assert len([each for each in written if each is not None]) == 1
        assert sum(threads.map(lambda watch: watch.send_due(), watches)) == 2
    assert len(arrived(receiver, "signed")) == len(arrived(receiver, "apprise")) == 1


class Killed(BaseException):
    """The process ends here."""


class KilledAfter:
    """A channel whose process dies when it has sent."""

    name = "1 webhook"

    def __init__(self, app: App) -> None:
        self._channel = channels_of(app)[0]

    def check(self) -> None:
        self._channel.check()

    def send(self, message: Sent) -> None:
        self._channel.send(message)
        raise Killed


def test_who_dies_between_sending_and_its_commit_has_it_sent_again_with_the_same_id(
    telling: App, receiver: Loopback
) -> None:
    make_it_hurt(telling)
    dying = NoticeWatch(telling, [KilledAfter(telling)])
    dying.take_turn(AT_ONCE)
    with pytest.raises(Killed):
        dying.send_due()
    living = NoticeWatch(telling)
    assert living.send_due() == 0
    with telling.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE notice_deliveries SET next_at = next_at - interval '3 minutes'")
    assert living.send_due() == 1
    first, second = arrived(receiver, "signed")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_a_channel_that_fails_is_tried_again_shown_and_keeps_its_secret(
    telling: App, receiver: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_hurt(telling)
    receiver.fail(Reply(status=503), path="/signed/", times=2)
    receiver.fail(Reply(status=403), path="/apprise/", times=2)
    watch = NoticeWatch(telling)
    watch.take_turn(AT_ONCE)
    assert watch.send_due() == 2
    assert watch.send_due() == 0
    found = report(telling)
    assert [each.error for each in found.channels] == [
        "1 webhook answered 503",
        "2 json did not take it: it answered 403",
    ]
    assert [each.waiting for each in found.channels] == [1, 1]
    assert verdict(telling) == ("warn", "1 webhook answered 503: try it with `viral notices test`")
    assert [error for _, error in try_channels(telling)] == [each.error for each in found.channels]
    with telling.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE notice_deliveries SET next_at = now()")
    assert watch.send_due() == 2
    assert verdict(telling) == ("ok", "people are notified by 1 webhook, 2 json")
    assert [error for _, error in try_channels(telling)] == [None, None]
    printed = capsys.readouterr()
    assert "t0p-secret" not in f"{printed.out}{printed.err}{found}"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://hooks.example.com/t0p-secret", "1 webhook: what is sent there has to be signed"),
        ("sleck://t0p-secret/a/b", "1 sleck: its address is not understood"),
    ],
)
def test_a_channel_that_cannot_work_is_named_by_the_doctor(settings: Settings, url: str, says: str) -> None:
    app = telling_by(settings, url, notify_webhook_secret="")
    state, text = verdict(app)
    app.close()
    assert (state, says in text, "t0p-secret" in text) == ("fail", True, False)


def test_an_address_that_a_service_gives_out_is_that_services(settings: Settings) -> None:
    url = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    app = telling_by(settings, url, notify_webhook_secret="")
    state, says = verdict(app)
    app.close()
    assert "no process has looked" in says, state


def test_at_night_only_what_cannot_wait_is_told(settings: Settings, receiver: Loopback) -> None:
    app = telling_by(settings, receiver.url, notify_quiet_hours="00:00-23:59:59.999999")
    make_it_hurt(app)
    written = NoticeWatch(app).take_turn(AT_ONCE)
    app.close()
    assert written is not None
    assert "Posts may be live without our knowing" in written.text
    assert "Jobs have failed" not in written.text


def test_a_process_that_lives_tells_of_a_dead_scheduler(telling: App) -> None:
    measure(telling)
    watch = NoticeWatch(telling)
    assert watch.take_turn(AT_ONCE) is None
    with telling.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE system_metrics SET at = at - interval '1 day'")
        tx.driver.execute("INSERT INTO schedule_fires VALUES ('posting.due', now() - interval '4 minutes', NULL)")
    written = watch.take_turn(AT_ONCE)
    assert written is not None
    assert written.title == "New: No scheduler works"
    assert "https://viral.example/ops/schedules" in written.text


def test_the_thread_of_a_process_looks_and_sends_by_itself(
    telling: App, receiver: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.wait import until

    make_it_hurt(telling)
    monkeypatch.setattr(notices, "WAKES", 0.01)
    watch = NoticeWatch(telling)
    watch.start()
    until(lambda: len(receiver.requests) == 2, "both channels to be told")
    watch.stop()
