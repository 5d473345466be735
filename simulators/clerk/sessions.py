"""A Clerk instance on this machine: it signs session tokens and publishes its keys."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from simulators.loopback import Loopback, Reply, Request, json_reply

JWKS_PATH = "/.well-known/jwks.json"
TOKEN_LIFETIME = 60
"""Seconds that a session token lives."""


class ClerkSessionSimulator:
    """`published` are the ids of keys in the JWKS; `status` is what it answers with; `requests` counts them."""

    def __init__(self) -> None:
        self.issuer = "https://clerk.example.com"
        self.published: set[str] = set()
        self.status = 200
        self.requests = 0
        self._keys: dict[str, RSAPrivateKey] = {}
        self.rotate("ins_first")

    def rotate(self, key_id: str) -> None:
        """Sign with a new key from now on, and publish it in the place of all others."""
        self._keys[key_id] = generate_private_key(public_exponent=65537, key_size=2048)
        self.published, self._signing = {key_id}, key_id

    def pem(self, key_id: str = "ins_first") -> str:
        public = self._keys[key_id].public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def claims(self, now: float, **changes: Any) -> dict[str, Any]:
        """The claims of a token made at `now` (Unix seconds); a change to None leaves the claim out."""
        claims = {
            "azp": "https://app.example.com",
            "exp": int(now) + TOKEN_LIFETIME,
            "fva": [0, -1],
            "iat": int(now),
            "iss": self.issuer,
            "jti": "3a1f5c",
            "nbf": int(now) - 10,
            "sid": "sess_1",
            "sts": "active",
            "sub": "user_ada",
            "v": 2,
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, now: float, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A session token; `changes` are of its claims, `header` adds to its header."""
        headers = {"kid": self._signing, "cat": "cl_B7d4PD111AAA", **(header or {})}
        return self.sign(json.dumps(self.claims(now, **changes)).encode(), header=headers)

    def sign(self, content: bytes, *, header: Mapping[str, Any] | None = None, algorithm: str = "RS256") -> str:
        """Any content, signed as a token is; without a `header` it names the key and nothing else."""
        headers = {"kid": self._signing} if header is None else dict(header)
        return jwt.PyJWS().encode(content, self._keys[self._signing], algorithm, headers=headers)

    def jwks(self) -> dict[str, Any]:
        keys = [
            jwt.algorithms.RSAAlgorithm.to_jwk(self._keys[key_id].public_key(), as_dict=True)
            | {"kid": key_id, "use": "sig", "alg": "RS256"}
            for key_id in sorted(self.published)
        ]
        return {"keys": keys}

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Publish the keys on a loopback port; yields the URL of the JWKS."""

        def answer(request: Request) -> Reply:
            self.requests += 1
            return json_reply(self.jwks(), self.status if request.path == JWKS_PATH else 404)

        with Loopback(answer) as server:
            yield f"{server.url}{JWKS_PATH}"
