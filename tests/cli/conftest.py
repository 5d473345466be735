"""Shells: of a system with a fresh database, of none, and of one that does not answer."""

from pathlib import Path

import pytest

from tests.cli.shell import NOWHERE, Shell
from workers.settings import Settings


@pytest.fixture
def environment(settings: Settings, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": settings.database_url,
        "DIRECT_URL": settings.direct_url,
        "REDIS_URL": settings.redis_url,
        "VIRAL_HOME": str(tmp_path / "home"),
        "STRIPE_WEBHOOK_SECRET": "whsec_stripe",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "CLERK_JWKS_URL": "https://clerk.example.com/.well-known/jwks.json",
        "CLERK_AUTHORIZED_PARTIES": "https://app.example.com",
        "STRIPE_PRO_PRICE_ID": "price_pro",
    }


@pytest.fixture
def viral(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(environment, monkeypatch, capsys)


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell that is told of no database, beside an empty home."""
    return Shell({"VIRAL_HOME": str(tmp_path / "home")}, monkeypatch, capsys)


@pytest.fixture
def away(nothing_runs: Shell) -> Shell:
    """A shell whose servers do not answer: what it refuses, it refuses before it asks them."""
    nothing_runs.environment |= {"DATABASE_URL": NOWHERE, "REDIS_URL": "redis://127.0.0.1:1/0"}
    return nothing_runs
