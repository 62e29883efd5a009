"""An issuer of tokens over real HTTP, with real keys that a test rotates."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fakes.served import Served

AUDIENCE = "ragtenancy"
SHARED = b"secret" * 8
SHARED_JWK = base64.urlsafe_b64encode(SHARED).decode()
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def new_key(algorithm: str) -> PrivateKey:
    """A key that signs with an algorithm."""
    if algorithm.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def segment(value: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@dataclass
class FakeIssuer(Served):
    """What it publishes, and how often it was asked.

    Attributes:
        keys: By id: the algorithm and the key. All are published.
        fault: "" or one of: slow, garbage, 500, foreign (another's discovery document).
        fetches: Requests for the key set.
    """

    keys: dict[str, tuple[str, PrivateKey]] = field(default_factory=dict)
    fault: str = ""
    fetches: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/realm"

    def rotate(self, kid: str, algorithm: str = "RS256") -> None:
        """Publish a new key in the place of all before."""
        self.keys = {kid: (algorithm, new_key(algorithm))}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Claims of a valid token of nobody; None takes one away."""
        now = int(time.time())
        whole = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 300, **changed}
        return {name: value for name, value in whole.items() if value is not None}

    def token(self, kid: str, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that a published key signed."""
        algorithm, key = self.keys[kid]
        whole = {"kid": kid, **(headers or {})}
        return jwt.encode(self.claims(**claims), key, algorithm, headers=whole)

    def public(self, kid: str) -> bytes:
        """A published key, as everybody can have it."""
        key = self.keys[kid][1].public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def forged(self, kid: str, algorithm: str, secret: bytes = b"", **claims: Any) -> str:
        """A token that no private key signed: by `none`, or by a secret that all know."""
        head = segment({"alg": algorithm, "typ": "JWT", "kid": kid})
        signed = f"{head}.{segment(self.claims(**claims))}"
        if algorithm == "none":
            return f"{signed}."
        digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def routes(self) -> Iterable[web.RouteDef]:
        """A discovery document and a key set."""
        return (
            web.get("/realm/.well-known/openid-configuration", self._discovery),
            web.get("/realm/keys", self._keys),
        )

    async def _discovery(self, _: web.Request) -> web.Response:
        issuer = "https://elsewhere.example" if self.fault == "foreign" else self.url
        return web.json_response({"issuer": issuer, "jwks_uri": f"{self.url}/keys"})

    async def _keys(self, _: web.Request) -> web.Response:
        self.fetches += 1
        if self.fault == "slow":
            await asyncio.sleep(60)
        if self.fault == "garbage":
            return web.Response(text="[" * 100_000)
        if self.fault.isdigit():
            return web.Response(status=int(self.fault))
        entries: list[Any] = [{"kty": "oct", "k": SHARED_JWK, "kid": "shared"}, "not a key", {}]
        for kid, (algorithm, key) in self.keys.items():
            name = "RS256" if algorithm[:2] in {"RS", "PS"} else algorithm
            public = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
            entries.append({**public, "kid": kid, "use": "sig"})
        return web.json_response({"keys": entries})
