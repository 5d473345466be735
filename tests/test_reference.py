"""The pages of docs/reference are as the code is now, and each has what it is there for."""

import pytest
from sqlalchemy import Column

from cli.completion.lookup import TREE
from db.schema.tables import metadata
from domain.ops.metrics import ALL
from tests.reference import completions, settings
from tests.reference.commands import commands
from tests.reference.markdown import table
from tests.reference.pages import FOLDER, pages
from workers.settings import Settings

STALE = "docs/reference/{} is stale: run `make reference`"
STALE_TREE = "cli/completion/commands.json is stale: run `make reference`"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


def test_no_page_is_stale(made: dict[str, str]) -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(made)
    for name, text in made.items():
        assert (FOLDER / name).read_text("utf-8") == text, STALE.format(name)
    assert TREE.read_text("utf-8") == completions.text(), STALE_TREE


def test_each_command_setting_table_column_and_metric_has_its_place(made: dict[str, str]) -> None:
    assert [words for words, _ in commands() if f"## viral {' '.join(words)}\n" not in made["cli.md"]] == []
    assert [name for name in Settings.model_fields if f"| `{name.upper()}` |" not in made["settings.md"]] == []
    assert [each.name for each in ALL if f"| `{each.name}` |" not in made["metrics.md"]] == []
    sections = dict(part.partition("\n")[::2] for part in made["tables.md"].split("\n## ")[1:])
    assert sections.keys() == metadata.tables.keys()
    columns: list[Column[object]] = [column for each in metadata.tables.values() for column in each.columns]
    assert [str(each) for each in columns if f"| `{each.name}` |" not in sections[each.table.name]] == []


def test_routes_name_their_scopes(made: dict[str, str]) -> None:
    routes = made["api.md"].split("\n### ")[1:]
    assert len(routes) > 60
    assert [route.partition("\n")[0] for route in routes if "Scope: any." in route] == []


def test_a_meaning_is_of_all_settings_directly_above_it() -> None:
    class Some:
        one: int = 1
        two: int = 2
        """Of both."""
        three: int = 3

        four: int = 4
        """Its own."""

    assert settings.meanings_of(Some) == {"one": "Of both.", "two": "Of both.", "four": "Its own."}


def test_a_cell_stays_one() -> None:
    assert table(("a",), [("x | y\nz",)])[2] == "| x \\| y z |"
