"""What the chart grants, what docs/security.md lists, and what the operator really asks for.

The operator of these tests runs as a ServiceAccount with the chart's roles, on a real API server
with RBAC. Its audit log says what was asked, over the whole run.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from ragtenancy_operator.kube import PLURALS, Kube
from tests.integration.operator.world import (
    ACCOUNT,
    HOME,
    RBAC,
    ROOT,
    SYSTEM,
    USER,
    World,
    rendered,
    until,
)

HERE, CLUSTER, OWN, UNUSED = (
    "Where RAGDeployments and RAGTenants are",
    "In the whole cluster",
    "In its own namespace",
    "Granted, and not asked for by the tests",
)


class Grant(NamedTuple):
    """One verb on one resource, which is written as kubectl does: RESOURCE.GROUP/SUBRESOURCE."""

    resource: str
    verb: str
    name: str = ""


def _resource(group: str, resource: str, subresource: str = "") -> str:
    if not subresource:
        resource, _, subresource = resource.partition("/")
    whole = f"{resource}.{group}" if group else resource
    return f"{whole}/{subresource}" if subresource else whole


def documented(section: str) -> set[Grant]:
    """The grants of one table of docs/security.md, every one with a reason."""
    text = (ROOT / "docs/security.md").read_text()
    body = text.split(f"## {section}\n")[1].split("\n## ")[0]
    grants: set[Grant] = set()
    for row in re.findall(r"^\| (`.*) \|$", body, re.MULTILINE):
        what, verbs, why = row.split(" | ")
        resource, *name = re.findall(r"`([^`]+)`", what)
        assert why, f"{what} has no reason"
        grants |= {Grant(resource, verb, *name) for verb in verbs.split()}
    return grants


def _granted(role: dict[str, Any]) -> set[Grant]:
    return {
        Grant(_resource(group, resource), verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def bound(*words: str) -> dict[tuple[str, str], set[Grant]]:
    """What the chart's bindings give to the operator, by the binding's kind and namespace."""
    objects = rendered(*RBAC, *words)
    roles = {(o["kind"], o["metadata"]["name"]): o for o in objects if o["kind"].endswith("Role")}
    found: dict[tuple[str, str], set[Grant]] = {}
    for each in objects:
        if each["kind"].endswith("Binding"):
            assert each["subjects"] == [
                {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM}
            ]
            role = roles[each["roleRef"]["kind"], each["roleRef"]["name"]]
            where = (each["kind"], each["metadata"].get("namespace", ""))
            found[where] = found.get(where, set()) | _granted(role)
    return found


def used(world: World) -> Iterator[tuple[Grant, str, str]]:
    """Every request for a resource that the operator made: what, where, and the decision."""
    for event in world.kube.audited(USER):
        if asked := event.get("objectRef"):
            group, resource = asked.get("apiGroup", ""), asked["resource"]
            where = asked.get("namespace", "")
            # only a named grant is told apart by the name
            named = resource == "leases" and event["verb"] != "create"
            what = Grant(
                _resource(group, resource, asked.get("subresource", "")),
                event["verb"],
                asked["name"] if named else "",
            )
            yield what, where, event["annotations"]["authorization.k8s.io/decision"]


def test_the_chart_grants_what_is_documented_and_no_more() -> None:
    assert bound() == {
        ("ClusterRoleBinding", ""): documented(HERE) | documented(CLUSTER),
        ("RoleBinding", SYSTEM): documented(OWN),
    }


def test_with_watched_namespaces_nothing_namespaced_is_granted_elsewhere() -> None:
    assert bound("--set=watchNamespaces={a,b}") == {
        ("ClusterRoleBinding", ""): documented(CLUSTER),
        ("RoleBinding", "a"): documented(HERE),
        ("RoleBinding", "b"): documented(HERE),
        ("RoleBinding", SYSTEM): documented(OWN),
    }


def test_every_kind_that_the_operator_knows_is_granted() -> None:
    known = {_resource(v.rpartition("/")[0], plural) for v, plural in PLURALS.values()}
    granted = {grant.resource for grants in bound().values() for grant in grants}
    assert known <= granted


_CHILDREN = (
    ("Deployment", "main-api"),
    ("Role", "main-api"),
    ("RoleBinding", "main-api"),
    ("Service", "main-api"),
    ("ServiceAccount", "main-api"),
)


async def test_a_child_of_every_kind_is_mended_with_what_is_granted(
    world: World, api: Kube
) -> None:
    for kind, name in _CHILDREN:
        label = {"metadata": {"labels": {"app.kubernetes.io/part-of": "theirs"}}}
        await api.merge(kind, HOME, name, label)

    for kind, name in _CHILDREN:

        async def mended(kind: str = kind, name: str = name) -> bool:
            found = await api.get(kind, HOME, name)
            return bool(found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "ragtenancy")

        mended.__doc__ = f"{kind} {name} has its label again"
        await until(mended)
    await world.mark_available(api, HOME, "main-api")


def test_the_operator_asked_for_nothing_that_it_may_not(world: World) -> None:
    grants = bound()
    everywhere, own = grants["ClusterRoleBinding", ""], grants["RoleBinding", SYSTEM]
    asked = list(used(world))
    assert {what.verb for what, _, _ in asked} >= {"list", "watch", "create", "patch", "update"}
    refused = {
        (what, where)
        for what, where, decision in asked
        if decision != "allow" or what not in (everywhere | own if where == SYSTEM else everywhere)
    }
    assert not refused


def test_what_is_granted_and_never_asked_for_is_listed(world: World, whole_run: bool) -> None:
    if not whole_run:
        pytest.skip("only a run of all of the operator's tests says what is never asked for")
    asked = {what for what, _, _ in used(world)}
    granted = {grant for grants in bound().values() for grant in grants}
    listed = documented(UNUSED)
    assert listed <= granted, "listed as unused, and not granted"
    assert not granted - asked - listed, "granted, never asked for, and not listed"
