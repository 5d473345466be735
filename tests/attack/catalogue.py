"""All attacks: those of each module in `families`, in the order in which they stand there."""

import importlib
import pkgutil

from tests.attack.stage import Attack


def every_attack() -> list[Attack]:
    families = importlib.import_module("tests.attack.families")
    names = sorted(found.name for found in pkgutil.iter_modules(families.__path__))
    modules = [importlib.import_module(f"tests.attack.families.{name}") for name in names]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Attack)]
    assert len({each.name for each in found}) == len(found), "two attacks have one name"
    return found
