"""Connections of the operator to what a RAGDeployment runs on, made from its Secrets."""

import base64
import binascii
from typing import NamedTuple

import aiohttp

from ragtenancy_api import wiring
from ragtenancy_operator.children import api, weaviate
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.errors import Refused, Retry, why
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import collections
from ragtenancy_operator.weaviate import TenantBatches, Weaviate


class VectorStore(NamedTuple):
    """A deployment's Weaviate and the tenants in it."""

    client: Weaviate
    tenants: TenantBatches


class Connections:
    """Opens connections when they are first needed, and again when credentials change."""

    def __init__(self, kube: Kube, session: aiohttp.ClientSession) -> None:
        self._kube = kube
        self._session = session
        self._vector_stores: dict[str, tuple[tuple[str, str | None], VectorStore]] = {}

    async def credential(self, context: Context, entry: str) -> str | None:
        """The value of one credential (wiring.CREDENTIAL_*); None when there is to be none.

        Raises:
            Refused: The Secret, or its entry, is not there.
        """
        reference = api.sources(context).get(entry)
        if reference is None:
            return None
        secret = await self._kube.find("Secret", context.namespace, reference.name)
        if secret is None:
            raise Refused(
                "SecretMissing", f"Secret {reference.name} is not in namespace {context.namespace}"
            )
        try:
            value = base64.b64decode((secret.get("data") or {})[reference.key], validate=True)
            return value.decode().strip()
        except KeyError as error:
            raise Refused(
                "SecretMissing", f"Secret {reference.name} has no entry {reference.key}"
            ) from error
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Refused(
                "SecretMalformed", f"entry {reference.key} of Secret {reference.name} is no text"
            ) from error

    async def vector_store(self, context: Context, *, refresh: bool = False) -> VectorStore:
        """The deployment's Weaviate; ``refresh`` reads its credentials again."""
        uid = context.deployment.metadata.uid
        held = self._vector_stores.get(uid)
        if held is not None and not refresh:
            return held[1]
        address = (
            weaviate.urls(context)[0],
            await self.credential(context, wiring.CREDENTIAL_WEAVIATE),
        )
        if held is None or held[0] != address:
            client = Weaviate(self._session, *address)
            held = (address, VectorStore(client, TenantBatches(client, collections(uid))))
            self._vector_stores[uid] = held
        return held[1]

    async def redis_url(self, context: Context, entry: str) -> str:
        """URL of one of the two Redis."""
        url = await self.credential(context, entry)
        if url is None:
            raise RuntimeError(f"{entry} has no source")
        return url

    async def model_answers(self, context: Context, url: str, entry: str) -> None:
        """Ask an external model server whether it takes our key.

        Raises:
            Refused: It does not take the key, or does not speak OpenAI's protocol.
            Retry: It does not answer.
        """
        key = await self.credential(context, entry)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=4)
        try:
            async with self._session.get(f"{url}/models", headers=headers, timeout=timeout) as got:
                status = got.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Retry(f"{url} does not answer ({why(error)})") from error
        if status in (401, 403):
            raise Refused("Credentials", f"{url} refuses the API key (HTTP {status})")
        if status >= 500:
            raise Retry(f"{url}/models answers HTTP {status}")
        if status >= 400:
            raise Refused("NotOpenAI", f"{url}/models answers HTTP {status}: is it an OpenAI API?")

    def forget(self, uid: str) -> None:
        """Drop the connections of a deployment that is gone."""
        self._vector_stores.pop(uid, None)
