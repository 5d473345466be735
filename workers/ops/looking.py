"""Looks while Postgres takes no writes: a standby still tells what it has."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from db.transaction import WritesRefused
from workers.app import App

T = TypeVar("T")


def looked(app: App, look: Callable[[App], T]) -> tuple[T, bool]:
    """Return what `look` finds, and whether Postgres takes writes. If it does not, the look is made again on a
    connection of its own, to a server of any kind.

    Raises:
        Unavailable: nobody answers, or it writes; and what `look` raises.
    """
    try:
        return look(app), True
    except WritesRefused:
        return look(replace(app, db=app.db.reading())), False
