"""The verifier of session tokens, put together from the settings."""

from functools import partial

from integrations.clerk.sessions import (
    FETCH_SECONDS,
    MAX_JWKS,
    WAIT,
    JwksKeys,
    KeyUnusable,
    PemKeys,
    Verifier,
    fetch_jwks,
)
from integrations.http.client import Http
from workers.settings import Settings, SettingsInvalid


def session_verifier(settings: Settings, *, wait: float = WAIT) -> Verifier | None:
    """Return the verifier of session tokens; None if sign-in is not set up. Nothing is fetched yet.

    `wait` is the seconds that a caller may wait for keys that are being fetched. As in Clerk's own libraries, a PEM key
    goes before the JWKS.

    Raises:
        SettingsInvalid: the PEM key cannot be used.
    """
    if settings.clerk_jwt_key:
        try:
            keys: PemKeys | JwksKeys = PemKeys(settings.clerk_jwt_key)
        except KeyUnusable as error:
            raise SettingsInvalid([f"CLERK_JWT_KEY: {error}"]) from None
    elif settings.clerk_jwks_url:
        http = Http(
            settings.trends_contact,
            most_bytes=MAX_JWKS,
            seconds=FETCH_SECONDS,
            private_hosts=settings.outbound_private_hosts,
        )
        keys = JwksKeys(partial(fetch_jwks, http, settings.clerk_jwks_url), wait=wait)
    else:
        return None
    return Verifier(keys, issuer=settings.session_issuer, parties=settings.clerk_authorized_parties)
