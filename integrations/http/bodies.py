"""Bodies of requests that are read piece by piece while they are sent, since a video does not belong in memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex


@dataclass(frozen=True, slots=True)
class Body:
    """`size` bytes, which `pieces` yields from the beginning each time it is called. They must not come from a call of
    the client that sends them."""

    size: int
    pieces: Callable[[], Iterator[bytes]]
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file in a form: the field's name, the file's name, and its bytes with their type."""

    field: str
    name: str
    body: Body


def multipart(fields: Mapping[str, str], file: FormFile) -> Body:
    """Return a multipart/form-data form: the fields in their order, and the file as the last."""
    boundary = token_hex(20)
    head = "".join(f"{_opening(boundary, name)}\r\n\r\n{value}\r\n" for name, value in fields.items())
    head += f'{_opening(boundary, file.field)}; filename="{_escaped(file.name)}"\r\n'
    before = f"{head}Content-Type: {file.body.content_type}\r\n\r\n".encode()
    after = f"\r\n--{boundary}--\r\n".encode()

    def pieces() -> Iterator[bytes]:
        yield before
        yield from file.body.pieces()
        yield after

    size = len(before) + file.body.size + len(after)
    return Body(size, pieces, f"multipart/form-data; boundary={boundary}")


def _opening(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"'


def _escaped(name: str) -> str:
    """As browsers write a name that is quoted."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
