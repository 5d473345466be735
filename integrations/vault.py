"""Encrypts the tokens of social accounts with Fernet (AES-128-CBC and HMAC-SHA256) under one of several keys."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from domain.errors import SealUnknown


class FernetVault:
    """`keys` are Fernet's, the newest first: it encrypts, all of them decrypt."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._newest = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def seal(self, text: str) -> bytes:
        return self._newest.encrypt(text.encode())

    def unseal(self, sealed: bytes) -> str:
        try:
            return self._all.decrypt(sealed).decode()
        except InvalidToken:
            raise SealUnknown("it is encrypted under a key that is not among TOKEN_ENCRYPTION_KEYS") from None

    def reseal(self, sealed: bytes) -> bytes | None:
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            pass
        else:
            return None
        try:
            return self._all.rotate(sealed)
        except InvalidToken:
            raise SealUnknown("it is encrypted under a key that is not among TOKEN_ENCRYPTION_KEYS") from None
