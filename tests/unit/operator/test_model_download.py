"""The Job that downloads a model, and when there has to be another."""

from typing import Any

import pytest

from ragtenancy_api.deployment import ServedModel
from ragtenancy_operator.apply import stamped
from ragtenancy_operator.children import model_download, vllm
from ragtenancy_operator.children.model_download import complete, in_service, outdated, served
from ragtenancy_operator.names import Component
from tests.unit.builders import context, deployment_spec

CLAIM = "uid-of-the-claim"


def spec(model: str = "org/chat", **settings: Any) -> dict[str, Any]:
    generation = {"model": model, "maxModelLen": 2048, "vllm": settings}
    return deployment_spec(generation=generation)


def job(claim: str = CLAIM, **settings: Any) -> dict[str, Any]:
    built = model_download.build(context(spec(**settings)), Component.GENERATION, claim)
    assert built is not None
    return stamped(built)


def finished(made: dict[str, Any], how: str = "Complete") -> dict[str, Any]:
    return {**made, "status": {"conditions": [{"type": how, "status": "True"}]}}


def pod_of(made: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = made["spec"]["template"]["spec"]
    return pod


def test_it_runs_where_the_model_will_with_what_reaches_the_hub_and_without_its_gpus() -> None:
    made = job(
        gpus=2,
        resources={"limits": {"memory": "80Gi"}},
        runtimeClassName="nvidia",
        nodeSelector={"gpu": "yes"},
        tolerations=[{"key": "gpu"}],
        imagePullSecrets=[{"name": "pull"}],
        env=[{"name": "HF_ENDPOINT", "value": "http://hub"}],
        tokenSecretRef={"name": "hub", "key": "token"},
    )
    pod = pod_of(made)
    main = pod["containers"][0]
    assert main["args"] == ["org/chat"]
    assert "nvidia.com/gpu" not in str(made)
    assert main["resources"] == {"requests": {"cpu": "100m", "memory": "256Mi"}}
    assert "runtimeClassName" not in pod
    assert pod["nodeSelector"] == {"gpu": "yes"}
    assert pod["tolerations"] == [{"key": "gpu"}]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    variables = {variable["name"]: variable for variable in main["env"]}
    assert variables["HF_ENDPOINT"]["value"] == "http://hub"
    assert variables["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}


def test_it_fills_the_claim_that_vllm_reads_in_the_same_place() -> None:
    volumes = [
        next(v for v in pod["volumes"] if v["name"] == "model-cache")
        for pod in (
            pod_of(job()),
            pod_of(vllm.build(context(spec()), Component.GENERATION)[2]),
        )
    ]
    assert volumes[0] == volumes[1]
    homes = {
        variable["value"]
        for built in (job(), vllm.build(context(spec()), Component.GENERATION)[2])
        for variable in pod_of(built)["containers"][0]["env"]
        if variable["name"] == "HF_HOME"
    }
    assert homes == {vllm.MODEL_CACHE}


def test_vllm_asks_no_hub_unless_its_environment_says_so() -> None:
    def offline(**settings: Any) -> str:
        built = vllm.build(context(spec(**settings)), Component.GENERATION)[2]
        variables = pod_of(built)["containers"][0]["env"]
        found: str = next(v["value"] for v in variables if v["name"] == "HF_HUB_OFFLINE")
        return found

    assert offline() == "1"
    assert offline(env=[{"name": "HF_HUB_OFFLINE", "value": "0"}]) == "0"


def test_an_external_model_is_not_downloaded() -> None:
    external = {"model": "gpt", "maxModelLen": 2048, "external": {"url": "http://models/v1"}}
    given = context(deployment_spec(generation=external))
    assert model_download.build(given, Component.GENERATION, CLAIM) is None


def test_another_model_has_a_job_of_its_own() -> None:
    assert job()["metadata"]["name"] != job(model="org/other")["metadata"]["name"]
    assert job()["metadata"]["name"] == job(gpus=4)["metadata"]["name"]


@pytest.mark.parametrize(
    ("held", "wanted", "again"),
    [
        (job(), job(), False),
        (job(), job(nodeSelector={"a": "b"}), True),
        (job(), job(claim="another"), True),
        (finished(job()), job(nodeSelector={"a": "b"}), False),
        (finished(job()), job(claim="another"), True),
        (finished(job(), "Failed"), job(), True),
    ],
)
def test_a_job_is_made_anew_when_it_can_no_longer_do_what_is_wanted(
    held: dict[str, Any], wanted: dict[str, Any], again: bool
) -> None:
    assert outdated(held, wanted) is again


def test_a_download_counts_for_the_claim_that_it_filled() -> None:
    assert complete(finished(job()), CLAIM)
    assert not complete(finished(job()), "another")
    assert not complete(finished(job(), "Failed"), CLAIM)
    assert not complete(job(), CLAIM)
    assert not complete(None, CLAIM)


def test_the_model_of_a_vllm_is_read_from_its_deployment() -> None:
    built = vllm.build(context(spec(args=["--dtype", "float32"])), Component.GENERATION)[2]
    assert built["kind"] == "Deployment"
    assert served(built) == "org/chat"
    assert served(None) is None


def rolled(updated: int, total: int = 2, *, seen: int = 3) -> dict[str, Any]:
    built = vllm.build(context(spec(replicas=2)), Component.GENERATION)[2]
    built["metadata"]["generation"] = 3
    counts = {"replicas": total, "updatedReplicas": updated, "availableReplicas": 2}
    return {**built, "status": {"observedGeneration": seen, **counts}}


OLD, NEW = (ServedModel(model=name, max_model_len=2048) for name in ("org/old", "org/chat"))


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (None, OLD),
        (rolled(2), NEW),
        (rolled(1), OLD),
        (rolled(2, total=3), OLD),
        (rolled(2, seen=2), OLD),
    ],
)
def test_a_model_is_in_service_when_every_pod_has_it(
    workload: dict[str, Any] | None, expected: ServedModel
) -> None:
    assert in_service(workload, OLD) == expected
