"""The errors of an outbound call, beside `Unavailable`."""

from domain.errors import Rejected, Unavailable


class RequestRejected(Rejected):
    """The other side will answer the same way again, for example to a wrong key. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class AddressRefused(Unavailable):
    """A host leads to an address that outbound calls do not connect to."""


class Momentary(Unavailable):
    """The call failed, and another try within it may succeed."""
