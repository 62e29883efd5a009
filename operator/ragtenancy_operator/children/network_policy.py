"""NetworkPolicies: each component talks only to whom its data goes, and listens only to them.

A policy names no hosts, so what lies outside the cluster is allowed by its port. Policies add up:
one of your own can allow more, none can allow less. Probes come from the node and always pass.
"""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from ragtenancy_api import wiring
from ragtenancy_api.pods import PodSettings
from ragtenancy_operator import names
from ragtenancy_operator.children import monitoring, redis, vllm, weaviate
from ragtenancy_operator.children.base import Context, managed, manifest
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

Rule = dict[str, Any]
Peer = dict[str, Any]

_DNS: Final = 53
_HTTP, _HTTPS = 80, 443
_KUBERNETES: Final = (443, 6443)
"""Where API servers listen, behind their Service's 443."""
_SCHEMES: Final = {
    "http": _HTTP,
    "https": _HTTPS,
    "grpc": weaviate.GRPC_PORT,
    "grpcs": weaviate.GRPC_PORT,
    "redis": redis.PORT,
    "rediss": redis.PORT,
}
_PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY"})
_HUB: Final = frozenset({"HF_ENDPOINT"})


def port_of(url: str) -> int | None:
    """The port that a URL leads to; None when it leads nowhere, as its component's check says."""
    try:
        parts = urlsplit(url)
        return parts.port or _SCHEMES.get(parts.scheme)
    except ValueError:
        return None


def _ports(*numbers: int, protocols: tuple[str, ...] = ("TCP",)) -> list[dict[str, Any]]:
    return [
        {"protocol": protocol, "port": number}
        for number in sorted(set(numbers))
        for protocol in protocols
    ]


def _pods(context: Context, component: str) -> Peer:
    return {"podSelector": {"matchLabels": names.selector(context.name, component)}}


def _operator(context: Context) -> Peer:
    return {
        "namespaceSelector": {
            "matchLabels": {"kubernetes.io/metadata.name": context.operator_namespace}
        },
        "podSelector": {"matchLabels": {names.LABEL_NAME: names.OPERATOR}},
    }


def _from_environment(settings: PodSettings, variables: Iterable[str]) -> list[int]:
    """Ports of the URLs that some variables of a component's own environment hold."""
    held = {variable.name.upper(): variable.value for variable in settings.env or ()}
    found = (port_of(held[name]) for name in variables if name in held)
    return [port for port in found if port is not None]


def _dns() -> Rule:
    return {"ports": _ports(_DNS, protocols=("TCP", "UDP"))}


def _outside(context: Context) -> list[int]:
    """Ports of what the API reaches outside of the deployment."""
    spec = context.deployment.spec
    urls: list[str] = []
    if spec.vector_store.weaviate.external:
        urls += weaviate.urls(context)
    urls += [model.external.url for model in (spec.embedding, spec.generation) if model.external]
    if spec.observability.tracing:
        urls.append(spec.observability.tracing.otlp_endpoint)
    if jwt := spec.api.auth.jwt:
        urls += [jwt.issuer, *filter(None, [jwt.jwks_url])]
    ports = [port for port in map(port_of, urls) if port is not None]
    for component, store in ((Component.STATE, spec.state), (Component.CACHE, spec.cache)):
        if store.redis.external:
            ports.append(context.redis_ports.get(component, redis.PORT))
    return [*ports, *_from_environment(spec.api, _PROXIES), *_KUBERNETES]


def _cluster_ports() -> list[dict[str, Any]]:
    """Among Weaviate's members; gossip also goes over UDP."""
    gossip = _ports(weaviate.GOSSIP_PORT, protocols=("TCP", "UDP"))
    return [*gossip, *_ports(*weaviate.MEMBER_PORTS)]


def _served(component: str) -> list[int]:
    return {
        Component.WEAVIATE: [weaviate.HTTP_PORT, weaviate.GRPC_PORT],
        Component.STATE: [redis.PORT],
        Component.CACHE: [redis.PORT],
        Component.EMBEDDING: [vllm.PORT],
        Component.GENERATION: [vllm.PORT],
    }[component]


def _into(context: Context, component: str) -> list[Rule]:
    operator, inside = _operator(context), [_pods(context, Component.API)]
    if component == Component.API:
        return [
            {"ports": _ports(wiring.API_PORT)},
            {"from": [operator], "ports": _ports(wiring.INTERNAL_PORT)},
        ]
    rules: list[Rule] = [{"from": inside, "ports": _ports(*_served(component))}]
    if component == Component.WEAVIATE:
        rules += [
            {"from": [operator], "ports": _ports(weaviate.HTTP_PORT)},
            {"from": [_pods(context, component)], "ports": _cluster_ports()},
        ]
    elif component in (Component.STATE, Component.CACHE):
        rules.append({"from": [operator], "ports": _ports(redis.PORT)})
    return rules


def _out_of(context: Context, component: str) -> list[Rule]:
    rules: list[Rule] = [_dns()]
    if component == Component.API:
        rules += [
            {"to": [_pods(context, other)], "ports": _ports(*_served(other))}
            for other in managed(context.deployment)
            if other != component
        ]
        rules.append({"ports": _ports(*_outside(context))})
    elif component == Component.WEAVIATE:
        rules.append({"to": [_pods(context, component)], "ports": _cluster_ports()})
    return rules


def _policy(context: Context, component: str, into: list[Rule], out_of: list[Rule]) -> Manifest:
    return manifest(
        context,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        context.child(component),
        component,
        spec={
            **_pods(context, component),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": into,
            "egress": out_of,
        },
    )


def _download(context: Context, component: str) -> Manifest:
    """The pods that download a model go out to its hub, and say how far they are."""
    hub = _from_environment(managed(context.deployment)[component], _HUB | _PROXIES)
    return _policy(
        context,
        names.download(component),
        [{"from": [_operator(context)], "ports": _ports(wiring.INTERNAL_PORT)}],
        [_dns(), {"ports": _ports(_HTTP, _HTTPS, *hub)}],
    )


def build(context: Context, component: str) -> list[Manifest]:
    """The policies of a component that runs as pods; none when they are switched off."""
    settings = context.deployment.spec.network_policy
    if not settings.enabled:
        return []
    into = _into(context, component)
    if settings.metrics_from is not None and component in monitoring.PORTS:
        scraper = {"namespaceSelector": settings.metrics_from.wire()}
        into.append({"from": [scraper], "ports": _ports(monitoring.PORTS[component])})
    policies = [_policy(context, component, into, _out_of(context, component))]
    if component in (Component.EMBEDDING, Component.GENERATION):
        policies.append(_download(context, component))
    return policies
