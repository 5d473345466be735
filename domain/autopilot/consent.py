"""Which accounts the autopilot may post to: those whose owners consented, as far as nothing stands in the way."""

from datetime import datetime

from domain.posting.accounts import AccountStatus
from domain.posting.platforms import alone_of, chosen, rules_of
from domain.posting.validation import Account
from domain.text.visible import visible


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
    values = chosen(rules, account.settings, {})
    missing = [each.name for each in rules.options if each.needed and each.name not in values]
    if missing and alone_of(rules, values) is None:
        what = f"{rules.name} wants its owner to choose {' and '.join(missing)}, and nobody chose it for {name}"
        return "CHOICE_NEEDED", f"{what}: set it in the account's settings first"
    return None
