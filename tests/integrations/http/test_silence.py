"""A server that answers nobody is asked little; one that answers anybody is asked by all."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import NotSent, Unavailable
from integrations.http.client import Http, Request
from integrations.http.silence import PAUSE, SILENT_AFTER, Silences
from simulators.loopback import Loopback, Reply

AT = "the server"


class Asked:
    """What asks servers by a clock of its own; `now` are its seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.silences = Silences(lambda: self.now)

    def call(self, server: str, error: Exception | None = None) -> bool:
        """Return whether a call reached the server; it ends with this error, or with an answer."""
        reached = False
        try:
            with self.silences.asking(AT, server):
                reached = True
                if error is not None:
                    raise error
        except (Unavailable, ValueError):
            pass
        return reached


@pytest.fixture
def asked() -> Asked:
    return Asked()


def silent() -> Unavailable:
    return Unavailable("no answer in time", silent=True)


def test_a_silent_server_is_asked_once_in_a_while_and_an_answer_opens_it(asked: Asked) -> None:
    assert all(asked.call("a", silent()) for _ in range(SILENT_AFTER))
    assert not asked.call("a")
    assert asked.call("b")
    asked.now += PAUSE
    with asked.silences.asking(AT, "a"):
        assert not asked.call("a")  # only one asks at a time
    assert asked.call("a", silent())
    assert asked.call("a")


@pytest.mark.parametrize("answer", [None, Unavailable("503"), NotSent("refused")], ids=["answer", "not now", "refused"])
def test_what_costs_no_time_is_no_silence(asked: Asked, answer: Exception | None) -> None:
    for _ in range(3):
        assert all(asked.call("a", silent()) for _ in range(SILENT_AFTER - 1))
        assert asked.call("a", answer)


def test_what_ends_a_call_from_our_side_says_nothing(asked: Asked) -> None:
    assert all(asked.call("a", silent()) for _ in range(SILENT_AFTER))
    asked.now += PAUSE
    assert asked.call("a", ValueError("the job is not ours any more"))
    assert not asked.call("a")


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab"), st.booleans()), max_size=80))
def test_a_server_is_held_off_only_after_so_many_silences_without_an_answer(
    calls: list[tuple[float, str, bool]],
) -> None:
    asked, row = Asked(), {"a": 0, "b": 0}
    for pause, server, answers in calls:
        asked.now += pause
        reached = asked.call(server, None if answers else silent())
        assert reached or row[server] >= SILENT_AFTER
        if reached:
            row[server] = 0 if answers else row[server] + 1


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(lambda request: Reply(b"hello", after=0.3 if request.path == "/slow" else 0)) as made:
        yield made


def test_over_a_real_socket(server: Loopback) -> None:
    http = Http("viral-tests (tests@example.com)")

    def ask(path: str, within: float) -> bytes:
        return http.exchange(Request(AT, f"{server.url}{path}"), within=within).body

    assert ask("/", 5) == b"hello"
    for _ in range(SILENT_AFTER):
        with pytest.raises(Unavailable) as raised:
            ask("/slow", 0.05)
        assert raised.value.silent
    with pytest.raises(NotSent, match=f"has not answered the last {SILENT_AFTER} calls"):
        ask("/", 5)
    assert [each.path for each in server.requests].count("/") == 1
    http.close()
