"""docs/reference/errors.md: the errors that are foreseen, how the API and jobs answer them, and what to do."""

import ast
import asyncio
import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from structlog.testing import capture_logs

from domain import errors
from domain.errors import Rejected, Unavailable, ViralError
from tests.reference.markdown import code, first_paragraph, one_line, table
from web.api.app import domain_error

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("domain", "db", "integrations", "workers", "scheduler", "web", "cli", "local")

HEAD = """# Errors

A foreseen error is one line: in the shell on standard error (exit code 1), in the API as
`{"error": text, "code": WORD, "details": …}`, at a job as its `error_message`. A job whose error says *never* fails at
once; another one is tried again after a backoff. Whatever is not on this page is a bug of ours: logged with its
traceback, 500 `INTERNAL` to callers, and tried again by jobs. By what is seen:
[../troubleshooting.md](../troubleshooting.md).
"""

NAMED = "`viral {} list` has the ids."
WHAT_TO_DO: dict[type[ViralError], str] = {
    errors.ViralError: "Read the text: it says what is wrong and, where a person can act, what to do.",
    errors.Rejected: "Send something else; the text says what is wrong.",
    errors.QuotaExceeded: "Ask for fewer, wait until `resets_at`, or change the plan: `viral quota explain TENANT`.",
    errors.UnknownTenant: NAMED.format("tenants"),
    errors.TenantDeleted: "Nothing begins for it any more; `viral tenants show ID` says what is kept.",
    errors.UnknownJob: "`viral jobs list` has the ids; one that ended 16 weeks ago is gone.",
    errors.UnknownQueue: "`viral queues list` has the names.",
    errors.UnknownEvent: NAMED.format("events"),
    errors.UnknownUser: "`viral users list` has them; `viral identity reconcile` finds whom an event did not name.",
    errors.EventDropped: "Take Stripe's or Clerk's own books: `viral billing reconcile`, `viral identity reconcile`.",
    errors.UnknownKey: "`viral keys list --tenant ID` has the ids.",
    errors.UnknownGeneration: NAMED.format("generations"),
    errors.UnknownConcept: "`viral generations show ID` numbers them.",
    errors.UnknownVideo: NAMED.format("videos"),
    errors.UnknownMedia: NAMED.format("media"),
    errors.UnknownAccount: NAMED.format("accounts"),
    errors.UnknownPost: NAMED.format("posts"),
    errors.UnknownEndpoint: "`viral webhooks list`, or `deliveries`, with `--tenant ID` has the ids.",
    errors.UnknownChain: "`viral autopilot chains --tenant ID` has the ids.",
    errors.PostInvalid: "Mend what `details` names, by account; `viral media check FILE` judges a file.",
    errors.SealUnknown: "Put the key back behind the newest of TOKEN_ENCRYPTION_KEYS, or connect the account anew.",
    errors.ClipProviderUnusable: "`viral providers list` says why; leave the provider out to have a storyboard drawn.",
    errors.BudgetExceeded: "`viral videos budget` shows and sets it; it begins anew with the month.",
    errors.StillUsed: "Delete first what refers to it.",
    errors.IdTaken: "Choose another id.",
    errors.TenantContextNotSet: "A bug of ours: a job type that is not `system` was enqueued without a tenant.",
    errors.SignatureInvalid: "Compare the secret: `viral dev verify-webhook` judges a body as the server does.",
    errors.MalformedEvent: "Nothing, if it was not Stripe or Clerk; else keep the body and report it.",
    errors.NotAuthenticated: "By its code, below; `viral dev verify-token` judges a session token.",
    errors.NotAllowed: "By its code, below: a scope that the key lacks, or a person that is banned.",
    errors.AccountPending: "Try again after `Retry-After`. If it stays, does Clerk's webhook come? `viral events list`",
    errors.Conflict: "By its code, below; look at the present state first.",
    errors.ProviderRefused: "The log says why (`api.provider_refused`): often a key of another account.",
    errors.CheckoutInvalid: "Name a plan that is for sale (STRIPE_…_PRICE_ID) and a page of CLERK_AUTHORIZED_PARTIES.",
    errors.KeyInvalid: "Mend what the text names.",
    errors.OperatorTokenInvalid: "`viral ops token list` shows those that there are.",
    errors.PayloadInvalid: "Compare the arguments with [job-types.md](job-types.md).",
    errors.Unavailable: "Wait: jobs do by themselves; callers after `Retry-After`.",
    errors.NotSent: "Nothing left this machine: look at its network; it is tried again.",
    errors.NotSetUp: "Set what the text names ([settings.md](settings.md)) and restart.",
    errors.ProviderUnavailable: "Wait; `viral providers list` and `viral generations sources` show how they are doing.",
    errors.RateLimited: "Wait: it goes on when the other side allows it, at the time that it gave.",
}

RAISED_WITH_A_CODE = {"NotAuthenticated": "401", "NotAllowed": "403", "Conflict": "409"}


def page() -> str:
    ours = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, ViralError)]
    lacking = [each.__name__ for each in ours if each not in WHAT_TO_DO]
    if lacking:
        raise ValueError(f"tests/reference/errors.py: say what to do about {', '.join(lacking)}")
    rows = [
        (code(each.__name__), _answer(each), _again(each), first_paragraph(each.__doc__), WHAT_TO_DO[each])
        for each in ours
    ]
    lines = [
        HEAD,
        "## Of the whole system",
        "",
        *table(("error", "API", "jobs try again", "meaning", "what to do"), rows),
    ]
    lines += ["## Codes of the API", "", "What `code` can be, beside those above.", ""]
    lines += table(("code", "status", "text"), _codes())
    lines += ["## Of one part", "", "Their text says what to do.", ""]
    others = sorted(_all(ViralError) - set(ours), key=lambda each: (each.__module__, each.__name__))
    rows = [
        (
            code(each.__name__),
            _again(each),
            first_paragraph(each.__doc__),
            code(each.__module__.replace(".", "/") + ".py"),
        )
        for each in others
    ]
    return "\n".join([*lines, *table(("error", "jobs try again", "meaning", "declared in"), rows)])


def _again(error: type[ViralError]) -> str:
    return "never" if issubclass(error, Rejected) else "later" if issubclass(error, Unavailable) else "as a bug"


def _answer(error: type[ViralError]) -> str:
    """Return the status and code with which the API answers it: what its own handler makes of one."""
    values: dict[str, Any] = {"code": "", "message": "", "name": "", "at": datetime.now(UTC)}
    values["retry_after"] = timedelta(seconds=2)
    own = error.__init__ is not Exception.__init__
    wanted = inspect.signature(error).parameters.values() if own else ()
    required = {each.name: values[each.name] for each in wanted if each.name in values and each.default is each.empty}
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    try:
        with capture_logs():
            response = asyncio.run(domain_error(request, error(**required)))
    except ViralError:
        return "500 `INTERNAL`"
    word = json.loads(bytes(response.body))["code"]
    return f"{response.status_code} {code(word)}" if word else f"{response.status_code}"


def _all(parent: type[ViralError]) -> set[type[ViralError]]:
    for package in PACKAGES:
        for info in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(info.name)
    found, waiting = {parent}, [parent]
    while waiting:
        below = [each for each in waiting.pop().__subclasses__() if each.__module__.partition(".")[0] in PACKAGES]
        found.update(below)
        waiting += below
    return found


def _codes() -> list[tuple[str, str, str]]:
    """Return each code with its status and the first text that says it."""
    found: dict[str, tuple[str, str]] = {}
    for package in ("domain", "integrations", "workers", "web"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for word, status, text in _codes_of(ast.parse(path.read_text("utf-8"))):
                if word not in found or not found[word][1]:
                    found[word] = (status, text)
    return [(code(word), *found[word]) for word in sorted(found)]


def _codes_of(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        name, values = node.func.id, [_constant(each) for each in node.args]
        if name in RAISED_WITH_A_CODE and len(values) > 1 and isinstance(values[0], str) and values[0].isupper():
            yield values[0], RAISED_WITH_A_CODE[name], one_line(str(values[1] or ""))
        elif name in ("ApiError", "error_response") and len(values) > 2 and isinstance(values[2], str):
            yield values[2], str(values[0] or ""), one_line(str(values[1] or ""))
        elif name == "retry_later" and len(values) > 1 and isinstance(values[1], str):
            status = next((_constant(each.value) for each in node.keywords if each.arg == "status"), 503)
            yield values[1], str(status), one_line(str(values[0] or ""))


def _constant(node: ast.expr) -> object:
    """Return what stands there; of a text with values in it, an ellipsis for each."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
    return node.value if isinstance(node, ast.Constant) else None
