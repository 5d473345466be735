"""The lists of all posts and all videos: by any filter, page by page, and acted on by what is ticked or what fits."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from db.ops import posts as views
from db.transaction import SYSTEM
from domain.ops.post_filters import PostFilter, VideoFilter
from tests.post_stage import PostStage, post_stage
from tests.web.ops.forms import FROM_OWN, forms_of, load, operator, send
from tests.web.ops.test_bulk import previewed
from workers.ops.post_lists import Listed, post_list, video_list
from workers.settings import Settings

F = TypeVar("F", PostFilter, VideoFilter)

MASTODON, BLUESKY = "mastodon", "bluesky"


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, MASTODON, BLUESKY) as made:
        yield made


@pytest.fixture
def ada(here: PostStage) -> Iterator[TestClient]:
    with operator(here.app) as client:
        yield client


def put(here: PostStage, post_id: UUID, status: str) -> UUID:
    with here.app.db.transaction(SYSTEM) as tx:
        query = "UPDATE social_posts SET status = %s, error_message = 'no <b>way</b>' WHERE id = %s"
        tx.driver.execute(query, (status, post_id))
    return post_id


def test_posts_are_listed_by_any_filter_and_acted_on_by_it(here: PostStage, ada: TestClient) -> None:
    tenant, other = here.tenant(), here.tenant()
    accounts = {(each, name): here.account(each, name) for each in (tenant, other) for name in (MASTODON, BLUESKY)}
    made = {key: put(here, here.ask(key[0], account, title=""), "failed") for key, account in accounts.items()}
    scheduled = here.ask(tenant, accounts[tenant, MASTODON], after=timedelta(days=1), title="")

    def shown(query: str) -> set[UUID]:
        page = ada.get(f"/ops/posts/all{query}").text
        assert "<b>way" not in page
        return {each for each in (*made.values(), scheduled) if f'id="row-{each}"' in page}

    mine, theirs = made[tenant, MASTODON], made[other, MASTODON]
    assert shown("") == {*made.values(), scheduled}
    assert shown("?status=failed") == {*made.values()}
    assert shown("?status=scheduled&platform=mastodon") == {scheduled}
    assert shown(f"?tenant={tenant}&platform=mastodon") == {mine, scheduled}
    assert shown(f"?account={accounts[other, MASTODON]}") == {theirs}
    assert shown("?since=1h&until=30m") == set()
    for wrong in ("?status=gone", "?platform=x", "?tenant=7", "?since=soon", "?after=7", "?colour=red"):
        assert ada.get(f"/ops/posts/all{wrong}").status_code == 400
    form = load(ada, "/ops/posts/all?status=failed&platform=mastodon")
    assert not any("post.approve" in button["formaction"] for button in form.buttons if button["value"] == "all")
    place = previewed(ada, form, "post.retry", scope="all", arguments="asked")
    assert "viral posts retry --status failed --platform mastodon" in ada.get(place).text
    assert send(ada, load(ada, place), reason="it is back").status_code == 303
    here.run()
    assert [here.show(made[key]).status for key in made] == ["published", "failed", "published", "failed"]
    here.assert_once()
    ticked = previewed(ada, load(ada, "/ops/posts/all"), "post.cancel", scope="ticked", target=[f"post:{scheduled}"])
    send(ada, load(ada, ticked), reason="not this one")
    here.turn()
    assert here.show(scheduled).status == "cancelled"


def test_of_many_only_what_can_be_said_of_all_is_asked(here: PostStage, ada: TestClient) -> None:
    tenant = here.tenant()
    put(here, here.ask(tenant, here.account(tenant, BLUESKY), title=""), "unconfirmed")
    form = load(ada, "/ops/posts")
    assert {button["formaction"] for button in form.buttons} == {
        f"/ops/act/{name}/preview" for name in ("post.resolve", "post.reconcile")
    }
    asked = ada.post("/ops/act/post.resolve/preview", data=form.filled({}) | {"scope": "all"}, headers=FROM_OWN)
    [form] = forms_of(asked.text)
    assert [value for name, value in form.boxes if name == "arg.verdict"] == ["lost"]
    assert "arg.external_id" not in dict(form.fields)
    refused = ada.post(form.action, data=form.filled({"arg.verdict": "found"}), headers=FROM_OWN)
    assert refused.status_code == 400
    assert "no &#39;found&#39;" in refused.text
    sent = ada.post(form.action, data=form.filled({"arg.verdict": "lost"}), headers=FROM_OWN)
    assert "/ops/bulk/" in sent.headers["location"]


@pytest.mark.parametrize("walk", [2, 3])
def test_a_list_goes_on_where_it_ended_whatever_it_had_looked_at(
    here: PostStage, monkeypatch: pytest.MonkeyPatch, walk: int
) -> None:
    monkeypatch.setattr(views, "WALK", walk)
    tenant = here.tenant()
    account = here.account(tenant, BLUESKY)
    ids = [here.ask(tenant, account, title="") for _ in range(7)]
    for each in ids[::3]:
        put(here, each, "cancelled")
    for wanted in (PostFilter(), PostFilter(status="cancelled"), PostFilter(status="scheduled", tenant_id=tenant)):
        whole = [row["id"] for row in _all(lambda each: post_list(here.app, each, limit=2), wanted)]
        fits = [each for each in reversed(ids) if wanted.status in (None, here.show(each).status)]
        assert whole == fits
    assert len(_all(lambda each: video_list(here.app, each, limit=2), VideoFilter(status="completed"))) == 7


def _all(look: Callable[[F], Listed[F]], wanted: F) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for _ in range(20):
        found = look(wanted)
        rows += found.rows
        if found.further is None:
            return rows
        wanted = found.further
    raise AssertionError("the list does not end")
