"""Credentials that the operator makes: created once, read back, never applied again."""

import base64
import secrets
from collections.abc import Mapping

from ragtenancy_api import wiring
from ragtenancy_operator.children.base import Context, manifest
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

PASSWORD = "password"  # noqa: S105 - the name of an entry
"""Entry of a managed Redis's Secret, beside its URL."""


def name(context: Context, component: str) -> str:
    """Name of the Secret with a managed component's credentials."""
    return context.child(component, "credentials")


def salt_name(context: Context) -> str:
    """Name of the Secret with the salt that separates tenants in vLLM's prefix cache."""
    return context.child("cache-salt")


def _secret(
    context: Context, secret_name: str, component: str, data: Mapping[str, str]
) -> Manifest:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return manifest(context, "v1", "Secret", secret_name, component, type="Opaque", data=encoded)


def wanted(context: Context) -> dict[str, str]:
    """The Secrets that must be there: component by name."""
    spec = context.deployment.spec
    managed = {
        Component.WEAVIATE: spec.vector_store.weaviate.managed,
        Component.STATE: spec.state.redis.managed,
        Component.CACHE: spec.cache.redis.managed,
        Component.EMBEDDING: spec.embedding.vllm,
        Component.GENERATION: spec.generation.vllm,
    }
    result = {
        name(context, component): component for component, is_set in managed.items() if is_set
    }
    return {**result, salt_name(context): Component.API}


def generate(context: Context, secret_name: str) -> Manifest:
    """A Secret of :func:`wanted` with fresh random values."""
    component = wanted(context)[secret_name]
    password = secrets.token_urlsafe(32)
    data: dict[str, str]
    if secret_name == salt_name(context):
        data = {wiring.CREDENTIAL_CACHE_SALT: password}
    elif component in (Component.STATE, Component.CACHE):
        url = f"redis://:{password}@{context.host(component)}:6379/0"
        entry = {
            Component.STATE: wiring.CREDENTIAL_STATE_REDIS,
            Component.CACHE: wiring.CREDENTIAL_CACHE_REDIS,
        }[component]
        data = {PASSWORD: password, entry: url}
    else:
        entry = {
            Component.WEAVIATE: wiring.CREDENTIAL_WEAVIATE,
            Component.EMBEDDING: wiring.CREDENTIAL_EMBEDDING,
            Component.GENERATION: wiring.CREDENTIAL_GENERATION,
        }[component]
        data = {entry: password}
    return _secret(context, secret_name, component, data)
