"""Who may see the operator's page: tokens, and the sessions that are begun with them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_bytes, token_hex
from typing import Any

import structlog

from db.transaction import SYSTEM
from domain.errors import OperatorTokenInvalid, Unavailable
from domain.ops.operators import (
    BY_SETTING,
    SESSION_BYTES,
    SESSION_IDLE,
    SESSION_LIFE,
    TOKEN_BYTES,
    Operator,
    OperatorRole,
    is_same,
    new_token,
    session_hash,
    token_hash,
)
from workers.app import App

NOTED_EVERY = timedelta(minutes=1)
"""How often it is written down that a session or a token is used."""
PATIENCE = timedelta(seconds=5)
"""Of a look-up: whoever waits longer gets the answer that Postgres does not answer."""

log = structlog.get_logger()


@dataclass(frozen=True)
class MadeToken:
    """`row` is what is stored, without the hash; `text` is shown this once."""

    row: dict[str, Any]
    text: str


def create_token(app: App, name: str, role: str) -> MadeToken:
    """Make a token. Of any number at once that get one name, one is made.

    Raises:
        OperatorTokenInvalid: the name or the role cannot be, or a live token has the name.
    """
    token = new_token(token_bytes(TOKEN_BYTES), name=name, role=role)
    with app.db.transaction(SYSTEM) as tx:
        row = tx.operators.add(tx.new_id(), token)
    if row is None:
        text = f"there is a token {name} already; `viral ops token revoke {name}` ends it, and then another can be made"
        raise OperatorTokenInvalid(text)
    return MadeToken(row, token.text)


def tokens(app: App) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        return tx.operators.all()


def revoke_token(app: App, name: str) -> dict[str, Any]:
    """End the token and its sessions; a process that has just looked one up asks again within seconds.

    Raises:
        OperatorTokenInvalid: no live token has this name.
    """
    with app.db.transaction(SYSTEM) as tx:
        row = tx.operators.revoke(name)
    if row is None:
        raise OperatorTokenInvalid("there is no live token of this name; `viral ops token list` shows them")
    return row


def tokens_were_made(app: App) -> bool:
    """Return whether there ever was a token: to revoke the last one opens nothing."""
    with app.db.transaction(SYSTEM, timeout=PATIENCE) as tx:
        return tx.operators.were_ever_made()


def ops_token(app: App) -> str | None:
    secret = app.settings.ops_token
    return None if secret is None else secret.get_secret_value()


def operator_by_token(app: App, text: str, *, note: bool = True, by_setting: bool = True) -> Operator | None:
    """Return whose token this is. For whatever is nobody's the same is done, so it takes as long.

    `note`: write down that it is used, unless that was done a minute ago. `by_setting=False`: OPS_TOKEN is not
    accepted.

    Raises:
        Unavailable: Postgres does not answer, and it is not OPS_TOKEN.
    """
    if is_same(text, ops_token(app)) and by_setting:
        return BY_SETTING
    with app.db.transaction(SYSTEM, timeout=PATIENCE) as tx:
        found = tx.operators.find(token_hash(text), noted_every=NOTED_EVERY)
    if found is None:
        return None
    if note and found.use_is_due:
        _note(app, "token", lambda tx: tx.operators.note_use(found.id, noted_every=NOTED_EVERY))
    return Operator(found.name, OperatorRole(found.role), found.id)


def new_session() -> str:
    return token_hex(SESSION_BYTES)


def begin_session(app: App, operator: Operator, session: str) -> None:
    """Store the session.

    Raises:
        Unavailable: Postgres stores nothing now.
    """
    with app.db.transaction(SYSTEM, timeout=PATIENCE) as tx:
        tx.operators.begin_session(_hash(app, operator, session), operator.token_id, SESSION_LIFE)


@dataclass(frozen=True)
class AskedSession:
    """A session that is to be looked up, by its two hashes: as one of a named token, and as one of OPS_TOKEN (None
    without it). `note`: write down that it is used, unless that was done a minute ago. `used_lately`: the caller knows
    that it was, even if nobody could write it down."""

    hash: bytes
    ops_hash: bytes | None
    note: bool = False
    used_lately: bool = False


def asked_session(app: App, session: str) -> AskedSession:
    secret = ops_token(app)
    return AskedSession(session_hash(session), None if secret is None else session_hash(session, secret))


def operators_by_session(app: App, asked: Sequence[AskedSession]) -> dict[bytes, Operator]:
    """Return whose sessions these are, by their `hash`; without those that are nobody's, over or idle, or whose token
    is revoked. Many cost as much as one.

    Raises:
        Unavailable: Postgres does not answer.
    """
    by_hash = {each.hash: each for each in asked}
    by_hash |= {each.ops_hash: each for each in asked if each.ops_hash is not None}
    with app.db.transaction(SYSTEM, timeout=PATIENCE) as tx:
        live = tx.operators.sessions([each.hash for each in asked], [each.ops_hash for each in asked if each.ops_hash])
    found, used = {}, []
    for each in live:
        by = by_hash[each.session_hash]
        if each.idle > SESSION_IDLE and not by.used_lately:
            continue
        if each.name is None or each.role is None:
            found[by.hash] = BY_SETTING
        else:
            found[by.hash] = Operator(each.name, OperatorRole(each.role), each.token_id)
        used += [each] if by.note else []
    if any(each.idle >= NOTED_EVERY for each in used):
        # The others too, if it is about time: so it is written down together the next time, too.
        hashes = [each.session_hash for each in used]
        _note(app, "session", lambda tx: tx.operators.touch(hashes, noted_every=NOTED_EVERY / 2))
    return found


def end_session(app: App, session: str) -> None:
    """End it, whoever began it.

    Raises:
        Unavailable: Postgres stores nothing now.
    """
    secret = ops_token(app)
    with app.db.transaction(SYSTEM, timeout=PATIENCE) as tx:
        tx.operators.end_session(session_hash(session))
        if secret is not None:
            tx.operators.end_session(session_hash(session, secret))


def _hash(app: App, operator: Operator, session: str) -> bytes:
    return session_hash(session, ops_token(app) if operator.token_id is None else None)


def _note(app: App, what: str, write: Callable[[Any], None]) -> None:
    """Write down a use; while Postgres refuses writes, nobody is to see less for it."""
    with suppress(Unavailable), app.db.transaction(SYSTEM, durable=False, timeout=PATIENCE) as tx:
        write(tx)
        return
    log.warning("ops.use_not_noted", of=what, seldom=True)
