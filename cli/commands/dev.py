"""`viral dev`: play the outside, and judge by the server's own code what it signed.

Events are built from Stripe's and Clerk's documented shapes, signed with the configured secret and posted to the
running endpoint, as their real senders would.
"""

import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from signal import SIGINT, SIGTERM
from threading import Event
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import among, moment, parsed
from cli.commands.demo import demo
from cli.commands.loop import loop
from cli.configuration import resolve, resolve_offline
from cli.delivery import Body, deliver
from cli.output import console
from cli.shell import Group
from domain.billing.tiers import PLANS, Tier
from domain.errors import MalformedEvent, NotAuthenticated, SignatureInvalid, Unavailable, ViralError
from domain.text.readable import readable
from domain.text.visible import visible_json
from simulators.kinds import KINDS
from simulators.outside import LABEL, Outside, outside
from simulators.personas import Persona, random_persona
from web.server.body import MAX_BODY
from web.session_verifier import session_verifier
from web.webhooks import EVENT_READERS, usable_secrets
from workers.runtime import logs

app = Group()
app.command("loop")(loop)
app.command("demo")(demo)

PURCHASE = "checkout"
PURCHASE_HELP = "a whole purchase: checkout completed, subscription active, invoice paid"
SOLD = tuple(each.value for each, plan in PLANS.items() if plan.usd_per_month)
SENDABLE = (PURCHASE, *(kind for kinds in KINDS.values() for kind in kinds))
PURCHASE_KINDS = ("checkout.session.completed", "customer.subscription.updated", "invoice.paid")

At = Annotated[
    datetime | None, typer.Option(parser=moment, metavar="TIME", help="Judge as of this time. Default: now.")
]

AsJsonLines = Annotated[bool, typer.Option("--json", help="Print a JSON object a line, for programs.")]

STDIN = "-"

PATIENCE = 10.0
"""Seconds: nobody else waits here, and a fetch of Clerk's keys ends before."""


class Refused(ViralError):
    """The server would refuse it."""

    def __init__(self, code: str, reason: object) -> None:
        super().__init__(f"refused: {code}: {reason}")


@app.command("send-event")
def send_event(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Who sends it: stripe or clerk.", autocompletion=among(KINDS))
    ],
    what: Annotated[
        str,
        typer.Argument(
            metavar="KIND|FILE",
            help="An event type (a wrong one lists all), or a JSON file.",
            autocompletion=among(SENDABLE),
        ),
    ],
    tenant: Annotated[
        UUID | None, typer.Option(help="Stripe: the tenant who pays. Default: one that nobody knows.")
    ] = None,
    tier: Annotated[
        str, typer.Option(help="Stripe: the plan bought: STARTER, PRO or AGENCY.", autocompletion=among(SOLD))
    ] = "PRO",
    email: Annotated[str | None, typer.Option(help="Clerk: the person; the same address is the same person.")] = None,
    customer: Annotated[
        str | None, typer.Option(help="Stripe: a customer id, instead of one made for the tenant.")
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="When it happened. Default: now.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also write the (last) body to this file, to be sent again.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The endpoint's origin. Default: the one running here.")] = None,
) -> None:
    """Build, sign and post a realistic event.

    \b
    viral dev send-event clerk user.created --email ada@example.com
    viral dev send-event stripe checkout --tenant ID --tier PRO --save paid.json
    viral dev send-event stripe paid.json
    """
    if source not in KINDS:
        raise typer.BadParameter(f"there are {' and '.join(KINDS)}", param_hint="SOURCE")
    file = Path(what)
    if file.suffix == ".json" or file.is_file():
        bodies = [_read(file)]
    else:
        kinds = PURCHASE_KINDS if (source, what) == ("stripe", PURCHASE) else (what,)
        _check(source, kinds)
        about = _people(tenant, tier, email, customer)
        when = at or datetime.now(UTC)
        bodies = [KINDS[source][kind].build(about, when) | _account(source) for kind in kinds]
    for body in bodies:
        if save is not None:
            _write(save, body)
        _post(source, body, url)


def _check(source: str, kinds: Sequence[str]) -> None:
    """Refuse a type that nobody can build; the error lists those that can be sent."""
    sendable = {kind: each.description for kind, each in KINDS[source].items()}
    if source == "stripe":
        sendable = {PURCHASE: PURCHASE_HELP} | sendable
    if not set(kinds) <= sendable.keys():
        listed = "\n".join(f"  {kind:<32} {description}" for kind, description in sendable.items())
        raise typer.BadParameter(f"no such event or file.\n\n{source} can send:\n{listed}", param_hint="KIND|FILE")


def _people(tenant: UUID | None, tier: str, email: str | None, customer: str | None) -> Persona:
    """Make up whom the events are about. All ids follow from the tenant or the address, so later events agree."""
    settings, _ = resolve()
    if tier.upper() not in SOLD:
        raise typer.BadParameter(f"nobody can buy that; there are {', '.join(SOLD)}", param_hint="--tier")
    plan = PLANS[Tier(tier.upper())]
    prices = {each: price for price, each in reversed(list(settings.prices.items()))}
    chosen = {"price_id": prices.get(plan.tier), "tenant_id": tenant, "email": email, "customer_id": customer}
    traits: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    rng = Random(str(tenant or email or time.time_ns()))  # noqa: S311 - ids of make-believe people
    return random_persona(rng, unit_amount=plan.usd_per_month * 100, **traits)


def _account(source: str) -> Body:
    """Return the account that is set up here, as its events name it: those of another are ignored."""
    settings, _ = resolve()
    if source == "stripe":
        return {} if settings.stripe_livemode is None else {"livemode": settings.stripe_livemode}
    return {} if settings.clerk_instance_id is None else {"instance_id": settings.clerk_instance_id}


def _read(file: Path) -> Body:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="KIND|FILE") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8: {error.reason}", param_hint="KIND|FILE") from None
    body = parsed(text, str(file), hint="KIND|FILE")
    if not isinstance(body, dict):
        raise typer.BadParameter(f"{file} holds no JSON object", param_hint="KIND|FILE")
    return body


def _write(file: Path, body: Body) -> None:
    try:
        file.write_text(json.dumps(body, indent=2))
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror}", param_hint="--save") from None


def _post(source: str, body: Body, url: str | None) -> None:
    settings, state = resolve()
    origin = url or (state.web_url if state else settings.web_url)
    console().print(deliver(source, body, settings, origin))


@app.command("simulators")
def simulators(as_json: AsJsonLines = False) -> None:
    """Play the outside until Ctrl-C, and say what it receives.

    TikTok, YouTube, Instagram, Bluesky and Mastodon, the providers of clips, Stripe and Clerk. The settings that are
    printed first lead this system's own clients to them, in whichever shell they are set. Nobody sees what is posted
    here, nothing is charged, and all of it is forgotten at the end. `viral up --simulators` plays the platforms itself.

    \b
    viral dev simulators
    curl -s PAGE/posts                      what was posted; PAGE is printed first
    curl -d platform=tiktok -d account=grace PAGE/sign-in
    """
    stopped = Event()

    def say(event: Body) -> None:
        try:
            (_print_json_line if as_json else print_event)(event)
        except OSError:  # nobody reads it any more
            stopped.set()

    with interruptible(stopped), outside(say, everything=True) as found:
        if as_json:
            started = {"settings": found.settings, "page": found.page, "accounts": found.accounts()}
            _print_json_line({"event": "started", "simulated": True, **started, "absent": found.absent})
        else:
            introduce(found)
        stopped.wait()


def introduce(found: Outside) -> None:
    print(f"{LABEL}\n")
    for name, value in found.settings.items():
        print(f"export {name}={shlex.quote(value)}")
    for each in found.absent:
        print(f"\nnot played: {each}")
    print(f"\nwhat was posted, and who is signed in: {found.page}")
    for name, accounts in found.accounts().items():
        listed = ", ".join(
            f"{a['name']} (password {a['password']})" if "password" in a else a["name"] for a in accounts
        )
        print(f"  {name:<16} {listed}")
    print("\nCtrl-C stops it.\n", flush=True)


def print_event(event: Body) -> None:
    what = f"posted by {event['account']}: {event['text']}" if event["event"] == "post" else event["call"]
    print(f"{datetime.now(UTC):%H:%M:%S} {event['of']:<16} {readable(what)}", flush=True)


def _print_json_line(event: Body) -> None:
    sys.stdout.write(f"{visible_json(json.dumps(event))}\n")
    sys.stdout.flush()


@contextmanager
def interruptible(stopped: Event) -> Iterator[None]:
    """Set `stopped` at a Ctrl-C or a SIGTERM, instead of what these do otherwise."""
    before = {each: signal.signal(each, lambda number, frame: stopped.set()) for each in (SIGINT, SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@app.command("verify-token")
def verify_token(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="A session token of Clerk; `-`: from standard input.")],
    at: At = None,
) -> None:
    """Judge a session token by the keys that are set.

    CLERK_JWKS_URL or CLERK_JWT_KEY must be set; CLERK_ISSUER and CLERK_AUTHORIZED_PARTIES narrow it. Exit code 0:
    accepted; 1: refused, and the line says why.

    \b
    viral dev verify-token --at 2026-12-01T09:00Z TOKEN
    """
    logs.configure("console", "ERROR")
    judge = session_verifier(resolve_offline(), wait=PATIENCE)
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


@app.command("verify-webhook")
def verify_webhook(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Who sent it: stripe or clerk.", autocompletion=among(EVENT_READERS))
    ],
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
    """Judge a signed body as the server would.

    Exit code 0: accepted; 1: refused, and the line says why.

    \b
    viral dev verify-webhook stripe --header 'Stripe-Signature: t=…,v1=…' event.json
    """
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
    settings = resolve_offline()
    return settings.reveal(
        settings.stripe_webhook_secret if source == "stripe" else settings.clerk_webhook_signing_secret
    )


def _header(text: str) -> tuple[str, str]:
    """Read a header as a web server does: its name in lower case, no blanks around the value."""
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
