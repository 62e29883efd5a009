"""Connections of the operator to what a RAGDeployment runs on, made from its Secrets."""

import asyncio
import base64
import binascii
import json
import ssl
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

import aiohttp

from ragtenancy_api import wiring
from ragtenancy_operator import stores
from ragtenancy_operator.children import api, external, vllm, weaviate
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.errors import Refused, Retry, Unreachable
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import Component, collections
from ragtenancy_operator.placements import Placements
from ragtenancy_operator.reach import no_connection
from ragtenancy_operator.store import Manifest
from ragtenancy_operator.weaviate import TenantBatches, Weaviate

_CHECK_SECONDS: Final = 3.0
"""How long a server may take that is only asked whether it is there: a condition says so in 5 s."""
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How every HTTP/2 connection begins (RFC 9113, 3.4): the preface and empty SETTINGS."""
_SETTINGS: Final = 4
Held = Mapping[str, str | Refused]
"""Values by file (wiring.CREDENTIAL_* and CA_*), or what is wrong with them."""


_Address = tuple[str, str | None, str | None, int | None]
"""Of a Weaviate: URL, key, CA, copies of each shard."""


class VectorStore(NamedTuple):
    """A deployment's Weaviate and the tenants in it."""

    client: Weaviate
    tenants: TenantBatches
    placements: Placements

    @classmethod
    def of(cls, client: Weaviate, uid: str) -> Self:
        """What there is in a Weaviate of the deployment with this uid."""
        placements = Placements(client)
        return cls(client, placements.batches(*collections(uid)), placements)


def value_of(secret: Manifest | None, entry: str, name: str, key: str, path: str = "") -> str:
    """The value that a file gets from a Secret.

    Args:
        secret: The Secret, as the API server has it.
        entry: The file (wiring.CREDENTIAL_* or CA_*).
        name: Name of the Secret.
        key: Entry of the Secret.
        path: The field that refers to it, for the message; the value is in none.

    Raises:
        Refused: It is not there, or cannot be what it is to be.
    """
    field = f"{path}: " if path else ""
    if secret is None:
        raise Refused("SecretMissing", f"{field}there is no Secret {name} in this namespace")
    encoded = (secret.get("data") or {}).get(key)
    if encoded is None:
        raise Refused("SecretMissing", f"{field}Secret {name} has no entry {key}")
    where = f"{field}entry {key} of Secret {name}"
    try:
        value = base64.b64decode(encoded, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused("SecretMalformed", f"{where} is no UTF-8 text") from error
    if not value:
        raise Refused("SecretMalformed", f"{where} is empty")
    if entry.endswith(".crt"):
        trust(value, where)
    elif not (value.isascii() and value.isprintable()):
        raise Refused("SecretMalformed", f"{where} holds characters that no key or URL has")
    return value


@lru_cache(maxsize=128)
def trust(authority: str | None, where: str = "the CA") -> ssl.SSLContext | None:
    """A context that trusts these CAs (PEM) alone; None: the public ones.

    Contexts are kept: making one takes milliseconds in which the operator does nothing else.

    Raises:
        Refused: They are no certificates.
    """
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise Refused("SecretMalformed", f"{where} holds no certificates in PEM") from error


class Connections:
    """Opens connections when they are first needed, and again when credentials change."""

    def __init__(self, kube: Kube, session: aiohttp.ClientSession) -> None:
        self._kube = kube
        self._session = session
        self._vector_stores: dict[str, tuple[_Address, VectorStore]] = {}

    async def read(self, context: Context, entries: Iterable[str] | None = None) -> Held:
        """Read credentials and CAs, each Secret once; all of them, or some files'."""
        wanted = api.sources(context)
        if entries is not None:
            wanted = {entry: wanted[entry] for entry in entries if entry in wanted}
        theirs = external.sources(context)
        names = sorted({ref.name for ref in wanted.values()})
        found = await asyncio.gather(
            *(self._kube.find("Secret", context.namespace, name) for name in names)
        )
        secrets = dict(zip(names, found, strict=True))
        held: dict[str, str | Refused] = {}
        for entry, ref in wanted.items():
            path = theirs[entry].path if entry in theirs else ""
            try:
                held[entry] = value_of(secrets[ref.name], entry, ref.name, ref.key, path)
            except Refused as refusal:
                held[entry] = refusal
        return held

    async def vector_store(self, context: Context, held: Held | None = None) -> VectorStore:
        """The deployment's Weaviate; with what was ``held`` just now, else as it was last."""
        uid = context.deployment.metadata.uid
        known = self._vector_stores.get(uid)
        if known is not None and held is None:
            return known[1]
        if held is None:
            held = await self.read(context, (wiring.CREDENTIAL_WEAVIATE, wiring.CA_WEAVIATE))
        key, authority = value(held, wiring.CREDENTIAL_WEAVIATE), value(held, wiring.CA_WEAVIATE)
        copies = weaviate.replication_factor(context)
        address = (weaviate.urls(context)[0], key, authority, copies)
        if known is None or known[0] != address:
            client = Weaviate(self._session, address[0], key, trust(authority), copies)
            known = (address, VectorStore.of(client, uid))
            self._vector_stores[uid] = known
        return known[1]

    async def redis_url(self, context: Context, entry: str, held: Held | None = None) -> str:
        """URL of one of the two Redis, with the CA that its certificate is verified by.

        Raises:
            Refused: There is none, or it is no URL of a Redis.
        """
        ca = {
            wiring.CREDENTIAL_STATE_REDIS: wiring.CA_STATE_REDIS,
            wiring.CREDENTIAL_CACHE_REDIS: wiring.CA_CACHE_REDIS,
        }[entry]
        held = await self.read(context, (entry, ca)) if held is None else held
        url, authority = value(held, entry), value(held, ca)
        if url is None:
            raise RuntimeError(f"{entry} has no source")
        source = external.sources(context).get(entry)
        stores.check_url(url, source.path if source else entry, tls=authority is not None)
        # redis-py takes it from the URL's query
        more = f"{'&' if urlsplit(url).query else '?'}ssl_ca_data={quote(authority or '')}"
        return url + more if authority else url

    async def check(self, context: Context, component: str, held: Held) -> None:
        """Ask an external server whether it is what it should be, and takes our credentials.

        Raises:
            Refused: It is something else, or takes no credentials of ours; the message begins with
                the field.
            Unreachable: It does not answer.
        """
        checks = {
            Component.WEAVIATE: self._check_weaviate,
            Component.STATE: self._check_redis,
            Component.CACHE: self._check_redis,
            Component.EMBEDDING: self._check_model,
            Component.GENERATION: self._check_model,
        }
        try:
            await checks[component](context, component, held)
        except Refused as error:
            raise Refused(error.reason, _with_field(component, error)) from error
        except Retry as error:
            raise Unreachable(_with_field(component, error)) from error

    async def _check_redis(self, context: Context, component: str, held: Held) -> None:
        await stores.ping(await self.redis_url(context, external.credential(component), held))

    async def _check_weaviate(self, context: Context, _: str, held: Held) -> None:
        connection = await self.vector_store(context, held)
        grpc = weaviate.urls(context)[1]
        await connection.client.check(_CHECK_SECONDS)
        await self._check_grpc(grpc, value(held, wiring.CA_WEAVIATE))

    async def _check_grpc(self, url: str, authority: str | None) -> None:
        """Ask whether HTTP/2 is spoken there: the operator itself needs no gRPC."""
        parts, server = urlsplit(url), f"Weaviate's gRPC at {url}"
        context = None
        if parts.scheme == "grpcs":
            # one of its own: what is kept must not speak HTTP/2 alone
            context = ssl.create_default_context(cadata=authority)
            context.set_alpn_protocols(["h2"])
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or 50051, ssl=context
                )
                try:
                    writer.write(_PREFACE)
                    head = await reader.readexactly(9)
                finally:
                    writer.close()
        except asyncio.IncompleteReadError as error:
            raise _no_grpc(url) from error
        except (OSError, ValueError) as error:
            failure = no_connection(server, error)
            if isinstance(failure, Unreachable):
                field = f"{external.PATHS[Component.WEAVIATE]}.grpcUrl"
                raise Unreachable(f"{field}: {failure}") from error
            raise failure from error
        if head[3] != _SETTINGS:
            raise _no_grpc(url)

    async def _check_model(self, context: Context, component: str, held: Held) -> None:
        url = vllm.url(context, component)
        key = value(held, external.credential(component))
        tls = trust(value(held, external.authority(component)))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=_CHECK_SECONDS)
        try:
            async with self._session.get(
                f"{url}/models", headers=headers, timeout=timeout, ssl=True if tls is None else tls
            ) as got:
                status, body = got.status, await got.content.read(1_000_000)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise no_connection(url, error) from error
        if status in (401, 403):
            raise Refused(
                "CredentialsRefused", f"{url} refuses {'the' if key else 'us without an'} API key"
            )
        if status >= 500 or status == 429:
            raise Unreachable(f"{url}/models answers HTTP {status}")
        if status >= 400 or not _lists_models(body):
            raise Refused(
                "NotOpenAI",
                f"{url}/models is no list of models (HTTP {status}): write the base URL of an "
                "OpenAI API, with its version: https://HOST/v1",
            )

    def forget(self, uid: str) -> None:
        """Drop the connections of a deployment that is gone."""
        self._vector_stores.pop(uid, None)


def value(held: Held, entry: str) -> str | None:
    """One of the values that were read; None when there is to be none.

    Raises:
        Refused: It is not there, or malformed.
    """
    found: Any = held.get(entry)
    if isinstance(found, Refused):
        raise found
    return None if found is None else str(found)


def _with_field(component: str, error: Exception) -> str:
    """The message of an error, with the field that it is about."""
    text, reason = str(error), getattr(error, "reason", "")
    if text.startswith("spec."):
        return text
    field = external.URL_FIELDS[component]
    if reason == "CredentialsRefused":
        field = external.CREDENTIAL_FIELDS[component]
    elif reason == "CertificateNotTrusted":
        field = external.CA_FIELD
    return f"{external.PATHS[component]}.{field}: {text}"


def _lists_models(body: bytes) -> bool:
    """Whether this is what an OpenAI API answers on /models; some leave the envelope out."""
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer.get("data") if isinstance(answer, dict) else answer, list)


def _no_grpc(url: str) -> Refused:
    return Refused(
        "NotWeaviate",
        f"{external.PATHS[Component.WEAVIATE]}.grpcUrl: no gRPC is spoken at {url}; it is "
        "Weaviate's port 50051, and grpcs:// where it has TLS",
    )
