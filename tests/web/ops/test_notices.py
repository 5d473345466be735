"""The page of notices: what people were notified of, and that nobody looks where there is nobody to notify."""

from datetime import timedelta

from starlette.testclient import TestClient

from integrations.channels import Channel
from tests.web.ops.hurting import make_it_hurt
from workers.app import App
from workers.ops.notices import NoticeWatch

NOBODY: list[Channel] = []


def test_what_nobody_has_looked_for_is_not_said_to_be_nothing(app: App, ops: TestClient) -> None:
    make_it_hurt(app)
    text = ops.get("/ops/notices").text
    assert "Nobody has looked" in text
    assert "Nothing hurts" not in text
    assert "NOTIFY_URLS is not set" in text


def test_it_lists_what_people_are_notified_of_and_then_that_it_is_over(app: App, ops: TestClient) -> None:
    watch = NoticeWatch(app, NOBODY)
    assert watch.take_turn(timedelta(0)) is None
    assert "Nothing hurts of which people would be notified." in ops.get("/ops/notices").text
    make_it_hurt(app)
    assert watch.take_turn(timedelta(0)) is not None
    text = ops.get("/ops/notices").text
    assert "Somebody last looked" in text
    assert "viral posts list --status unconfirmed" in text
    assert 'href="/ops/posts"' in text
    assert ops.get("/ops/notices?ended=yes").text.count("<li hx-ignore>") == text.count("<li hx-ignore>") > 3
    assert ops.get("/ops/notices?ended=perhaps").status_code == 400
