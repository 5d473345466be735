"""Not built yet."""

from collections.abc import Collection

from domain.ports import ClipProvider


class Luma(ClipProvider):
    def __init__(self, key: str, *, base_url: str = "", private_hosts: Collection[str] = ()) -> None:
        self._key, self._base_url, self._private_hosts = key, base_url, private_hosts
