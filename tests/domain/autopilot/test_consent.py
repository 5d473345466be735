"""A post that no person approved is sent where the mode was auto when its chain began, is auto now, and its account's
owner consents; else it is said what becomes of it."""

from itertools import product
from uuid import UUID

import pytest

from domain.autopilot.chains import Mode, lesser
from domain.autopilot.consent import Withheld, check_allowed
from domain.posting.posts import PostStatus

CHAIN = UUID(int=1)


@pytest.mark.parametrize(("began", "now", "consents"), list(product(Mode, Mode, (True, False))))
def test_only_auto_with_consent_lets_it_go(began, now, consents):
    if consents and began is now is Mode.AUTO:
        check_allowed(CHAIN, began, now, consents=consents)
        return

    with pytest.raises(Withheld) as error:
        check_allowed(CHAIN, began, now, consents=consents)

    waits = consents and lesser(began, now) is Mode.APPROVE
    assert error.value.to is (PostStatus.NEEDS_APPROVAL if waits else PostStatus.CANCELLED)
    assert error.value.chain_id == CHAIN
