"""`viral dev verify-…`: judge what the outside sent as the server would, by the same code, at any time one likes."""

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import moment
from cli.output import console
from cli.session import known
from cli.shell import Group
from domain.errors import ViralError
from domain.text.readable import readable

At = Annotated[
    datetime | None, typer.Option(parser=moment, metavar="TIME", help="Judge as of this time. Default: now.")
]

STDIN = "-"

PATIENCE = 10.0
"""Seconds: nobody else waits here, and a fetch of Clerk's keys ends before."""


class Refused(ViralError):
    """The server would refuse it."""

    def __init__(self, code: str, reason: object) -> None:
        super().__init__(f"refused: {code}: {reason}")


def add_to(app: Group) -> None:
    app.command("verify-token")(verify_token)
    app.command("verify-webhook")(verify_webhook)


def verify_token(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="A session token of Clerk; `-`: from standard input.")],
    at: At = None,
) -> None:
    """Judge a session token by the keys that are set.

    CLERK_JWKS_URL or CLERK_JWT_KEY must be set; CLERK_ISSUER and CLERK_AUTHORIZED_PARTIES narrow it. Exit code 0:
    accepted; 1: refused, and the line says why.
    """
    from domain.errors import NotAuthenticated, Unavailable
    from web.session_verifier import session_verifier
    from workers.runtime import logs

    logs.configure("console", "ERROR")
    judge = session_verifier(known(), wait=PATIENCE)
    if judge is None:
        raise Refused("SIGN_IN_NOT_SET_UP", "no Clerk account is set up: set CLERK_JWKS_URL or CLERK_JWT_KEY")
    text = sys.stdin.buffer.read().decode(errors="replace") if token == STDIN else token
    try:
        session = judge.verify(text.strip(), _unix(at))
    except NotAuthenticated as error:
        raise Refused(error.code, error) from None
    except Unavailable as error:
        raise Refused("UNAVAILABLE", error) from None
    where = session.organization
    of = f" in {where.id} as {where.role}" if where else ""
    _say(f"accepted: {session.user}{of}, session {session.id}, until {readable(session.expires_at)}")


def verify_webhook(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Who sent it: stripe or clerk.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The body, byte for byte; `-`: from standard input.")],
    header: Annotated[
        list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A header that came with it; repeat it.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="SECRET", help="A signing secret instead of those that are set; repeat it."),
    ] = None,
    at: At = None,
) -> None:
    """Judge a signed body. Exit code 0: accepted; 1: refused, and the line says why.

    \b
    viral dev verify-webhook stripe --header 'Stripe-Signature: t=…,v1=…' event.json
    """
    from domain.errors import MalformedEvent, SignatureInvalid
    from web.server.body import MAX_BODY
    from web.webhooks import EVENT_READERS, usable_secrets

    if source not in EVENT_READERS:
        raise typer.BadParameter(f"there are {' and '.join(EVENT_READERS)}", param_hint="SOURCE")
    headers = dict(_header(each) for each in header or ())
    body = _body(file)
    secrets = usable_secrets(source, [each.strip() for each in secret or _secrets(source)])
    if not secrets:
        raise Refused("SECRET_NOT_SET", f"no usable signing secret is set for {source}; see --secret")
    if len(body) > MAX_BODY:
        raise Refused("BODY_TOO_LARGE", f"the body is larger than {MAX_BODY} bytes")
    try:
        event = EVENT_READERS[source](body, headers, secrets, _unix(at))
    except SignatureInvalid as error:
        raise Refused("SIGNATURE_INVALID", error) from None
    except MalformedEvent as error:
        raise Refused("MALFORMED_EVENT", error) from None
    _say(f"accepted: {event.type} {event.external_id}")


def _secrets(source: str) -> Sequence[str]:
    settings = known()
    return settings.reveal(
        settings.stripe_webhook_secret if source == "stripe" else settings.clerk_webhook_signing_secret
    )


def _header(text: str) -> tuple[str, str]:
    """As a web server reads it: names in lower case, no blanks around the value."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"{text!r} is not 'name: value'", param_hint="--header")
    return name.strip().lower(), value.strip()


def _body(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="FILE") from None


def _unix(at: datetime | None) -> float:
    return time.time() if at is None else at.timestamp()


def _say(line: str) -> None:
    console().print(readable(line))
