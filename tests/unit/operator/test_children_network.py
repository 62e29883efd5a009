"""Who may talk to whom: the policies, evaluated for every pair of peers and every port."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ragtenancy_operator import names
from ragtenancy_operator.children import network_policy
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment import plan
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest
from tests.unit.builders import context, deployment_spec
from tests.unit.networkpolicy import Peer, Port, allowed
from tests.unit.operator.test_children import EXTERNAL

CHART = Path(__file__).resolve().parents[3] / "charts/ragtenancy/templates/_helpers.tpl"
MONITORING = {"networkPolicy": {"metricsFrom": {"matchLabels": {
    "kubernetes.io/metadata.name": "monitoring",
}}}}  # fmt: skip


def pod_of(component: str, deployment: str = "main") -> Peer:
    name = component if deployment == "main" else f"{deployment}'s {component}"
    return Peer(name, "rag", names.selector(deployment, component))


OURS = {
    name: pod_of(name)
    for name in (
        *(Component.WEAVIATE, Component.STATE, Component.CACHE, Component.API),
        *(Component.EMBEDDING, Component.GENERATION),
        *("embedding-download", "generation-download"),
    )
}
OTHERS = {
    peer.name: peer
    for peer in (
        Peer("operator", "ragtenancy-system", {names.LABEL_NAME: "ragtenancy-operator"}),
        Peer("operator's neighbour", "ragtenancy-system", {"app": "anything"}),
        Peer("false operator", "team-acme", {names.LABEL_NAME: "ragtenancy-operator"}),
        Peer("tenant", "team-acme", {"app": "chat"}),
        Peer("neighbour", "rag", {"app": "anything"}),
        pod_of(Component.API, "other"),
        Peer("prometheus", "monitoring", {"app": "prometheus"}),
        Peer("dns", "kube-system", {"k8s-app": "kube-dns"}),
        Peer("internet"),
    )
}
PEERS = OURS | OTHERS
PORTS = [
    *(Port(53, "UDP"), Port(7100, "UDP"), Port(53), Port(80), Port(443), Port(2112), Port(3000)),
    *(Port(4318), Port(6379), Port(6380), Port(6443), Port(7100), Port(7101), Port(8000)),
    *(Port(8080), Port(8300), Port(8301), Port(8443), Port(9090), Port(50051)),
]
DNS = {(53, "TCP"), (53, "UDP")}

Table = dict[tuple[str, str], set[tuple[int, str]]]


def tcp(*numbers: int) -> set[tuple[int, str]]:
    return {(number, "TCP") for number in numbers}


def policies(made: Context) -> list[Manifest]:
    return [
        manifest
        for manifests in plan.wanted(made).values()
        for manifest in manifests
        if manifest["kind"] == "NetworkPolicy"
    ]


def open_paths(made: Context) -> Table:
    """Every path that is open with one of ours at an end."""
    found: Table = {}
    rules = policies(made)
    for source, target, port in product(PEERS, PEERS, PORTS):
        if (source in OURS or target in OURS) and allowed(
            rules, PEERS[source], PEERS[target], port
        ):
            found.setdefault((source, target), set()).add((port.number, port.protocol))
    return found


def to_the_outside(**ports: set[tuple[int, str]]) -> Table:
    return {(c.replace("_", "-"), o): numbers for c, numbers in ports.items() for o in OTHERS}


MANAGED: Table = {
    # clients, wherever they are
    **{(other, "api"): tcp(8080) for other in OTHERS},
    # what an answer takes
    ("api", "weaviate"): tcp(8080, 50051),
    ("api", "state"): tcp(6379),
    ("api", "cache"): tcp(6379),
    ("api", "embedding"): tcp(8000),
    ("api", "generation"): tcp(8000),
    # raft, gossip and data of a replicated Weaviate
    ("weaviate", "weaviate"): tcp(7100, 7101, 8300, 8301) | {(7100, "UDP")},
    # the operator: tenants, purges, what is served, how far a download is
    ("operator", "api"): tcp(8080, 9090),
    ("operator", "weaviate"): tcp(8080),
    ("operator", "state"): tcp(6379),
    ("operator", "cache"): tcp(6379),
    ("operator", "embedding-download"): tcp(9090),
    ("operator", "generation-download"): tcp(9090),
    # names; the API watches the API server; models come from their hub
    **to_the_outside(
        weaviate=DNS,
        state=DNS,
        cache=DNS,
        embedding=DNS,
        generation=DNS,
        api=DNS | tcp(443, 6443),
        embedding_download=DNS | tcp(80, 443),
        generation_download=DNS | tcp(80, 443),
    ),
}
SCRAPED: Table = {
    ("prometheus", "api"): tcp(8080, 9090),
    ("prometheus", "weaviate"): tcp(2112),
    ("prometheus", "embedding"): tcp(8000),
    ("prometheus", "generation"): tcp(8000),
}


def test_only_the_paths_that_the_data_takes_are_open() -> None:
    assert open_paths(context()) == MANAGED


def test_metrics_are_open_to_the_namespaces_that_the_spec_names() -> None:
    assert open_paths(context(deployment_spec(**MONITORING))) == MANAGED | SCRAPED


def test_what_is_external_is_reached_by_its_port_and_by_the_api_alone() -> None:
    spec = EXTERNAL | {
        "embedding": {"model": "m", "dimensions": 8, "external": {"url": "https://e:8443/v1"}},
        "observability": {"tracing": {"otlpEndpoint": "http://collector:4318"}},
        "api": {"auth": {"jwt": {"issuer": "https://issuer:3000", "audience": "rag"}}},
    }
    made = context(spec)
    made = Context(made.deployment, made.images, redis_ports={"state": 6380})
    (only,) = policies(made)
    assert only["metadata"]["name"] == "main-api"
    out = {
        port.number
        for port in PORTS
        if port.protocol == "TCP" and allowed([only], OURS["api"], OTHERS["internet"], port)
    }
    weaviate, redis, state = {8080, 50051}, {6379}, {6380}
    assert out == {53, 443, 6443} | weaviate | redis | state | {8443, 4318, 3000}


def test_a_hub_and_a_proxy_of_ones_own_are_reached() -> None:
    variables = [
        {"name": "HF_ENDPOINT", "value": "http://hub.example:3000"},
        {"name": "https_proxy", "value": "http://proxy.example:8080"},
    ]
    vllm = {"env": variables}
    spec = deployment_spec(generation={"model": "m", "maxModelLen": 2048, "vllm": vllm})
    found = open_paths(context(spec))
    assert found["generation-download", "internet"] == DNS | tcp(80, 443, 3000, 8080)
    assert found["embedding-download", "internet"] == DNS | tcp(80, 443)
    assert found["generation", "internet"] == DNS


def test_another_deployment_in_the_namespace_is_a_stranger() -> None:
    found = open_paths(context())
    assert {target for source, target in found if source == "other's api"} == {"api"}


def test_switched_off_there_are_none() -> None:
    assert policies(context(deployment_spec(networkPolicy={"enabled": False}))) == []


def test_a_policy_comes_before_the_pods_that_it_is_for() -> None:
    for manifests in plan.wanted(context()).values():
        kinds = [manifest["kind"] for manifest in manifests]
        workload = "StatefulSet" if "StatefulSet" in kinds else "Deployment"
        assert kinds.index("NetworkPolicy") < kinds.index(workload)


def test_the_policies_know_the_operators_pods_by_the_label_that_the_chart_gives() -> None:
    assert f"app.kubernetes.io/name: {names.OPERATOR}\n" in CHART.read_text()


def test_the_operators_namespace_is_where_it_runs() -> None:
    made = context()
    elsewhere = Context(made.deployment, made.images, operator_namespace="team-acme")
    rules = policies(elsewhere)
    port = Port(9090)
    assert allowed(rules, OTHERS["false operator"], OURS["api"], port)
    assert not allowed(rules, OTHERS["operator"], OURS["api"], port)


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://host/v1", 443),
        ("http://host:8443/v1", 8443),
        ("grpc://host", 50051),
        ("rediss://:secret@host/0", 6379),
        ("redis://user:pass@[::1]:7000/0", 7000),
        ("http://host:port", None),
        ("http://host:99999", None),
        ("unix:///socket", None),
    ],
)
def test_ports_of_urls(url: str, port: Any) -> None:
    assert network_policy.port_of(url) == port
