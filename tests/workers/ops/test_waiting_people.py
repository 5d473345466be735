"""What waits for a person: which posts may be live without our knowing, on the page and in the shell."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from db.transaction import SYSTEM
from tests.post_stage import PostStage, post_stage
from web.ops.app import ops_routes
from workers.ops.waiting import Part, overview
from workers.settings import Settings

MASTODON = "mastodon"
EVIL = '"><script>alert(1)</script>'


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, MASTODON) as made:
        yield made


def waiting(here: PostStage) -> dict[str, Part]:
    with here.app.db.transaction(SYSTEM) as tx:
        return {part.name: part for part in overview(tx)}


def test_posts_of_which_nobody_knows_are_named_with_what_to_do(here: PostStage) -> None:
    assert not any(part.items for part in waiting(here).values())
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    post_id = here.ask(tenant_id, account_id)
    here.platforms[MASTODON].fault("post", "hang-up after")
    here.due()
    while here.show(post_id).status != "submitting":
        here.turn()
    [item] = waiting(here)["posts_in_doubt"].items
    assert (item.post_id, item.command) == (post_id, f"viral posts resolve {post_id} found|lost")
    assert "it was being sent when its process ended" in item.why
    here.run()
    assert waiting(here)["posts_in_doubt"].items == []
    with here.app.db.transaction(tenant_id) as tx:
        tx.driver.execute(
            "UPDATE social_posts SET status = 'unconfirmed', external_id = NULL, error_message = %s, caption = %s",
            (EVIL, EVIL),
        )
        tx.driver.execute(
            "UPDATE social_accounts SET username = %s, status = 'needs_reconnect', reason = %s", (EVIL, EVIL)
        )
    found = waiting(here)
    assert [each.post_id for each in found["posts_in_doubt"].items] == [post_id]
    assert found["accounts"].items[0].command == f"viral accounts connect {MASTODON} --tenant {tenant_id}"
    site = Starlette(routes=ops_routes(here.app))
    with TestClient(site, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as ops:
        for path in ("posts", f"posts/{post_id}", f"videos/{here.show(post_id).video_id}"):
            response = ops.get(f"/ops/{path}")
            assert response.status_code == 200, path
            assert "<script>alert" not in response.text
        assert f"viral posts resolve {post_id} found|lost" in ops.get("/ops/posts").text
        for path in ("posts/x", "videos/x", f"posts/{tenant_id}", f"videos/{tenant_id}"):
            assert ops.get(f"/ops/{path}").status_code == 404
