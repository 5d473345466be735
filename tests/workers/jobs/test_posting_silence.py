"""A platform that lets the time of a question go by costs the threads of one post of the account, not of all."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from domain.errors import Unavailable
from domain.ports import Watch
from domain.posting.accounts import Credential
from domain.posting.limits import closed_bucket
from domain.posting.posts import PostStatus
from domain.posting.publishing import AccountLimits, Content, Handle, VideoFile
from domain.videos.media import StoreUnavailable
from tests.post_stage import PostStage, post_stage
from workers.jobs.post_work import SILENT
from workers.settings import Settings

TIKTOK = "tiktok"


class Silent:
    """TikTok, which lets questions about the limits of these accounts go by; all else is the real client's. `asked` are
    the accounts of such questions, in order. (What a time-out is: tests/integrations/http/test_silence.py.)"""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self.accounts: set[str] = set()
        self.asked: list[str] = []

    def limits(self, credential: Credential) -> AccountLimits:
        if credential.external_id in self.accounts:
            self.asked.append(credential.external_id)
            raise Unavailable("TikTok did not finish its answer within 15 seconds", silent=True)
        found: AccountLimits = self._publisher.limits(credential)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, TIKTOK) as made:
        publishers = {TIKTOK: Silent(made.app.ports.publishers[TIKTOK])}
        made.app = replace(made.app, ports=replace(made.app.ports, publishers=publishers))
        yield made


@pytest.fixture
def tiktok(here: PostStage) -> Any:
    return here.app.ports.publishers[TIKTOK]


def closed_for(here: PostStage, account_id: UUID) -> timedelta | None:
    with here.app.db.transaction(SYSTEM) as tx:
        until = tx.rates.closed_until([closed_bucket(TIKTOK, account_id)])
        return None if until is None else until - tx.now()


def statuses(here: PostStage, posts: list[UUID]) -> list[PostStatus]:
    return [here.show(post_id).status for post_id in posts]


def test_of_an_account_that_is_not_answered_one_post_asks_and_the_others_wait(here: PostStage, tiktok: Any) -> None:
    tenant_id = here.tenant()
    tiktok.accounts.add("quiet")
    quiet, other = here.account(tenant_id, TIKTOK, "quiet"), here.account(tenant_id, TIKTOK)
    posts = [here.ask(tenant_id, quiet) for _ in range(4)]
    healthy = here.ask(tenant_id, other)
    for minutes in (0, 2, 2, 2):  # the posts of an account are begun two minutes apart
        here.later(minutes=minutes)
        here.due()
        for _ in range(2):
            closed, before = closed_for(here, quiet) is not None, len(tiktok.asked)
            here.turn()
            assert len(tiktok.asked) - before == (0 if closed else 1)
    assert statuses(here, posts) == [PostStatus.CLAIMED] * 4
    assert here.show(healthy).status in (PostStatus.PUBLISHED, PostStatus.PROCESSING)
    wait = closed_for(here, quiet)
    assert wait is not None
    assert SILENT[0] < wait <= SILENT[1]
    assert closed_for(here, other) is None
    tiktok.accounts.clear()
    here.run()
    assert statuses(here, [*posts, healthy]) == [PostStatus.PUBLISHED] * 5
    here.assert_once()


def test_a_media_store_that_is_silent_says_nothing_of_the_platform(here: PostStage, tiktok: Any) -> None:
    """It may be asked through the house's client too; the post waits, and the account's others do not."""
    store = here.app.ports.media

    class SilentStore:
        def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
            raise StoreUnavailable("the media store did not finish its answer within 12 seconds", silent=True)

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    class Reading:
        def open(self, credential: Credential, content: Content, video: VideoFile, watch: Watch) -> Handle:
            next(video.read(0, video.size))
            opened: Handle = tiktok.open(credential, content, video, watch)
            return opened

        def __getattr__(self, name: str) -> Any:
            return getattr(tiktok, name)

    tenant_id = here.tenant()
    account_id = here.account(tenant_id, TIKTOK)
    post_id = here.ask(tenant_id, account_id)
    app = here.app
    here.app = replace(app, ports=replace(app.ports, media=SilentStore(), publishers={TIKTOK: Reading()}))  # type: ignore[arg-type, dict-item]
    here.due()
    here.turn()
    post = here.show(post_id)
    assert (post.status, closed_for(here, account_id)) == (PostStatus.CLAIMED, None)
    assert "media store" in (post.error_message or "")
    here.app = app
    here.run()
    assert here.show(post_id).status == PostStatus.PUBLISHED


def test_the_waits_for_a_platform_that_does_not_answer_grow_up_to_ten_minutes(here: PostStage, tiktok: Any) -> None:
    tenant_id = here.tenant()
    tiktok.accounts.add("quiet")
    quiet = here.account(tenant_id, TIKTOK, "quiet")
    post_id = here.ask(tenant_id, quiet)
    here.due()
    waits = []
    for _ in range(6):
        here.turn()
        wait = closed_for(here, quiet)
        assert wait is not None
        waits.append(round(wait / timedelta(minutes=1)))
        here.later(seconds=wait.total_seconds() + 1)
    assert waits == [1, 2, 4, 8, 10, 10]
    assert "did not finish its answer" in (here.show(post_id).error_message or "")
