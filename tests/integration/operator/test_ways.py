"""The ways to the API, and kinds whose CRDs may come and go."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from ragtenancy_operator.kube import PLURALS, Kube
from tests.integration.operator.test_pods import comes, goes, made, no_longer_rejected
from tests.integration.operator.world import World, condition, until

Kubectl = Callable[..., subprocess.CompletedProcess[str]]
ROUTE = {
    "api": {
        "publicURL": "https://rag.example.com",
        "httpRoute": {"parentRefs": [{"name": "gateway"}], "hostnames": ["rag.example.com"]},
    }
}
MONITOR = {"observability": {"serviceMonitor": {"enabled": True}}}


def crd(kind: str) -> dict[str, Any]:
    """A CRD of that name which takes anything: what the objects hold is a unit test's matter."""
    group, _, version = PLURALS[kind][0].partition("/")
    plural = PLURALS[kind][1]
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    metadata: dict[str, Any] = {"name": f"{plural}.{group}"}
    if group.endswith(".k8s.io"):
        metadata["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test's"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


async def test_an_ingress_comes_with_its_url_and_goes(world: World, api: Kube, team: str) -> None:
    ingress = {"host": "rag.example.com", "className": "nginx", "annotations": {"a.b/c": "1"}}
    await made(api, world, team, api={"ingress": ingress, "tls": {"secretName": "tls"}})
    found = await comes(api, "Ingress", team, "main-api")
    assert found["spec"]["rules"][0]["host"] == "rag.example.com"
    assert found["metadata"]["annotations"]["a.b/c"] == "1"

    async def url() -> str:
        status = (await api.get("RAGDeployment", team, "main")).get("status", {})
        return str(status.get("url", ""))

    async def outside() -> bool:
        """the URL is the Ingress's"""
        return await url() == "https://rag.example.com/v1"

    await until(outside, 10)
    await api.merge(
        "RAGDeployment", team, "main", {"spec": {"api": {"ingress": None, "tls": None}}}
    )
    await goes(api, "Ingress", team, "main-api")

    async def inside() -> bool:
        """the URL is the Service's"""
        return await url() == f"http://main-api.{team}.svc/v1"

    await until(inside, 10)


@pytest.mark.parametrize(
    ("kind", "reason", "changes"),
    [
        ("HTTPRoute", "GatewayAPIMissing", ROUTE),
        ("ServiceMonitor", "ServiceMonitorMissing", MONITOR),
    ],
)
async def test_a_kind_that_is_not_there_is_said_and_made_when_it_comes(
    world: World,
    api: Kube,
    team: str,
    kubectl: Kubectl,
    kind: str,
    reason: str,
    changes: dict[str, Any],
) -> None:
    await made(api, world, team, **changes)
    definition = crd(kind)

    async def missing() -> bool:
        """Stalled says what to install"""
        found = await api.get("RAGDeployment", team, "main")
        return condition(found, "Stalled").get("reason") == reason

    await until(missing, 10)
    found = await api.get("RAGDeployment", team, "main")
    assert "install its CRDs" in condition(found, "Stalled")["message"]
    # the rest is there, and says of itself what it would have said anyway
    assert condition(found, "APIReady")["reason"] == "Starting"
    try:
        assert kubectl("apply", "-f", "-", stdin=json.dumps(definition)).stderr == ""
        before = await until(lambda: find(api, kind, team), 60)
        await no_longer_rejected(api, team)

        await api.delete(before)

        async def back() -> bool:
            """it is back"""
            live = await find(api, kind, team)
            return live is not None and live["metadata"]["uid"] != before["metadata"]["uid"]

        await until(back, 5)
        nothing = {"api": {"httpRoute": None}, "observability": None}
        await api.merge("RAGDeployment", team, "main", {"spec": nothing})
        await goes(api, kind, team, "main-api")
        await api.merge("RAGDeployment", team, "main", {"spec": changes})
        await until(lambda: find(api, kind, team), 10)
    finally:
        kubectl("delete", "crd", definition["metadata"]["name"], "--timeout=30s")
    # a CRD that is taken away ends nothing
    await until(missing, 30)
    assert world.operator.leading()


async def find(api: Kube, kind: str, team: str) -> dict[str, Any] | None:
    """the object is there"""
    return await api.find(kind, team, "main-api")
