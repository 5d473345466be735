"""Our use of Clerk's Backend API: our own client, over HTTP, to an instance on this machine that fails on demand."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from domain.errors import ProviderRefused, ProviderUnavailable
from domain.identity.people import Membership, Organization, Person, Role
from integrations.clerk.api import ClerkApi
from integrations.http.client import Http
from integrations.http.pace import PATIENCE
from simulators.clerk.api import ClerkApiSimulator
from simulators.clerk.events import clerk_membership, clerk_organization, clerk_user
from simulators.loopback import Loopback, Reply
from tests.builders import NOV_22
from tests.integrations.stripe.test_api import Clock
from tests.workers.jobs.test_identity import ADA

WAIT = Reply(b"{}", 429, {"Retry-After": "30"})


@pytest.fixture
def clerk() -> ClerkApiSimulator:
    found = ClerkApiSimulator()
    found.users = [clerk_user(ADA, created_at=NOV_22)]
    found.organizations = [clerk_organization(ADA, created_at=NOV_22)]
    found.memberships = [clerk_membership(ADA, created_at=NOV_22)]
    return found


@pytest.fixture
def served(clerk: ClerkApiSimulator) -> Iterator[Loopback]:
    with clerk.serving() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(served: Loopback, clock: Clock) -> Iterator[ClerkApi]:
    http = Http("tests")
    yield ClerkApi("sk_test_fake", http, base=served.url, clock=lambda: clock.now, sleep=clock.sleep)
    http.close()


def a_membership(clerk_id: str, user_id: str) -> Membership:
    return Membership(clerk_id, "org_1", user_id, Role.MEMBER, joined_at=NOV_22, source_updated_at=NOV_22)


def test_each_book_is_read_whole_and_in_its_own_form(api: ClerkApi, clerk: ClerkApiSimulator) -> None:
    assert api.instance() == clerk.instance_id
    for pages, book in (
        (api.listed(Person), clerk.users),
        (api.listed(Organization), clerk.organizations),
        (api.listed(Membership), clerk.memberships),
    ):
        [page] = pages
        assert (page.as_of, list(page.items)) == (NOV_22, book)


def test_only_what_clerk_says_is_not_there_is_not_there(
    api: ClerkApi, clerk: ClerkApiSimulator, served: Loopback
) -> None:
    member = clerk.memberships[0]["id"]
    assert (api.has(Person("user_ada")), api.has(Person("user_a/../user_ada?"))) == (True, False)
    assert (api.has(Organization(ADA.organization_id)), api.has(Organization("org_x"))) == (True, False)
    assert api.has(a_membership(member, "user_ada"))
    assert not api.has(a_membership("orgmem_x", "user_ada"))
    assert not api.has(a_membership(member, "user_x"))
    clerk.organizations_enabled = False
    assert list(api.listed(Organization)) == list(api.listed(Membership)) == []
    assert api.has(Organization("org_x"))
    assert api.has(a_membership("orgmem_x", "user_ada"))
    served.fail(Reply(b"{}", 500), times=3)
    with pytest.raises(ProviderUnavailable):
        api.has(Person("user_x"))


def test_a_listing_keeps_to_half_of_what_is_allowed(api: ClerkApi, clock: Clock) -> None:
    for _ in range(55):
        list(api.listed(Person))
    assert clock.now - NOV_22.timestamp() >= 9.9, "five a second, but for the first five"


def test_too_many_is_waited_for_as_long_as_clerk_says_and_not_for_ever(
    api: ClerkApi, served: Loopback, clock: Clock
) -> None:
    served.fail(WAIT, times=2)
    assert len(list(api.listed(Person))) == 1
    assert clock.slept == [30, 30]
    served.fail(WAIT, times=PATIENCE)
    with pytest.raises(ProviderUnavailable) as refused:
        list(api.listed(Person))
    assert refused.value.retry_after == timedelta(seconds=30)


@pytest.mark.parametrize("answer", [b"", b"[1]", b'"x"', b'{"data": 7}', b'{"data": [7]}', b"{"])
def test_an_answer_that_is_no_list_is_no_list_of_nobody(api: ClerkApi, served: Loopback, answer: bytes) -> None:
    served.fail(Reply(answer))
    with pytest.raises(ProviderUnavailable, match="Clerk's answer to /v1/users"):
        list(api.listed(Person))


def test_a_wrong_key_is_named_and_not_repeated(served: Loopback) -> None:
    http = Http("tests")
    with pytest.raises(ProviderRefused, match="does not accept CLERK_SECRET_KEY"):
        list(ClerkApi("sk_test_s3cret", http, base=served.url).listed(Person))
    http.close()
