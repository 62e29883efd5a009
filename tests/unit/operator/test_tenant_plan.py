"""What belongs to a tenant."""

import base64
import hashlib
from typing import Any

import pytest

from ragtenancy_api.tenancy import AllowedNamespaces
from ragtenancy_operator.apply import contains, stamped
from ragtenancy_operator.store import annotations_of
from ragtenancy_operator.tenant import plan, status
from ragtenancy_operator.tenant.observe import Observed, parse
from tests.unit.builders import TENANT_UID, context


def raw(**spec: Any) -> dict[str, Any]:
    reference = {"name": "main", "namespace": "rag"}
    return {
        "apiVersion": "ragtenancy.io/v1alpha1",
        "kind": "RAGTenant",
        "metadata": {
            "name": "acme",
            "namespace": "team-acme",
            "uid": TENANT_UID,
            "generation": 1,
            "resourceVersion": "5",
        },
        "spec": {"deploymentRef": reference, **spec},
    }


def observed(deployment: Any = ..., labels: dict[str, str] | None = None, **spec: Any) -> Observed:
    made = raw(**spec)
    given = context() if deployment is ... else deployment
    return Observed(made, parse(made), given, labels or {}, None, [])


@pytest.mark.parametrize(
    ("rule", "namespace", "labels", "allowed"),
    [
        ({"from": "Same"}, "rag", {}, True),
        ({"from": "Same"}, "team", {}, False),
        ({"from": "All"}, "team", {}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "1"}}}, "team", {"a": "1"}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "1"}}}, "team", {"a": "2"}, False),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "1"}}}, "rag", {}, True),
        (
            {
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]},
            },
            "team",
            {"a": ""},
            True,
        ),
        (
            {
                "from": "Selector",
                "selector": {
                    "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]
                },
            },
            "team",
            {},
            True,
        ),
        (
            {
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]},
            },
            "team",
            {},
            False,
        ),
        (
            {
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]},
            },
            "team",
            {"a": "1"},
            False,
        ),
    ],
)
def test_allowed_namespaces(
    rule: dict[str, Any], namespace: str, labels: dict[str, str], allowed: bool
) -> None:
    parsed = AllowedNamespaces.model_validate(rule)
    assert plan.allows(parsed, "rag", namespace, labels) is allowed


def test_a_missing_deployment_and_a_foreign_namespace_are_told_apart() -> None:
    assert plan.accepted(observed(deployment=None)).reason == "DeploymentNotFound"
    assert plan.accepted(observed()).reason == "NamespaceNotAllowed"


def test_a_new_key_has_256_bits_a_prefix_and_its_hash_beside_it() -> None:
    tenant = observed()
    (key,) = tenant.tenant.spec.api_keys
    made = [plan.new_key_secret(tenant, context(), key) for _ in range(2)]
    values = [base64.b64decode(m["data"]["OPENAI_API_KEY"]).decode() for m in made]
    assert values[0] != values[1]
    for manifest, value in zip(made, values, strict=True):
        assert value.startswith("rtk_")
        assert len(base64.urlsafe_b64decode(value.removeprefix("rtk_") + "=")) == 32
        sha256 = annotations_of(manifest)["ragtenancy.io/key-sha256"]
        assert sha256 == hashlib.sha256(value.encode()).hexdigest()


def test_a_key_just_created_needs_no_second_write() -> None:
    tenant = observed()
    (key,) = tenant.tenant.spec.api_keys
    created = plan.new_key_secret(tenant, context(), key)
    assert contains(created, stamped(plan.key_secret(tenant, context(), key)))


def test_the_secret_is_all_an_openai_client_needs() -> None:
    tenant = observed()
    (key,) = tenant.tenant.spec.api_keys
    data = plan.new_key_secret(tenant, context(), key)["data"]
    assert {name: base64.b64decode(value).decode() for name, value in data.items()} == {
        "OPENAI_API_KEY": base64.b64decode(data["OPENAI_API_KEY"]).decode(),
        "OPENAI_BASE_URL": "http://main-api.rag.svc/v1",
        "OPENAI_MODEL": "org/chat",
        "RAGTENANCY_TENANT": "team-acme/acme",
    }


def test_the_binding_holds_hashes_and_effective_settings() -> None:
    tenant = observed(quotas={"requestsPerMinute": 60})
    binding = plan.binding(tenant, context(), {"default": "a" * 64})
    assert binding["metadata"]["name"] == TENANT_UID
    assert binding["metadata"]["namespace"] == "rag"
    assert "ownerReferences" not in binding["metadata"]
    spec = binding["spec"]
    assert spec["keys"] == [
        {"id": "key-aaaaaaaaaaaa", "name": "default", "sha256": "a" * 64, "role": "Writer"}
    ]
    assert spec["settings"]["quotas"] == {"requestsPerMinute": 60}
    assert spec["settings"]["cache"]["exact"] == {"enabled": True, "ttl": "1h"}
    assert spec["placement"]["tenant"] == TENANT_UID


def test_a_tenants_own_cache_settings_win() -> None:
    tenant = observed(cache={"exact": {"enabled": False, "ttl": "5m"}})
    assert plan.settings(tenant.tenant, context()).cache.exact.ttl == "5m"


@pytest.mark.parametrize(
    "status_",
    [
        {},
        {"conditions": None},
        {"conditions": [{"type": "Ready"}, {"type": "Ready", "status": "Maybe", "reason": "x"}]},
        {"conditions": [{"type": "Ready", "status": "True", "reason": "Hacked"}]},
    ],
)
def test_nonsense_in_the_status_decides_nothing(status_: dict[str, Any]) -> None:
    made = raw() | {"status": status_}
    assert parse(made) == parse(raw())
    held = Observed(made, parse(made), context(), {}, None, [])
    body = status.status(held, context(), [], None)
    assert body["conditions"] == []
    assert body["apiKeys"] is None
