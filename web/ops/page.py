"""A page of `/ops`: a path, a template, and a view, which asks `workers/ops` and returns what the template shows."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from domain.errors import ViralError
from web.ops.filters import filters
from web.ops.histories import Done
from workers.app import App
from workers.engine.queues import QUEUES
from workers.ops.schedules import Timetable

TEMPLATES: Final = Path(__file__).parent / "templates"


class NothingThere(ViralError):
    """There is no such thing to show; the page says so with status 404."""


class WrongFilter(ViralError):
    """The URL asks for what cannot be; the page says what is wrong with status 400, and shows the unfiltered list's
    form."""


@dataclass(frozen=True)
class Look:
    """One request for a page. `path` has the parts of the path in braces, `query` the filters of the URL; both are
    anybody's text. `role` is that of the operator's token: `look` or `act`. `calendar` is the scheduler's. `done` is
    the action whose outcome is shown, if it is one of whoever asks, performed just now."""

    app: App
    path: Mapping[str, str]
    query: Mapping[str, str]
    role: str
    calendar: Sequence[Timetable] = ()
    done: Done | None = None


@dataclass(frozen=True)
class Titled:
    """What the frame shows of a page: its title, and by its path which entry of the menu it belongs to."""

    path: str
    title: str


@dataclass(frozen=True)
class Page(Titled):
    """`view` works in a thread and may take its time; it returns the template's variables. `about` tells of them what
    the page is about, as a target (`job:<uuid>`): then it has the buttons that act on it, and its history. `states` are
    the words that say which of the actions fit, `parts` further targets whose history is shown too.

    Raises, from `view`:
        NothingThere, WrongFilter: as they say.
    """

    template: str
    view: Callable[[Look], Mapping[str, Any]]
    in_menu: bool = True
    about: Callable[[Mapping[str, Any]], str] | None = None
    states: Callable[[Mapping[str, Any]], Collection[str]] | None = None
    parts: Callable[[Mapping[str, Any]], Sequence[str]] = lambda shown: ()


def templates() -> Environment:
    """Return the environment of all templates: everything is escaped, and a variable that is not there is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters()
    environment.globals |= {"declared_queues": frozenset(QUEUES), "live_states": ("pending", "running", "failed")}
    return environment
