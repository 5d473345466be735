"""What a person does on `/ops` to many things at once: what is chosen is looked for and shown, then started, and what
is left can be cancelled."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected
from domain.ops.actions import Action, Kind, Target, target
from domain.ops.event_filters import event_filter
from domain.ops.post_filters import post_filter, video_filter
from domain.queue.job_filters import job_filter
from domain.text.filters import uuid_of
from web.ops.acting import Filled, FormThreads, action_of, first_of, name_of, sent_form
from web.ops.filters import one_of
from web.ops.frame import Frame
from web.ops.origins import HEADERS
from web.ops.page import NothingThere, Titled
from web.ops.signed_in import check_may_act
from workers.app import App
from workers.ops.bulk import begin, bulk, cancel_bulk, preview
from workers.ops.failures import waiting_in
from workers.ops.waiting import targets as waiting_targets

FILTER: Final = "filter."
"""What the names of a list's filters begin with in its form."""
ARGUMENTS_ASKED: Final = "arguments"
"""The field of a form that has the fields of the arguments."""


class Choice:
    """Which things a form of a list is about: those that were ticked, or all that fit its filter. `of` names the list:
    `jobs`, `events`, `posts`, `videos`, `failures` (of one group) or `waiting` (a part of what waits for a person)."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        first = first_of(fields)
        self.of = first.get("of", "")
        self.ticked = list(dict.fromkeys(fields.get("target", ())))
        self.all = first.get("scope") == "all"
        self.filter = {
            name.removeprefix(FILTER): value for name, value in first.items() if name.startswith(FILTER) and value
        }

    def fields(self) -> list[tuple[str, str]]:
        """Return the fields of a form that chooses the same."""
        ticked = [] if self.all else [("target", each) for each in self.ticked]
        filters = [(f"{FILTER}{name}", value) for name, value in self.filter.items()]
        return [("of", self.of), ("scope", "all" if self.all else "ticked"), *filters, *ticked]

    def chosen(self, app: App, action: Action) -> Mapping[str, Any]:
        """Return what `preview` is to look for.

        Raises:
            Rejected, SenselessFilter: it cannot be.
        """
        if not self.all:
            found = [target(each) for each in self.ticked]
            if not found:
                raise Rejected("nothing is ticked: tick what you mean, or choose all that fit the filter")
            return {"targets": _only(action, found)}
        match self.of, action.kind:
            case "jobs", Kind.JOB:
                return {"wanted": job_filter(self.filter)}
            case "events", Kind.EVENT:
                return {"wanted": event_filter(self.filter)}
            case "posts", Kind.POST:
                return {"wanted": post_filter(self.filter)}
            case "videos", Kind.VIDEO:
                return {"wanted": video_filter(self.filter)}
            case "failures", Kind.JOB:
                jobs = waiting_in(app, self.filter.get("group", ""))
                return {"targets": [Target(Kind.JOB, str(each)) for each in jobs]}
            case "waiting", _:
                with app.db.transaction(SYSTEM) as tx:
                    return {"targets": _only(action, waiting_targets(tx, self.filter.get("part", "")))}
        raise Rejected(f"“{action.verb}” is not done to all of this list")


class BulkActing:
    """Answers the forms of lists, and those on the page of a bulk action."""

    def __init__(self, app: App, frame: Frame, threads: FormThreads) -> None:
        self._app = app
        self._frame = frame
        self._threads = threads

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/ops/act/{action}/preview", self._preview, methods=["POST"]),
            Route("/ops/bulk/{id}/start", self._start, methods=["POST"]),
            Route("/ops/bulk/{id}/cancel", self._cancel, methods=["POST"]),
        ]

    async def _preview(self, request: Request) -> Response:
        """Look for what is chosen, and lead to the page that shows it. An action that takes arguments is asked for them
        first."""
        who = check_may_act(request)
        fields = await sent_form(request)

        async def answer() -> Response:
            action, filled = action_of(request), Filled(first_of(fields))
            if not action.bulk:
                raise Rejected(f"“{action.verb}” is done to one at a time")
            choice, many = Choice(fields), action.of_many()
            asked = ARGUMENTS_ASKED in fields or not many.arguments
            try:
                arguments = filled.read(many) if asked else {}
            except Rejected as error:
                return self._ask(request, many, filled, choice, str(error))
            if not asked:
                return self._ask(request, many, filled, choice)
            look = partial(preview, self._app, action.name, arguments, who=name_of(who))
            found = await self._threads.run(lambda: look(**choice.chosen(self._app, action)))
            return RedirectResponse(f"/ops/bulk/{found.id}", 303, HEADERS)

        return await self._threads.answered(request, answer)

    def _ask(
        self, request: Request, action: Action, filled: Filled, choice: Choice, refused: str | None = None
    ) -> Response:
        shown = {"action": action, "filled": filled, "choice": choice, "refused": refused, "still": True}
        status = 200 if refused is None else 400
        return self._frame.rendered(request, Titled("/act", action.verb), "arguments.html", shown, status)

    async def _start(self, request: Request) -> Response:
        who = check_may_act(request)
        fields = first_of(await sent_form(request))

        async def answer() -> Response:
            bulk_id, reason = _bulk_id(request), Filled(fields).checked_reason(required=True)
            await self._once(bulk_id, partial(begin, self._app, bulk_id, who=name_of(who), reason=reason))
            return RedirectResponse(f"/ops/bulk/{bulk_id}", 303, HEADERS)

        return await self._threads.answered(request, answer)

    async def _once(self, bulk_id: UUID, change: Callable[[], Any]) -> None:
        """Do it, unless it has been done: who sends a form twice is shown what became of it.

        Raises:
            Conflict: it cannot be done, and was not.
        """
        try:
            await self._threads.run(change)
        except Conflict:
            found = await self._threads.run(partial(bulk, self._app, bulk_id))
            if found.state == "previewed":
                raise

    async def _cancel(self, request: Request) -> Response:
        who = check_may_act(request)
        await sent_form(request)

        async def answer() -> Response:
            bulk_id = _bulk_id(request)
            await self._once(bulk_id, partial(cancel_bulk, self._app, bulk_id, who=name_of(who)))
            return RedirectResponse(f"/ops/bulk/{bulk_id}", 303, HEADERS)

        return await self._threads.answered(request, answer)


def _only(action: Action, targets: Sequence[Target]) -> list[Target]:
    if wrong := [each for each in targets if each.kind is not action.kind]:
        raise Rejected(f"“{action.verb}” is not done to {one_of(wrong[0])}")
    return list(targets)


def _bulk_id(request: Request) -> UUID:
    found = uuid_of(request.path_params["id"])
    if found is None:
        raise NothingThere("there is no such bulk action")
    return found
