from typing import Any

import pytest

from ragtenancy_operator.children.base import quantity
from ragtenancy_operator.children.weaviate import replication_factor
from ragtenancy_operator.deployment import plan
from ragtenancy_operator.deployment.volumes import PATHS, as_made, claims, class_missing, progress
from ragtenancy_operator.store import Store
from tests.unit.builders import context, deployment_spec, obj


def weaviate(**managed: Any) -> dict[str, Any]:
    return deployment_spec(vectorStore={"weaviate": {"managed": managed}})


def test_every_volume_of_a_deployment_is_a_claim_with_the_field_that_sizes_it() -> None:
    found = list(claims(plan.wanted(context(weaviate(replicas=3, storage={"size": "5Gi"})))))
    assert {claim.component for claim in found} == set(PATHS)
    members = [claim for claim in found if claim.component == "weaviate"]
    assert [claim.name for claim in members] == [f"data-main-weaviate-{n}" for n in range(3)]
    assert {quantity(claim.size) for claim in members} == {quantity("5Gi")}


def test_a_set_keeps_the_templates_that_it_was_made_with() -> None:
    def built(size: str) -> dict[str, Any]:
        manifests = plan.wanted(context(weaviate(storage={"size": size})))["weaviate"]
        return next(each for each in manifests if each["kind"] == "StatefulSet")

    assert as_made(built("20Gi"), built("10Gi")) == built("10Gi")
    assert as_made(built("20Gi"), None) == built("20Gi")


@pytest.mark.parametrize(
    ("capacity", "pending", "said"),
    [
        ("1Gi", False, "claim data-main-weaviate-0 grows to 2Gi"),
        ("1Gi", True, "waits for its pod to be started anew"),
        ("2048Mi", False, None),
    ],
)
def test_a_claim_says_how_far_it_is(capacity: str, pending: bool, said: str | None) -> None:
    (claim,) = (
        claim
        for claim in claims(plan.wanted(context(weaviate(storage={"size": "2Gi"}))))
        if claim.component == "weaviate"
    )
    condition = {"type": "FileSystemResizePending", "status": "True" if pending else "False"}
    status = {"phase": "Bound", "capacity": {"storage": capacity}, "conditions": [condition]}
    text = progress(claim, obj("PersistentVolumeClaim", claim.name, status=status))
    assert text is None if said is None else text is not None and said in text


def test_a_volume_that_is_there_needs_its_class_no_more() -> None:
    wanted = plan.wanted(context(weaviate(storage={"storageClassName": "gone"})))
    (claim,) = (claim for claim in claims(wanted) if claim.component == "weaviate")
    bound = obj("PersistentVolumeClaim", claim.name, status={"phase": "Bound"})
    assert class_missing(claim, bound, Store()) is None
    missing = class_missing(claim, None, Store())
    assert missing is not None
    assert missing.message.startswith(
        "spec.vectorStore.weaviate.managed.storage.storageClassName: there is no StorageClass gone"
    )


@pytest.mark.parametrize(("replicas", "copies"), [(1, 1), (3, 3), (5, 3)])
def test_members_know_each_other_and_shards_have_copies(replicas: int, copies: int) -> None:
    made = context(weaviate(replicas=replicas))
    (workload,) = (m for m in plan.wanted(made)["weaviate"] if m["kind"] == "StatefulSet")
    assert workload["spec"]["replicas"] == replicas
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert env["RAFT_BOOTSTRAP_EXPECT"] == str(replicas)
    members = [f"main-weaviate-{number}" for number in range(replicas)]
    assert env.get("RAFT_JOIN") == (",".join(members) if replicas > 1 else None)
    assert replication_factor(made) == copies
