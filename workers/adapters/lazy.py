"""Stand-ins that make an object when it is first used."""

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar, cast

T = TypeVar("T")


def lazy(make: Callable[[], T]) -> T:
    """Return a stand-in that makes the object when one of its attributes is first used, once for all threads."""
    return cast(T, _Lazy(make))


class _Lazy:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, name)
