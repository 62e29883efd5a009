"""What Kubernetes makes of NetworkPolicies: whether a packet passes. Pure.

Source: "Network Policies" in Kubernetes' documentation, and the API reference of networking.k8s.io.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod, or what is outside of the cluster (no namespace)."""

    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def namespace_labels(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace or ""}


@dataclass(frozen=True)
class Port:
    number: int
    protocol: str = "TCP"


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}, selector
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    for each in selector.get("matchExpressions") or ():
        held, values = labels.get(each["key"]), each.get("values", ())
        if not {
            "In": held in values,
            "NotIn": held not in values,
            "Exists": held is not None,
            "DoesNotExist": held is None,
        }[each["operator"]]:
            return False
    return True


def _is(peer: Peer, wanted: Manifest, namespace: str) -> bool:
    """Whether a pod is one of a rule's peers, in a policy of a namespace."""
    assert wanted.keys() <= {"podSelector", "namespaceSelector"}, wanted
    assert wanted, "a peer needs a selector"
    if peer.namespace is None:
        return False
    if "namespaceSelector" in wanted:
        near = selects(wanted["namespaceSelector"], peer.namespace_labels())
    else:
        near = peer.namespace == namespace
    return near and selects(wanted.get("podSelector", {}), peer.labels)


def _passes(rules: Iterable[Manifest], way: str, peer: Peer, port: Port, namespace: str) -> bool:
    for rule in rules:
        assert rule.keys() <= {way, "ports"}, rule
        # absent or empty: all of them
        peers, ports = rule.get(way) or (), rule.get("ports") or ()
        near = not peers or any(_is(peer, each, namespace) for each in peers)
        open_ = not ports or any(
            (each.get("protocol", "TCP"), each["port"]) == (port.protocol, port.number)
            for each in ports
        )
        if near and open_:
            return True
    return False


def _half(policies: Iterable[Manifest], kind: str, at: Peer, other: Peer, port: Port) -> bool:
    rules, way = ("ingress", "from") if kind == "Ingress" else ("egress", "to")
    own = [
        policy
        for policy in policies
        if kind in policy["spec"]["policyTypes"]
        and policy["metadata"]["namespace"] == at.namespace
        and selects(policy["spec"]["podSelector"], at.labels)
    ]
    return not own or any(
        _passes(p["spec"].get(rules) or (), way, other, port, p["metadata"]["namespace"])
        for p in own
    )


def allowed(policies: list[Manifest], source: Peer, target: Peer, port: Port) -> bool:
    """Whether the source may open a connection to a port of the target: both ends decide."""
    return _half(policies, "Egress", source, target, port) and _half(
        policies, "Ingress", target, source, port
    )
