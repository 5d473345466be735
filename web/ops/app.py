"""`/ops`, the operator's page: it shows what `workers/ops` answers, and what is done there is done by it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from domain.errors import Unavailable
from web.ops.access import OpsAccess
from web.ops.acting import Acting, FormThreads
from web.ops.answers import Answers
from web.ops.bulk_acting import BulkActing
from web.ops.frame import Frame, keep_theme
from web.ops.guard import Guard
from web.ops.histories import about, outcome
from web.ops.live import Live
from web.ops.page import Look, NothingThere, Page, WrongFilter, templates
from web.ops.pages.accounts import ACCOUNT
from web.ops.pages.actions import ACTIONS_PAGE
from web.ops.pages.bulk import BULK
from web.ops.pages.changes import CHANGES
from web.ops.pages.events import EVENT, EVENTS
from web.ops.pages.failures import FAILURE_GROUP, FAILURES
from web.ops.pages.jobs import JOB, JOBS
from web.ops.pages.learning import LEARNING
from web.ops.pages.notices import NOTICES
from web.ops.pages.posts import ALL_POSTS, ALL_VIDEOS, POST, POSTS, VIDEO
from web.ops.pages.providers import PROVIDERS
from web.ops.pages.queues import QUEUE, QUEUES
from web.ops.pages.schedules import SCHEDULES
from web.ops.pages.start import START
from web.ops.pages.tenants import TENANT, TENANTS
from web.ops.pages.workers import WORKERS
from web.ops.signed_in import signed_in
from workers.app import App
from workers.ops.looking import looked
from workers.ops.schedules import Timetable

PAGES: Final[Sequence[Page]] = (
    *(START, QUEUES, QUEUE, JOBS, JOB, FAILURES, FAILURE_GROUP, EVENTS, EVENT, TENANTS, TENANT),
    *(POSTS, ALL_POSTS, ALL_VIDEOS, POST, VIDEO),
    *(ACCOUNT, LEARNING, PROVIDERS, WORKERS, SCHEDULES, NOTICES, CHANGES, ACTIONS_PAGE, BULK),
)
"""In the order of the menu."""

STATIC: Final = Path(__file__).parent / "static"

DONE: Final = "done"
"""The filter of any page that names the action whose outcome it shows first."""

PATIENCE: Final = 20.0
"""Seconds that a page waits for its answer: a Postgres that hangs ends no query, and no error comes of it."""


def ops_routes(
    app: App,
    live: Live | None = None,
    access: OpsAccess | None = None,
    *,
    fresh_for: float = 0.0,
    calendar: Sequence[Timetable] = (),
    patience: float = PATIENCE,
    simulated: bool = False,
) -> list[BaseRoute]:
    """The routes of `/ops`, for whoever `access` admits. Pages follow what happens if there is `live`; an answer is
    shown to all who ask within `fresh_for` seconds. `calendar` is the scheduler's. Each page of what is `simulated`
    says so."""
    environment = templates()
    answers = Answers(fresh_for, woken_at=lambda: live.woken_at if live else None)
    environment.globals |= {"is_live": live is not None, "simulated": simulated}
    frame = Frame(environment, PAGES)
    threads = FormThreads(frame, answers, patience)
    answer = partial(Answer, app, frame=frame, answers=answers, calendar=calendar, patience=patience)
    inside = Router(
        [
            *Acting(app, frame, threads).routes(),
            *BulkActing(app, frame, threads).routes(),
            *(Route(f"/ops{page.path}", answer(page), methods=["GET"]) for page in PAGES),
            *([Route("/ops/live", live.answer, methods=["GET"])] if live else []),
            Mount("/ops/static", Static(directory=STATIC)),
            Route("/ops{page:path}/", without_slash, methods=["GET"]),
        ],
        redirect_slashes=False,  # a redirect of the router's would repeat the Host header, which anybody may write
    )
    return [Guard(access or OpsAccess(app), inside, environment)]


def without_slash(request: Request) -> Response:
    """Lead somebody who typed `/ops/` to the page, by a path of this host."""
    path, query = request.url.path.rstrip("/"), request.url.query
    return RedirectResponse(f"{path}?{query}" if query else path, 307)


class Static(StaticFiles):
    """Files that a browser keeps, and asks about each time: a new release has others under the same names."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["cache-control"] = "no-cache"
        return response


class Answer:
    """Answers one page of `/ops` to whoever may look."""

    def __init__(
        self,
        app: App,
        page: Page,
        frame: Frame,
        answers: Answers,
        *,
        calendar: Sequence[Timetable],
        patience: float,
    ) -> None:
        self._app = app
        self._page = page
        self._frame = frame
        self._answers = answers
        self._calendar = calendar
        self._patience = patience

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self._answer(Request(scope))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        query = dict(request.query_params)
        if "theme" in query:
            return keep_theme(request, query["theme"])
        done = query.pop(DONE, None)
        look = Look(self._app, request.path_params, query, role=signed_in(request).role, calendar=self._calendar)
        key = (self._page.path, *(tuple(sorted(part.items())) for part in (look.path, look.query)), look.role)
        who = f"operator:{signed_in(request).name}"
        key += () if done is None else (done, who)
        template, status = self._page.template, 200
        try:
            async with asyncio.timeout(self._patience):
                shown = await self._answers.get(key, lambda: self._shown(look, done, who))
        except NothingThere as error:
            template, status, shown = "nothing.html", 404, {"says": str(error)}
        except WrongFilter as error:
            template, status, shown = "nothing.html", 400, {"says": str(error)}
        except Unavailable as error:
            template, status, shown = "unavailable.html", 503, {"says": str(error)}
        except TimeoutError:  # the threads may all be waiting
            says = {"says": f"Postgres has not answered for {self._patience:g} s"}
            return self._frame.rendered(request, self._page, "unavailable.html", says, 503)
        return await self._answers.run(lambda: self._frame.rendered(request, self._page, template, shown, status))

    def _shown(self, look: Look, done: str | None, who: str) -> Mapping[str, Any]:
        shown, writes = looked(look.app, lambda app: self._view(replace(look, app=app), done, who))
        return {**shown, "refuses_writes": not writes}

    def _view(self, look: Look, done: str | None, who: str) -> Mapping[str, Any]:
        found = None if done is None else outcome(look.app, done)
        own = found is not None and found.who == who and not found.is_old
        shown = self._page.view(replace(look, done=found) if own else look)
        target = None if self._page.about is None else self._page.about(shown)
        states = None if self._page.states is None else self._page.states(shown)
        return {
            **shown,
            "about": None if target is None else about(look.app, target, states, self._page.parts(shown)),
            "done": found,
        }
