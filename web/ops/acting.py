"""What a person does on `/ops`: the pages on which an action is confirmed, and what their forms send.

Whoever sends a form has a session that may act, and the form was made for it. A form carries the id that its action
will have, so one that is sent twice, or by many threads at once, has one effect; each is shown what became of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from domain.errors import Rejected, Unavailable
from domain.ops.action_list import ACTIONS
from domain.ops.actions import (
    LONGEST_REASON,
    Action,
    Outcome,
    Target,
    check_reason,
    read_arguments,
    shell_line,
    target,
)
from domain.text.filters import SenselessFilter, uuid_of
from web.ops.answers import Answers
from web.ops.filters import one_of, place
from web.ops.frame import Frame, keep_theme
from web.ops.guard import read_fields
from web.ops.histories import ARGUMENT
from web.ops.origins import HEADERS
from web.ops.page import NothingThere, Titled
from web.ops.signed_in import Refused, SignedIn, check_form, check_may_act
from workers.app import App
from workers.ops.actions import perform, state_of
from workers.runtime.ids import Ids

THREADS: Final = 4
"""Of their own, so that what takes long outside keeps nobody from looking."""
MOST_ACTING: Final = 100
"""Forms that wait for a thread."""

FORM, FIELDS = 32 * 1024, 300
"""Bytes and fields of a form: a page of ids that were ticked, and a reason in any script."""

T = TypeVar("T")


class Filled:
    """What the form of an action has in its fields: texts, of which nothing was read yet."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        texts = {name: value.strip() for name, value in fields.items()}
        self.reason = texts.get("reason", "")
        self.arguments = {
            name.removeprefix(ARGUMENT): value for name, value in texts.items() if name.startswith(ARGUMENT)
        }

    def read(self, action: Action) -> dict[str, Any]:
        """Return the values of the arguments that are filled in.

        Raises:
            Rejected: one cannot be, or is missing.
        """
        return read_arguments(action, {name: text for name, text in self.arguments.items() if text})

    def placeholders(self, action: Action) -> dict[str, str]:
        """Return the arguments as the shell's line shows them: what is missing by its name."""
        texts = {each.name: self.arguments.get(each.name, "") for each in action.arguments}
        names = {each.name: each.name.upper() for each in action.arguments if each.required}
        return {name: text or names[name] for name, text in texts.items() if text or name in names}

    def checked_reason(self, *, required: bool) -> str | None:
        """Raises:
        Rejected: it is missing, or cannot be one.
        """
        if required and not self.reason:
            raise Rejected("it needs a reason: others will want to know why")
        return check_reason(self.reason, needed=False)


class FormThreads:
    """Does what forms ask for, in threads of its own, and says on a page why not if it cannot be."""

    def __init__(self, frame: Frame, answers: Answers, patience: float) -> None:
        self._frame = frame
        self._answers = answers
        self._patience = patience
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="ops-act")
        self._acting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Have a thread of our own do it.

        Raises:
            TimeoutError: it is not over within our patience, and goes on. And what `work` raises.
        """
        if self._acting >= MOST_ACTING:
            raise Refused(503, "too many act at once; try again in a moment", wait=1)
        self._acting += 1
        going = asyncio.get_running_loop().run_in_executor(self._executor, work)
        going.add_done_callback(self._ended)
        async with asyncio.timeout(self._patience):
            return await asyncio.shield(going)

    def _ended(self, going: asyncio.Future[Any]) -> None:
        self._acting -= 1
        if not going.cancelled():
            going.exception()  # whoever asked for it may have gone

    async def answered(self, request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
        """Answer, and say on a page why not if it cannot be. Pages show nothing that is older than a change."""
        try:
            response = await answer()
            if request.method == "POST":
                self._answers.forget()
            return response
        except NothingThere as error:
            return self._nothing(request, "nothing.html", str(error), 404)
        except (Rejected, SenselessFilter) as error:
            return self._nothing(request, "nothing.html", str(error), 400)
        except Unavailable as error:
            return self._nothing(request, "unavailable.html", str(error), 503)
        except TimeoutError:
            says = f"Postgres has not answered for {self._patience:g} s; what became of it is not known yet"
            return self._nothing(request, "unavailable.html", says, 503)

    def _nothing(self, request: Request, template: str, says: str, status: int) -> Response:
        return self._frame.rendered(request, Titled("/act", "Act"), template, {"says": says, "still": True}, status)


class Acting:
    """Answers the confirm pages and their forms."""

    def __init__(self, app: App, frame: Frame, threads: FormThreads) -> None:
        self._app = app
        self._frame = frame
        self._threads = threads
        self._ids = Ids()

    def routes(self) -> list[BaseRoute]:
        return [Route("/ops/act/{action}", self._one, methods=["GET", "POST"])]

    async def _one(self, request: Request) -> Response:
        who = check_may_act(request)
        if "theme" in request.query_params and request.method != "POST":
            return keep_theme(request, request.query_params["theme"])
        fields = await sent_form(request) if request.method == "POST" else {}

        async def answer() -> Response:
            action = action_of(request)
            about = target(request.query_params.get("target", ""))
            if about.kind is not action.kind:
                raise NothingThere(f"“{action.verb}” is not done to {one_of(about)}")
            if request.method == "POST":
                return await self._perform(request, who, action, about, first_of(fields))
            return await self._confirm(request, action, about, Filled(dict(request.query_params)))

        return await self._threads.answered(request, answer)

    async def _confirm(
        self,
        request: Request,
        action: Action,
        about: Target,
        filled: Filled,
        *,
        refused: str | None = None,
        status: int = 200,
    ) -> Response:
        """Show what is so, what will happen, and the form. `refused` says why it was not done."""
        try:
            state = await self._threads.run(partial(state_of, self._app, action.name, about))
        except Rejected as error:
            raise NothingThere(str(error)) from error
        reason = "TEXT" if action.needs_reason else None
        shown = {
            "still": True,
            **{"action": action, "target": about, "state": state, "filled": filled, "refused": refused},
            **{"action_id": self._ids(), "back": place(about), "longest_reason": LONGEST_REASON},
            "line": shell_line(action, about, filled.placeholders(action), filled.reason or reason),
        }
        return self._frame.rendered(request, Titled("/act", action.verb), "act.html", shown, status)

    async def _perform(
        self, request: Request, who: SignedIn, action: Action, about: Target, fields: Mapping[str, str]
    ) -> Response:
        filled, action_id = Filled(fields), _id_in(fields)
        done = RedirectResponse(f"{place(about)}?{urlencode({'done': str(action_id)})}", 303, HEADERS)
        try:
            arguments, reason = filled.read(action), filled.checked_reason(required=action.needs_reason)
            act = partial(perform, self._app, action.name, about, arguments, reason=reason, action_id=action_id)
            performed = await self._threads.run(partial(act, who=name_of(who)))
        except Rejected as error:
            return await self._confirm(request, action, about, filled, refused=str(error), status=400)
        except TimeoutError:  # it goes on; the page that follows says what becomes of it
            return done
        if performed.outcome in (Outcome.REFUSED, Outcome.FAILED):
            return await self._confirm(request, action, about, filled, refused=performed.says, status=409)
        return done


async def sent_form(request: Request) -> dict[str, list[str]]:
    fields = await read_fields(request, FORM, FIELDS)
    check_form(request, fields.get("form_token", [""])[0])
    return fields


def first_of(fields: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {name: values[0] for name, values in fields.items()}


def name_of(who: SignedIn) -> str:
    """Return who acts, as the audit has it."""
    return f"operator:{who.name}"


def _id_in(fields: Mapping[str, str]) -> UUID:
    found = uuid_of(fields.get("id", ""))
    if found is None:
        raise Rejected("this form is not whole: load the page again")
    return found


def action_of(request: Request) -> Action:
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise NothingThere(f"there is no action {request.path_params['action'][:60]}")
    return action
