"""The errors of an outbound call, beside `Unavailable`."""

from domain.errors import NotSent as NotSent
from domain.errors import Rejected, Unavailable


class RequestRejected(Rejected):
    """The other side will answer the same way again, for example to a wrong key. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class AddressRefused(NotSent):
    """A host leads to an address that outbound calls do not connect to."""


class Momentary(Unavailable):
    """The call failed, and another try within it may succeed."""


class NoConnection(NotSent, Momentary):
    """Nobody took the connection that the request was to be sent on."""


class TooLarge(Rejected):
    """What was to be copied is larger than it may be."""
