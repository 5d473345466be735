"""Errors that we foresee, sorted by the one question that matters: can trying again help?

    ViralError
    ├── Rejected        never retried: the answer will not change
    └── Unavailable     retried with backoff, after `retry_after` if the other side gave one

Anything else that escapes a handler is a bug: logged as an error, retried, then failed.
"""

from datetime import datetime, timedelta


class ViralError(Exception):
    """An error that this system foresees. Its text says what is wrong and, where a person can act, what to do."""


class Rejected(ViralError):
    """The same call with the same values will always be refused."""


class QuotaExceeded(Rejected):
    """The tenant's remaining concepts of this period are fewer than asked for; `details` are the figures."""

    code = "QUOTA_EXCEEDED"

    def __init__(self, message: str, details: dict[str, int | str] | None = None) -> None:
        super().__init__(message)
        self.details = details


class UnknownTenant(Rejected):
    """No tenant has this id."""


class TenantDeleted(UnknownTenant):
    """The tenant of this id was deleted: nothing begins for it any more."""


class UnknownJob(Rejected):
    """No job has this id."""


class UnknownQueue(Rejected):
    """No queue has this name, and no job or policy names it."""


class UnknownEvent(Rejected):
    """No stored webhook event has this id."""


class UnknownUser(Rejected):
    """Nobody has this id or address."""


class EventDropped(Rejected):
    """The body of a stored webhook event was dropped, so the event cannot be applied again."""

    def __init__(self, name: str, at: datetime) -> None:
        super().__init__(
            f"what the event {name} said was dropped on {at:%Y-%m-%d}, when its time was over (docs/deploying.md): "
            "it cannot be applied again"
        )


class UnknownKey(Rejected):
    """The tenant has no API key of this id."""


class UnknownGeneration(Rejected):
    """No generation has this id."""


class UnknownConcept(Rejected):
    """No concept is addressed like this, or several are."""


class UnknownVideo(Rejected):
    """No video has this id."""


class UnknownMedia(Rejected):
    """No media file has this id."""


class UnknownAccount(Rejected):
    """No social account has this id."""


class UnknownPost(Rejected):
    """No post has this id."""


class UnknownEndpoint(Rejected):
    """The tenant has no endpoint of outgoing webhooks, or no delivery, of this id."""


class UnknownChain(Rejected):
    """No chain of the autopilot has this id."""


class PostInvalid(Rejected):
    """A post that must not be scheduled; `details` are the faults, by account."""

    code = "POST_INVALID"

    def __init__(self, message: str, details: dict[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.details = details


class SealUnknown(Rejected):
    """Something was encrypted under a key that this installation does not have (any more)."""


class ClipProviderUnusable(Rejected):
    """The provider of clips cannot be used now: it is not known, has no key, is disabled or gone; the text says why."""


class BudgetExceeded(Rejected):
    """The money that is left this month is less than the video may cost; `details` are the figures."""

    code = "BUDGET_EXCEEDED"

    def __init__(self, message: str, details: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.details = details


class StillUsed(Rejected):
    """Something else refers to the row that was to be deleted."""


class IdTaken(Rejected):
    """A row that was to be saved has the id of another one, which may be another tenant's."""


class TenantContextNotSet(Rejected):
    """Tenant-owned rows were reached for without saying whose."""


class SignatureInvalid(Rejected):
    """A webhook's signature is missing, malformed, too old, too new or made with another secret."""


class MalformedEvent(Rejected):
    """A webhook body that its sender's documented format does not allow."""


class NotAuthenticated(Rejected):
    """The caller is not who they should be, or does not say who they are; `code` is the reason in one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotAllowed(Rejected):
    """We know the caller, and they may not do this; `code` is the reason in one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AccountPending(NotAllowed):
    """Clerk signed the caller in before its webhook told us of them. `retry_after`: when it should have."""

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__("ACCOUNT_PENDING", message)
        self.retry_after = retry_after


class Conflict(Rejected):
    """The request contradicts the present state; `code` is the reason in one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ProviderRefused(Rejected):
    """Somebody outside understood the request and will not do it; `code` is their word for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class CheckoutInvalid(Rejected):
    """A checkout that must not be begun: a plan that is not for sale, a return to a page that is not ours."""


class KeyInvalid(Rejected):
    """An API key that must not be made: its name, its scopes or its end."""


class OperatorTokenInvalid(Rejected):
    """A token of an operator that must not be made, or that is not there to be revoked."""


class PayloadInvalid(Rejected):
    """A job's arguments do not fit its declaration."""


class Unavailable(ViralError):
    """The other side cannot answer now; it may later. `silent`: it let all the time of a call go by without an
    answer, so whoever asks it again may wait as long once more."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None, silent: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.silent = silent


class NotSent(Unavailable):
    """Nothing of the request left this machine: whatever it asks for cannot have been done. After any other failure
    nobody here can tell."""


class NotSetUp(Unavailable):
    """This installation was not given what it takes; the text names the setting."""


class ProviderUnavailable(Unavailable):
    """Somebody outside does not answer, or answers that it cannot."""


class RateLimited(ProviderUnavailable):
    """Somebody outside is asked too often."""
