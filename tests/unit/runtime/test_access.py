from typing import Any

import pytest

from ragtenancy_api.api import JWTAuth
from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_api.settings import Role
from ragtenancy_runtime.access import Access, permit
from ragtenancy_runtime.errors import Forbidden, Unauthenticated, Unavailable
from ragtenancy_runtime.http.openapi import build_document
from ragtenancy_runtime.http.routes import ROUTES
from ragtenancy_runtime.tenants import Directory, Identity, tenant_of
from tests.fakes.manifests import binding_manifest, deployment_manifest, key_of

READERS_POST = {"/v1/chat/completions", "/v1/search"}
"""What is asked by POST and changes nothing."""


class NoTokens:
    """An issuer whose tokens are never valid."""

    async def tenant_claim(self, trusted: JWTAuth, token: str) -> str:
        raise Unauthenticated


def binding(**spec: Any) -> RAGBinding:
    manifest = binding_manifest("a")
    manifest["spec"] |= spec
    return RAGBinding.model_validate(manifest)


def code_of(identity: Identity, role: Role) -> str | None:
    try:
        permit(identity, role)
    except Forbidden as error:
        return error.code
    return None


def test_every_route_that_may_change_something_needs_a_writer() -> None:
    for route in ROUTES:
        reads = route.method == "GET" or route.path in READERS_POST
        assert (route.role == "Reader") is reads, f"{route.method} {route.path}"


def test_the_openapi_document_has_every_route_and_no_other() -> None:
    described = {
        (method.upper(), path)
        for path, item in build_document("1")["paths"].items()
        for method in item
    }
    assert described == {(route.method, route.path) for route in ROUTES}


def test_a_writer_may_all_and_a_reader_reads() -> None:
    tenant = tenant_of(binding())
    reader, writer = Identity(tenant, "k", "Reader"), Identity(tenant, "k", "Writer")
    assert code_of(reader, "Reader") is code_of(writer, "Reader") is code_of(writer, "Writer")
    assert code_of(reader, "Reader") is None
    assert code_of(reader, "Writer") == "permission_denied"


def test_a_suspended_tenant_may_nothing() -> None:
    tenant = tenant_of(binding(suspended=True))
    assert code_of(Identity(tenant, "k", "Writer"), "Reader") == "tenant_suspended"


async def test_keys_are_unknown_while_the_deployment_takes_none() -> None:
    directory = Directory()
    access = Access(directory, NoTokens())
    directory.apply(binding())
    with pytest.raises(Unavailable):
        await access.identify(key_of("a"))
    manifest = deployment_manifest("http://127.0.0.1:1/v1")
    directory.set_deployment(RAGDeployment.model_validate(manifest).spec)
    assert (await access.identify(key_of("a"))).key_id == "key-a"
    jwt = {"issuer": "https://issuer.example", "audience": "rag"}
    manifest["spec"]["api"] = {"auth": {"apiKeys": {"enabled": False}, "jwt": jwt}}
    directory.set_deployment(RAGDeployment.model_validate(manifest).spec)
    with pytest.raises(Unauthenticated):
        await access.identify(key_of("a"))
