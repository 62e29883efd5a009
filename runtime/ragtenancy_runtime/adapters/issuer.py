"""Tokens of an issuer that the platform trusts: its keys fetched and kept, its signatures verified.

Keys are fetched by whoever needs them first and shared by all who wait. They are kept for a while
and used beyond it while the issuer is away. A token of an unknown key has them fetched again, so
that a rotation is followed at once, but seldom: anybody can send tokens of keys that do not exist.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ragtenancy_api.api import JWTAuth
from ragtenancy_runtime.errors import Unauthenticated, Unavailable

KEEP_S: Final = 900.0
UNKNOWN_S: Final = 30.0
"""Least time between two fetches for keys that are not there."""
RETRY_S: Final = 1.0
"""Least time between two fetches while there are no keys at all."""
LEEWAY_S: Final = 30
"""How far the issuer's clock may be off."""
MAX_TOKEN_BYTES: Final = 8192
_FETCH_S: Final = 5.0
_MAX_ANSWER_BYTES: Final = 262_144
_MAX_KEYS: Final = 64
_MIN_RSA_BITS: Final = 2048
_DISCOVERY: Final = "/.well-known/openid-configuration"

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ALGORITHMS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
"""What keys of a type and curve may sign with: never a secret that verifiers share."""
_ASYMMETRIC: Final = frozenset().union(*_ALGORITHMS.values())
_MALFORMED: Final = (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What reading untrusted JSON and tokens may raise."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, and the algorithms that it may be used with."""

    key: Any
    algorithms: frozenset[str]


def verifying_key(entry: Mapping[str, Any]) -> VerifyingKey | None:
    """The key that an entry of a JWK set holds; None when it is not one to verify tokens with."""
    curve = "" if entry.get("kty") == "RSA" else entry.get("crv")
    algorithms = _ALGORITHMS.get((str(entry.get("kty")), str(curve)), frozenset())
    if entry.get("alg") is not None:
        algorithms &= {entry["alg"]}
    if not algorithms or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    key = jwt.PyJWK(dict(entry)).key
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return None
    return VerifyingKey(key, algorithms)


def verifying_keys(document: Mapping[str, Any]) -> dict[str | None, VerifyingKey]:
    """The usable keys of a JWK set by their ids; one that cannot be read is passed over."""
    found: dict[str | None, VerifyingKey] = {}
    for entry in document["keys"][:_MAX_KEYS]:
        try:
            key = verifying_key(entry)
        except (*_MALFORMED, AttributeError):
            continue
        if key is not None:
            found[entry.get("kid")] = key
    return found


Source = tuple[str, str | None]
"""An issuer, and the URL of its keys when it does not publish that."""


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(
        self, http: aiohttp.ClientSession, source: Source, now: Callable[[], float]
    ) -> None:
        self.source = source
        self._http = http
        self._now = now
        self._keys: dict[str | None, VerifyingKey] | None = None
        self._loaded_at = self._failed_at = self._asked_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> VerifyingKey:
        """The key of an id; a token that names none is of the issuer's only key.

        Raises:
            Unauthenticated: There is no such key.
            Unavailable: That cannot be told, as the issuer is away.
        """
        now = self._now()
        if self._keys is None and now - self._failed_at >= RETRY_S:
            await self._fetch()
        elif now - self._loaded_at >= KEEP_S and now - self._failed_at >= UNKNOWN_S:
            self._start()
        found = self._known(kid)
        if found is None and self._keys is not None:
            if now - self._asked_at >= UNKNOWN_S:
                self._asked_at = now
                await self._fetch()
            elif self._fetching is not None:
                await self._fetch()
            found = self._known(kid)
        if found is not None:
            return found
        if self._failed_at > self._loaded_at:
            raise Unavailable("token issuer")
        raise Unauthenticated

    def _known(self, kid: str | None) -> VerifyingKey | None:
        keys = self._keys or {}
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(kid)

    def _start(self) -> "asyncio.Task[None]":
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._load())
            self._fetching.add_done_callback(lambda _: setattr(self, "_fetching", None))
        return self._fetching

    async def _fetch(self) -> None:
        # Who waits may leave; the others wait on.
        await asyncio.shield(self._start())

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_S):
                keys = verifying_keys(await self._document())
        except (aiohttp.ClientError, OSError, TimeoutError, *_MALFORMED) as error:
            self._failed_at = self._now()
            _log.warning("keys of the issuer %s could not be fetched: %r", self.source[0], error)
            return
        self._keys = keys
        self._loaded_at = self._now()

    async def _document(self) -> dict[str, Any]:
        issuer, jwks_url = self.source
        if jwks_url is None:
            discovered = await self._get(issuer.rstrip("/") + _DISCOVERY)
            if discovered["issuer"] != issuer:
                raise ValueError(f"its discovery document is of {discovered['issuer']!r:.200}")
            jwks_url = str(discovered["jwks_uri"])
        return await self._get(jwks_url)

    async def _get(self, url: str) -> dict[str, Any]:
        body = bytearray()
        async with self._http.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > _MAX_ANSWER_BYTES:
                    raise ValueError("the answer is too long")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise TypeError("not a JSON object")
        return document


class IssuedTokens:
    """Verifies tokens of the issuer that the deployment names at that moment."""

    def __init__(
        self, http: aiohttp.ClientSession, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._http = http
        self._now = now
        self._keys: IssuerKeys | None = None

    async def tenant_claim(self, trusted: JWTAuth, token: str) -> str:
        """What a valid token's tenant claim says.

        Raises:
            Unauthenticated: The token is not valid.
            Unavailable: The issuer is away, and its keys were never here.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated
        keys, source = self._keys, (trusted.issuer, trusted.jwks_url)
        if keys is None or keys.source != source:
            keys = self._keys = IssuerKeys(self._http, source, self._now)
        try:
            header = jwt.get_unverified_header(token)
            if "crit" in header:  # extensions that must be understood; none is
                raise Unauthenticated
            kid = header.get("kid")
            if header.get("alg") not in _ASYMMETRIC:
                raise Unauthenticated
            found = await keys.find(kid)
            claims = jwt.decode(
                token,
                found.key,
                algorithms=sorted(found.algorithms),
                audience=trusted.audience,
                issuer=trusted.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
            claim = claims[trusted.tenant_claim]
        except _MALFORMED as error:
            raise Unauthenticated from error
        if not isinstance(claim, str):
            raise Unauthenticated
        return claim
