"""What of a deployment somebody else runs: its credentials and CAs, and the fields that name them.

A message about such a part names the field, so that a person knows what to edit.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ragtenancy_api import wiring
from ragtenancy_api.meta import ClientTLS, SecretKeyRef
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.names import Component

PATHS: Final = {
    Component.WEAVIATE: "spec.vectorStore.weaviate.external",
    Component.STATE: "spec.state.redis.external",
    Component.CACHE: "spec.cache.redis.external",
    Component.EMBEDDING: "spec.embedding.external",
    Component.GENERATION: "spec.generation.external",
}
"""Field of each component that can be external."""
URL_FIELDS: Final = {
    Component.WEAVIATE: "httpUrl",
    Component.STATE: "urlSecretRef",
    Component.CACHE: "urlSecretRef",
    Component.EMBEDDING: "url",
    Component.GENERATION: "url",
}
CREDENTIAL_FIELDS: Final = {
    Component.WEAVIATE: "apiKeySecretRef",
    Component.STATE: "urlSecretRef",
    Component.CACHE: "urlSecretRef",
    Component.EMBEDDING: "apiKeySecretRef",
    Component.GENERATION: "apiKeySecretRef",
}
CA_FIELD: Final = "tls.caSecretRef"
"""Fields below PATHS."""
_CREDENTIALS: Final = {
    Component.WEAVIATE: (wiring.CREDENTIAL_WEAVIATE, wiring.CA_WEAVIATE),
    Component.STATE: (wiring.CREDENTIAL_STATE_REDIS, wiring.CA_STATE_REDIS),
    Component.CACHE: (wiring.CREDENTIAL_CACHE_REDIS, wiring.CA_CACHE_REDIS),
    Component.EMBEDDING: (wiring.CREDENTIAL_EMBEDDING, wiring.CA_EMBEDDING),
    Component.GENERATION: (wiring.CREDENTIAL_GENERATION, wiring.CA_GENERATION),
}
"""Files (credential, CA) of each component below wiring.ENV_CREDENTIALS."""


class Source(NamedTuple):
    """One entry of a Secret that a person wrote, and the field that refers to it."""

    component: str
    ref: SecretKeyRef
    path: str


def credential(component: str) -> str:
    """Name of the file with a component's credential."""
    return _CREDENTIALS[component][0]


def authority(component: str) -> str:
    """Name of the file with the CA that a component's certificate is verified by."""
    return _CREDENTIALS[component][1]


def _references(context: Context) -> Iterator[tuple[str, SecretKeyRef | None, ClientTLS | None]]:
    """Each external component, what its credential refers to, and its TLS."""
    spec = context.deployment.spec
    if weaviate := spec.vector_store.weaviate.external:
        yield Component.WEAVIATE, weaviate.api_key_secret_ref, weaviate.tls
    if redis := spec.state.redis.external:
        yield Component.STATE, redis.url_secret_ref, redis.tls
    if redis := spec.cache.redis.external:
        yield Component.CACHE, redis.url_secret_ref, redis.tls
    if model := spec.embedding.external:
        yield Component.EMBEDDING, model.api_key_secret_ref, model.tls
    if model := spec.generation.external:
        yield Component.GENERATION, model.api_key_secret_ref, model.tls


def components(context: Context) -> list[str]:
    """The components that somebody else runs."""
    return [component for component, _, _ in _references(context)]


def sources(context: Context) -> dict[str, Source]:
    """What of a deployment's credentials and CAs comes from Secrets of a person's, by file."""
    found = {}
    for component, ref, tls in _references(context):
        path = PATHS[component]
        if ref is not None:
            field = CREDENTIAL_FIELDS[component]
            found[credential(component)] = Source(component, ref, f"{path}.{field}")
        if tls is not None:
            source = Source(component, tls.ca_secret_ref, f"{path}.{CA_FIELD}")
            found[authority(component)] = source
    return found
