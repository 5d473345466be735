"""Job types are found by importing the modules that declare them."""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from workers.engine.job import JobType


class JobTypeTwice(Exception):
    """Two modules declare job types of one name."""


def discover(packages: Sequence[ModuleType]) -> dict[str, JobType[Any]]:
    """Import every module of the packages and collect the job types that each declares.

    Raises:
        JobTypeTwice: names the job type and both modules.
    """
    found: dict[str, JobType[Any]] = {}
    for name in (name for package in packages for name in _modules(package)):
        module = importlib.import_module(name)
        for declared in vars(module).values():
            if not isinstance(declared, JobType) or declared.handler.__module__ != module.__name__:
                continue
            twin = found.get(declared.name)
            if twin is not None and twin is not declared:
                raise JobTypeTwice(
                    f"the job type {declared.name!r} is declared in {twin.handler.__module__} "
                    f"and again in {module.__name__}: rename one"
                )
            found[declared.name] = declared
    return found


def _modules(package: ModuleType) -> list[str]:
    return [info.name for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
