"""`viral ops`: who may see the operator's page."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from domain.errors import OperatorTokenInvalid
from domain.ops.operators import Operator, OperatorRole, is_token
from tests.cli.shell import Shell
from workers.app import App
from workers.ops.operators import create_token, operator_by_token, revoke_token, tokens


def test_a_token_is_made_listed_and_revoked(app: App, viral: Shell) -> None:
    made = viral.json("ops", "token", "create", "ada", "--role", "act")
    text = made.pop("token")
    assert is_token(text)
    assert viral.json("ops", "token", "list") == [made]
    found = operator_by_token(app, text)
    assert found is not None
    assert (found.name, found.role, str(found.token_id)) == ("ada", OperatorRole.ACT, made["id"])
    assert viral.json("ops", "token", "list")[0]["last_used_at"] is not None
    assert "ada already" in viral.refused("ops", "token", "create", "ada", "--role", "look")
    assert viral.json("ops", "token", "revoke", "ada")["revoked_at"] is not None
    assert operator_by_token(app, text) is None
    assert "no live token" in viral.refused("ops", "token", "revoke", "ada")
    viral.done("ops", "token", "create", "ada", "--role", "look")
    assert [row["revoked_at"] is None for row in viral.json("ops", "token", "list")] == [True, False]


def test_a_new_token_is_shown_this_once(app: App, viral: Shell) -> None:
    result = viral.done("ops", "token", "create", "grafana", "--role", "look")
    [line] = [line for line in result.lines if is_token(line)]
    listed = viral.done("ops", "token", "list").out
    assert "grafana" in listed
    assert line not in listed


def test_tokens_that_cannot_be(app: App, viral: Shell) -> None:
    assert "1 to 64 of a-z" in viral.refused("ops", "token", "create", "Ada Lovelace", "--role", "look")
    assert tokens(app) == []


def test_of_many_who_make_one_name_one_does(app: App) -> None:
    together = Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        try:
            create_token(app, "ada", "look")
        except OperatorTokenInvalid:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(8))) == 1
    assert [row["name"] for row in tokens(app)] == ["ada"]


def test_a_token_that_is_revoked_while_it_is_used_opens_nothing_afterwards(app: App) -> None:
    text = create_token(app, "ada", "look").text
    revoked, together = Event(), Barrier(5)

    def use(number: int) -> list[tuple[bool, Operator | None]]:
        together.wait()
        found = []
        while len(found) < 200 and not (found and found[-1][0]):
            after = revoked.is_set()
            found.append((after, operator_by_token(app, text)))
        return found

    with ThreadPoolExecutor(4) as threads:
        used = [threads.submit(use, number) for number in range(4)]
        together.wait()
        revoke_token(app, "ada")
        revoked.set()
        found = [each for done in used for each in done.result()]
    assert all(operator is None for after, operator in found if after)
    assert operator_by_token(app, text) is None


@pytest.mark.parametrize("role", ["admin", "", "ACT"])
def test_a_role_is_one_of_two(viral: Shell, role: str) -> None:
    assert "there are look, act" in viral.senseless("ops", "token", "create", "ada", "--role", role)
