"""What the chart's roles give to people and to the operator, as the API server decides it."""

import json
from typing import Any

import pytest

from tests.e2e.demo.kube import NAMESPACE, RELEASE, Tools
from tests.e2e.product.team import Team

_OPERATOR = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-operator"


def _may(tools: Tools, user: str, verb: str, resource: str, namespace: str = "") -> bool:
    group, _, name = resource.rpartition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "namespace": namespace}
    review: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    answer = tools.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(review))
    allowed: bool = json.loads(answer)["status"]["allowed"]
    return allowed


@pytest.fixture
def owner(team: Team) -> str:
    """Somebody with the cluster's own `edit` role in the team's namespace."""
    words = ["create", "rolebinding", "owner", "--clusterrole=edit", "--user=owner"]
    team.tools.kubectl(*words, f"--namespace={team.namespace}")
    return "owner"


def test_who_may_edit_a_namespace_may_have_tenants_there_and_no_bindings(
    team: Team, owner: str
) -> None:
    tools, here = team.tools, team.namespace
    assert _may(tools, owner, "create", "ragtenancy.io/ragtenants", here)
    assert not _may(tools, owner, "create", "ragtenancy.io/ragdeployments", here)
    assert not _may(tools, owner, "create", "ragtenancy.io/ragbindings", here)
    assert not _may(tools, owner, "create", "ragtenancy.io/ragtenants", "rag")


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("delete", "ragtenancy.io/ragtenants"),
        ("delete", "ragtenancy.io/ragdeployments"),
        ("create", "pods"),
        ("delete", "pods"),
        ("delete", "namespaces"),
        ("escalate", "rbac.authorization.k8s.io/roles"),
        ("bind", "rbac.authorization.k8s.io/clusterroles"),
        ("list", "apiextensions.k8s.io/customresourcedefinitions"),
        ("get", "configmaps"),
    ],
)
def test_the_operator_may_not(team: Team, verb: str, resource: str) -> None:
    assert not _may(team.tools, _OPERATOR, verb, resource, team.namespace)
