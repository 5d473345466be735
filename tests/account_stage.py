"""Tenants with connected accounts for tests: real Postgres, real encryption, and a platform that is played.

The platform stands in for what the simulators of `simulators/platforms` do over sockets, where the point is who keeps
which tokens: it gives each refresh token for one use, and its old tokens stop at once.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet

from db.transaction import SYSTEM
from domain.errors import NotSent, Unavailable
from domain.ports import Login
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.publishing import AccountRevoked, HeldOff
from integrations.vault import FernetVault
from tests.builders import NOV_22, a_tenant
from tests.drain import drain
from workers.app import App
from workers.engine.context import Context
from workers.engine.heartbeat import LEASE
from workers.engine.job import job
from workers.engine.runner import Runner
from workers.jobs.accounts import access, sealed

KEY, OTHER_KEY = Fernet.generate_key().decode(), Fernet.generate_key().decode()
TWO_HOURS, SIXTY_DAYS = timedelta(hours=2), timedelta(days=60)
PLATFORM = "tiktok"


@dataclass
class PlayedPlatform(Login):
    """`faults` are how the next refreshes fail: "lost" and "500" are acted upon or not, and nobody can tell; "not sent"
    and "429" are not; "revoked" is the owner's word. `during` is called while a refresh is under way, and
    `after` when it was acted upon."""

    clock: Callable[[], datetime]
    rotating: bool = True
    access_for: timedelta = TWO_HOURS
    passwords: bool = False
    faults: deque[str] = field(default_factory=deque)
    during: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    refreshes: int = 0
    revoked: list[str] = field(default_factory=list)
    good_refresh: set[str] = field(default_factory=set)
    good_access: set[str] = field(default_factory=set)
    handed_out: list[str] = field(default_factory=list)
    """Every secret that it gave."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def grant(self, external_id: str = "ext-1", *, with_refresh: bool = True) -> Grant:
        """Give tokens, as to somebody who has just connected the account."""
        with self._lock:
            number = len(self.handed_out)
            opens, renews = f"access-{external_id}-{number}-planted", f"refresh-{external_id}-{number}-planted"
            self.good_access.add(opens)
            self.handed_out += [opens, renews]
            if with_refresh:
                self.good_refresh.add(renews)
            now = self.clock()
            return Grant(
                opens,
                renews if with_refresh else "",
                access_expires_at=now + self.access_for,
                refresh_expires_at=now + timedelta(days=180) if with_refresh else None,
                scopes=("video.publish",),
                external_id=external_id,
                username=f"user of {external_id}",
            )

    def authorize_url(self, app: AppRegistration, *, state: str, challenge: str, redirect_uri: str, server: str) -> str:
        return f"https://platform.example/authorize?state={state}&code_challenge={challenge}"

    def exchange(self, app: AppRegistration, *, code: str, verifier: str, redirect_uri: str, server: str) -> Grant:
        if self.faults:
            self._fail(self.faults.popleft())
        return self.grant(code)

    def refresh(self, app: AppRegistration, grant: Grant, server: str) -> Grant:
        with self._lock:
            self.refreshes += 1
        fault = self.faults.popleft() if self.faults else ""
        self.during()
        if fault not in ("", "lost"):
            self._fail(fault)
        if grant.refresh_token not in self.good_refresh:
            raise AccountRevoked("invalid_grant", "the refresh token opens nothing")
        if self.rotating:
            self.good_refresh.discard(grant.refresh_token)
            self.good_access.discard(grant.access_token)
        new = self.grant(grant.external_id)
        if not self.rotating:
            new = replace(new, refresh_token="", refresh_expires_at=None)
        self.after()
        if fault == "lost":
            self._fail(fault)
        return new

    def revoke(self, app: AppRegistration, grant: Grant, server: str) -> None:
        self.revoked.append(grant.access_token)

    def register(self, server: str, redirect_uri: str) -> AppRegistration:
        return AppRegistration("client", "client-secret-planted")

    def log_in(self, name: str, password: str, server: str) -> Grant:
        if password != "app-password":
            raise AccountRevoked("AuthenticationRequired", "wrong name or password")
        return replace(self.grant(f"did:plc:{name}"), server="https://pds.example")

    @staticmethod
    def _fail(fault: str) -> None:
        match fault:
            case "not sent":
                raise NotSent("nobody took the connection")
            case "429":
                raise HeldOff("rate_limit_exceeded", "too many", retry_after=timedelta(minutes=1))
            case "revoked":
                raise AccountRevoked("invalid_grant", "the owner took it away")
        raise Unavailable(f"no answer ({fault})")


@dataclass
class Clock:
    """A clock that a test moves; the application's is the same."""

    moment: datetime = NOV_22

    def __call__(self) -> datetime:
        return self.moment

    def later(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


@dataclass
class Stage:
    """`app` knows one played platform, by the name `tiktok` (and whatever else a test gives it)."""

    app: App
    clock: Clock
    platform: PlayedPlatform
    tenant_id: UUID

    def connect(self, grant: Grant | None = None, tenant_id: UUID | None = None, platform: str = PLATFORM) -> UUID:
        """Keep tokens as a connection does, and return the account's id."""
        vault, owner = self.app.ports.vault, tenant_id or self.tenant_id
        assert vault is not None
        new = grant or self.platform.grant()
        with self.app.db.transaction(owner) as tx:
            row = tx.social_accounts.connect(
                tx.new_id(), owner, platform, grant=new, tokens=sealed(vault, new), now=self.clock()
            )
        found: UUID = row["id"]
        return found

    def row(self, account_id: UUID, tenant_id: UUID | None = None) -> dict[str, Any]:
        with self.app.db.transaction(tenant_id or self.tenant_id) as tx:
            found = tx.social_accounts.get(tenant_id or self.tenant_id, account_id)
        assert found is not None
        return found

    def tokens(self, account_id: UUID) -> tuple[str, str]:
        """Return the account's tokens in clear."""
        vault = self.app.ports.vault
        with self.app.db.transaction(self.tenant_id) as tx:
            found = tx.social_accounts.tokens(self.tenant_id, account_id)
        assert found is not None
        assert vault is not None
        opens, renews = found[1].access, found[1].refresh
        return "" if opens is None else vault.unseal(opens), "" if renews is None else vault.unseal(renews)

    def run(self, account_id: UUID, *, refused: str = "") -> dict[str, Any]:
        """Run a job that asks for what opens the account, and return the job's row."""
        with self.app.db.transaction(self.tenant_id) as tx:
            job_id = open_account.enqueue(tx, tenant_id=self.tenant_id, account_id=account_id, refused=refused)
        self.drain()
        with self.app.db.transaction(SYSTEM) as tx:
            row = tx.jobs.get(job_id)
        assert row is not None
        return row

    def drain(self) -> int:
        return drain(self.app)

    def register(self, runner: Runner) -> None:
        """Let a runner of this test's own be one that works."""
        with self.app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=(), version="", lease=LEASE)

    def with_keys(self, *keys: str) -> "Stage":
        """Return the stage as a process with these encryption keys has it."""
        return replace(self, app=replace(self.app, ports=replace(self.app.ports, vault=FernetVault(keys))))


OBTAINED: list[Credential] = []


@job("tests.open_account", queue="social", max_attempts=1)
def open_account(ctx: Context, tenant_id: UUID, account_id: UUID, refused: str = "") -> None:
    """Obtain what opens the account, as jobs that post do."""
    bad = Credential("", refused) if refused else None
    OBTAINED.append(access(ctx, tenant_id, account_id, refused=bad))
    with ctx.finish():
        pass


@contextmanager
def account_stage(app: App, **platform: Any) -> Iterator[Stage]:
    """A tenant, a clock that stands, and a played platform."""
    OBTAINED.clear()
    clock = Clock(datetime.now(UTC))
    played = PlayedPlatform(clock, **platform)
    ports = replace(
        app.ports,
        logins={PLATFORM: played, "youtube-shorts": played, "mastodon": played, "instagram-reels": played},
        login_apps={name: AppRegistration("id", "secret-planted") for name in (PLATFORM, "youtube-shorts")},
        publishers={},
        vault=FernetVault([KEY]),
    )
    changed = replace(app, ports=ports, clock=clock, job_types={**app.job_types, open_account.name: open_account})
    yield Stage(changed, clock, played, a_tenant(app))
