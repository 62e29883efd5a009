"""What belongs to a tenant."""

from dataclasses import replace
from typing import Any

import pytest

from ragtenancy_api.binding import BoundKey, RAGBinding
from ragtenancy_api.tenancy import AllowedNamespaces
from ragtenancy_operator.tenant import plan, status
from ragtenancy_operator.tenant.observe import Observed, parse
from tests.unit.builders import DEPLOYMENT_UID, TENANT_UID, context, deployment_spec

OTHER_UID = "11111111-50a5-4b8e-8a6c-3f5d1e2c4b6a"


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


def test_the_binding_holds_hashes_and_effective_settings() -> None:
    tenant = observed(quotas={"requestsPerMinute": 60})
    key = BoundKey(id="key-aaaaaaaaaaaa", name="default", sha256="a" * 64)
    binding = plan.binding(tenant, context(), [key])
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
    body = status.status(held, context(), [], None, None)
    assert body["conditions"] == []
    assert body["apiKeys"] is None


@pytest.mark.parametrize("isolation", ["Shard", "Collection", "Filter"])
def test_each_isolation_has_its_place(isolation: str) -> None:
    place = plan.placement(observed(isolation=isolation), context())
    whose = TENANT_UID if isolation == "Collection" else DEPLOYMENT_UID
    assert place.chunks == f"Chunks_{whose.replace('-', '')}"
    assert place.tenant == ("shared" if isolation == "Filter" else TENANT_UID)
    assert place.owner == (TENANT_UID if isolation == "Filter" else None)
    assert place.isolation == isolation


def bound(keys: list[dict[str, Any]] | None = None, **more: Any) -> RAGBinding:
    place = {"documents": "Documents_1", "chunks": "Chunks_1", "tenant": OTHER_UID}
    reference = {"namespace": "team-acme", "name": "acme", "uid": OTHER_UID}
    spec = {
        "tenantRef": reference,
        "deploymentRef": {"name": "main"},
        "placement": place,
        "keys": keys or [],
        **more.pop("spec", {}),
    }
    metadata = {"name": OTHER_UID, "namespace": "rag", **more.pop("metadata", {})}
    return RAGBinding.model_validate({"metadata": metadata, "spec": spec, **more})


def test_a_bound_tenants_place_is_what_its_binding_says() -> None:
    held = replace(observed(), binding=bound())
    assert plan.placement(held, context()).tenant == OTHER_UID


def limited(**limits: Any) -> Any:
    return context(
        deployment_spec(tenants={"allowedNamespaces": {"from": "All"}, "limits": limits})
    )


def test_every_limit_that_is_passed_is_said_with_path_value_and_limit() -> None:
    limits = {"quotas": {"requestsPerMinute": 100}, "isolations": ["Shard"], "maxKeys": 1}
    keys = [{"name": "a"}, {"name": "b"}]
    spec: dict[str, Any] = {
        "quotas": {"requestsPerMinute": 600},
        "isolation": "Filter",
        "apiKeys": keys,
    }
    verdict = plan.accepted(observed(limited(**limits), **spec))
    assert (verdict.status, verdict.reason) == ("False", "LimitExceeded")
    for sentence in (
        "spec.quotas.requestsPerMinute: 600 passes the limit 100 of RAGDeployment rag/main",
        "spec.isolation: Filter is not in the limit Shard of RAGDeployment rag/main",
        "spec.apiKeys: 2 keys pass the limit 1 of RAGDeployment rag/main",
    ):
        assert sentence in verdict.message


@pytest.mark.parametrize(
    ("asked", "limits", "effective"),
    [
        ({}, {"requestsPerMinute": 100}, {"requestsPerMinute": 100}),
        ({"requestsPerMinute": 600}, {"requestsPerMinute": 100}, {"requestsPerMinute": 100}),
        ({"requestsPerMinute": 60}, {"requestsPerMinute": 100}, {"requestsPerMinute": 60}),
        ({"concurrentRequests": 5}, {}, {"concurrentRequests": 5}),
        ({}, {"burst": 50}, {"burst": 50}),
        ({"requestsPerMinute": 10}, {"burst": 50}, {"requestsPerMinute": 10, "burst": 10}),
        ({"requestsPerMinute": 90}, {"burst": 50}, {"requestsPerMinute": 90, "burst": 50}),
    ],
)
def test_effective_quotas_are_within_the_limits(
    asked: dict[str, int], limits: dict[str, int], effective: dict[str, int]
) -> None:
    made = plan.settings(observed(quotas=asked).tenant, limited(quotas=limits))
    assert made.quotas.wire() == effective


def restoring(origin: RAGBinding | None, **spec: Any) -> Observed:
    given = limited()
    return replace(observed(given, restoreFrom={"binding": OTHER_UID}, **spec), origin=origin)


RELEASED = {"phase": "Released"}
FOREIGN = {"tenantRef": {"namespace": "team-b", "name": "acme", "uid": OTHER_UID}}


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (bound(status=RELEASED), "Accepted"),
        (bound(status=RELEASED, spec={"claimedBy": TENANT_UID}), "Accepted"),
        (bound(status=RELEASED, spec={"claimedBy": OTHER_UID}), "RestoreClaimed"),
        (bound(status=RELEASED, spec={"deploymentRef": {"name": "b"}}), "RestoreElsewhere"),
        (bound(status=RELEASED, metadata={"deletionTimestamp": "x"}), "RestoreEmptied"),
        (bound(status={"phase": "Releasing"}), "RestoreRefused"),
    ],
)
def test_what_was_retained_is_taken_over_or_refused_with_its_own_reason(
    origin: RAGBinding, reason: str
) -> None:
    assert plan.accepted(restoring(origin)).reason == reason


def test_what_was_retained_keeps_its_isolation() -> None:
    verdict = plan.accepted(restoring(bound(status=RELEASED), isolation="Filter"))
    assert verdict.reason == "RestoreIsolation"


def test_a_hostile_tenant_cannot_tell_what_there_is() -> None:
    """Nothing, another tenant's, one that is in use, claimed or elsewhere: the very same words."""
    refusals = {
        plan.accepted(restoring(origin))
        for origin in (
            None,
            bound(),
            bound(spec=FOREIGN),
            bound(spec=FOREIGN, status=RELEASED),
            bound(spec={**FOREIGN, "claimedBy": OTHER_UID}, status=RELEASED),
            bound(spec={**FOREIGN, "deploymentRef": {"name": "b"}}, status=RELEASED),
        )
    }
    assert {refusal.reason for refusal in refusals} == {"RestoreRefused"}
    assert len(refusals) == 1


def test_what_may_not_be_taken_over_is_no_place_to_go_to() -> None:
    hostile = restoring(bound(spec=FOREIGN, status=RELEASED))
    assert plan.placement(hostile, context()).tenant == TENANT_UID
