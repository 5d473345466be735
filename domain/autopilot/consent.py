"""Which accounts the autopilot may post to: those whose owners consented, as far as nothing stands in the way; and
whether a post that it made may be sent."""

from datetime import datetime
from uuid import UUID

from domain.autopilot.chains import Mode, lesser
from domain.errors import Rejected
from domain.posting.accounts import AccountStatus
from domain.posting.platforms import alone_of, chosen, rules_of
from domain.posting.posts import PostStatus
from domain.posting.validation import Account
from domain.text.visible import visible

SWITCHED_OFF = "the autopilot was switched off"
SET_TO_APPROVE = "the autopilot was set to approve"
WITHDRAWN = "the consent for this account was withdrawn"
DISCONNECTED = "the account was disconnected"


class Withheld(Rejected):
    """A post of the chain is not sent: nobody allows it any more. `to` is what becomes of it."""

    def __init__(self, chain_id: UUID, to: PostStatus, reason: str) -> None:
        waits = to is PostStatus.NEEDS_APPROVAL
        super().__init__(f"it waits for approval: {reason}" if waits else f"cancelled: {reason}")
        self.chain_id = chain_id
        self.to = to


def check_allowed(chain_id: UUID, began: Mode, now: Mode, *, consents: bool) -> None:
    """Check that a post that no person approved may be sent. `began` is the mode with which its chain began;
    `consents`: its account's owner still does. Whoever approves a post, or makes it again, consents to this very post:
    of such a one nothing is asked.

    Raises:
        Withheld: it may not be sent.
    """
    mode = lesser(began, now)
    if mode is Mode.OFF:
        raise Withheld(chain_id, PostStatus.CANCELLED, SWITCHED_OFF)
    if not consents:
        raise Withheld(chain_id, PostStatus.CANCELLED, WITHDRAWN)
    if mode is Mode.APPROVE:
        raise Withheld(chain_id, PostStatus.NEEDS_APPROVAL, SET_TO_APPROVE)


def why_gone(status: str) -> str:
    """Return why an account in this state has lost its consent: who disconnects one withdraws it, too."""
    return DISCONNECTED if status == AccountStatus.DISCONNECTED else WITHDRAWN


def obstacle(account: Account, now: datetime) -> tuple[str, str] | None:
    """Return why the autopilot cannot post to the account, as a code and in words with what to do; None if it can.

    What a platform wants chosen by a person, such as who sees a post, is never chosen by the autopilot
    (`domain/posting/platforms.py`, TikTok's guidelines).
    """
    rules = rules_of(account.platform, now.date())
    name = visible(account.name)
    match account.status:
        case AccountStatus.NEEDS_RECONNECT:
            because = f" ({visible(account.reason)})" if account.reason else ""
            return "NOT_ACTIVE", f"{name} has to be connected again{because}: its owner connects it to {rules.name}"
        case AccountStatus.DISCONNECTED:
            return "NOT_ACTIVE", f"{name} is disconnected: connect it to {rules.name} first"
    if account.disabled:
        return "NOT_ACTIVE", f"our people let nothing be posted to {name} for now: ask them why"
    values = chosen(rules, account.settings, {})
    missing = [each.name for each in rules.options if each.needed and each.name not in values]
    if missing and alone_of(rules, values) is None:
        what = f"{rules.name} wants its owner to choose {' and '.join(missing)}, and nobody chose it for {name}"
        return "CHOICE_NEEDED", f"{what}: set it in the account's settings first"
    return None
