"""A simulated post is made older, here as on its platform, and no other post is."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from domain.errors import Conflict, Rejected, UnknownPost
from tests.post_stage import PostStage, post_stage
from workers.ops.backdating import backdate, is_simulated
from workers.ops.posts import show
from workers.settings import Settings

HOUR = timedelta(hours=1)


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, "tiktok") as stage:
        yield stage


def test_a_published_post_is_as_if_all_had_happened_earlier(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = here.ask(tenant_id, account_id)
    with pytest.raises(Conflict, match="only a published one"):
        backdate(here.app, tenant_id, post_id, HOUR)
    here.run()
    before = show(here.app, tenant_id, post_id)
    backdate(here.app, tenant_id, post_id, HOUR)
    after = show(here.app, tenant_id, post_id)
    for name in ("published_at", "submitted_at", "claimed_at", "scheduled_for", "measure_at"):
        assert after[name] == before[name] - HOUR, name
    assert after["created_at"] == before["created_at"]
    assert here.events(post_id)[-1] == "backdated"


def test_a_real_post_is_as_old_as_it_is(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "tiktok"))
    here.run()
    real = replace(here.app, settings=here.app.settings.model_copy(update={"tiktok_base_url": ""}))
    with pytest.raises(Rejected, match="TikTok is not simulated here"):
        backdate(real, tenant_id, post_id, HOUR)
    with pytest.raises(Rejected, match="not younger"):
        backdate(here.app, tenant_id, post_id, -HOUR)
    with pytest.raises(UnknownPost):
        backdate(here.app, tenant_id, uuid4(), HOUR)
    with pytest.raises(UnknownPost):
        backdate(here.app, here.tenant(), post_id, HOUR)


@pytest.mark.parametrize(
    ("address", "simulated"),
    [
        ("", False),
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("https://open.tiktokapis.com", False),
        ("https://127.0.0.1.example.com", False),
    ],
)
def test_what_is_simulated_is_on_this_machine(settings: Settings, address: str, simulated: bool) -> None:
    assert is_simulated(settings.model_copy(update={"tiktok_base_url": address}), "tiktok") is simulated
