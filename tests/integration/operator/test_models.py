"""Models that the operator serves: downloaded first, each into its claim.

There is no kubelet here. The download is a real one, of this process's own; what a Job's controller
and the kubelet would write of it is written by the tests.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ragtenancy_api.wiring import DownloadFailure
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.fakes.hub import FakeHub, Repo, tiny_model
from tests.integration.operator.world import World, condition, deployment, until
from tests.integration.servers import Process

ADDRESS = "127.0.0.2"
"""Of the pod that downloads: the internal port of 127.0.0.1 is the API's."""
CLAIM, VLLM = "main-generation-model-cache", "main-generation"
NOW = "2026-01-01T00:00:00Z"


def spec(world: World, model: str) -> dict[str, Any]:
    generation = {"model": model, "maxModelLen": 4096, "vllm": {"gpus": 0}}
    return world.spec(generation=generation)


@pytest.fixture
async def home(world: World, api: Kube, team: str) -> str:
    """A namespace with a RAGDeployment whose chat model is served by vLLM."""
    await api.create(world.external_secret(team))
    await api.create(deployment(team, spec(world, "org/model")))
    return team


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub that stops in the middle of the weights until its gate is opened."""
    weights = "model-00001-of-00001.safetensors"
    fake = FakeHub({"org/model": Repo(tiny_model(24_000_000), stop_after={weights: 16_000_000})})
    fake.gate.clear()
    yield fake.start()
    fake.stop()


async def generation(api: Kube, home: str) -> dict[str, Any]:
    return condition(await api.find("RAGDeployment", home, "main"), "GenerationReady")


async def job_of(api: Kube, home: str, model: str, claim: str | None = None) -> Manifest:
    """The Job that downloads a model into the claim."""

    async def found() -> Manifest | None:
        """a Job for the model"""
        _, jobs = await api.find_all("Job", home, "")
        for job in jobs:
            args = job["spec"]["template"]["spec"]["containers"][0]["args"]
            filled = job["metadata"]["annotations"]["ragtenancy.io/claim-uid"]
            if args == [model] and claim in (None, filled):
                return job
        return None

    return await until(found)


async def run_pod(api: Kube, job: Manifest, **container: Any) -> None:
    """Write the Job's pod as the kubelet would, with its container in some state."""
    namespace, name = job["metadata"]["namespace"], f"{job['metadata']['name']}-0"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"]}
    if await api.find("Pod", namespace, name) is None:
        template = job["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": template["metadata"]["labels"],
                "ownerReferences": [{**owner, "uid": job["metadata"]["uid"]}],
            },
            "spec": {"containers": [{"name": "download", "image": "none"}]},
        }
        await api.create(pod)
    about = {"name": "download", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    status = {
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "containerStatuses": [about | container],
    }
    await api.merge("Pod", namespace, name, {"status": status}, "status")


async def complete(api: Kube, job: Manifest) -> None:
    """Say of a Job what its controller does when its pod has ended well."""
    condition_ = {"status": "True", "lastTransitionTime": NOW, "lastProbeTime": NOW}
    status = {
        "startTime": NOW,
        "completionTime": NOW,
        "succeeded": 1,
        "conditions": [{"type": kind, **condition_} for kind in ("SuccessCriteriaMet", "Complete")],
    }
    metadata = job["metadata"]
    await api.merge("Job", metadata["namespace"], metadata["name"], {"status": status}, "status")


async def says(api: Kube, home: str, reason: str, part: str = "") -> str:
    """The message of GenerationReady, once it has this reason."""
    last: dict[str, Any] = {}

    async def right() -> str | None:
        nonlocal last
        last = await generation(api, home)
        found = last.get("reason") == reason and part in last["message"]
        return last["message"] if found else None

    right.__doc__ = f"GenerationReady says {reason} with {part!r}"
    return await until(right, 20)


def argument(workload: Manifest) -> str:
    """The model that a vLLM's pods are started with."""
    model: str = workload["spec"]["template"]["spec"]["containers"][0]["args"][0]
    return model


async def serving(api: Kube, home: str, model: str) -> Manifest:
    """The Deployment of vLLM, once it is that of a model."""

    async def found() -> Manifest | None:
        """vLLM's Deployment"""
        workload = await api.find("Deployment", home, VLLM)
        return workload if workload and argument(workload) == model else None

    return await until(found)


async def test_a_model_is_downloaded_and_then_served(
    world: World, api: Kube, home: str, hub: FakeHub, tmp_path: Path
) -> None:
    job = await job_of(api, home, "org/model")
    claim = await api.get("PersistentVolumeClaim", home, CLAIM)
    assert job["metadata"]["annotations"]["ragtenancy.io/claim-uid"] == claim["metadata"]["uid"]
    await says(api, home, "Downloading", "starting")
    command = [sys.executable, "-m", "ragtenancy_runtime.download", "org/model", "--host", ADDRESS]
    variables = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_TOKEN": ""}
    process = Process(command, tmp_path / "log", {**os.environ, **variables})
    try:
        await run_pod(api, job, state={"running": {"startedAt": NOW}})
        said = await says(api, home, "Downloading", " of 24.0 MB")
        assert said.startswith("org/model: ")
        assert await api.find("Deployment", home, VLLM) is None
        hub.gate.set()
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        process.stop()
    await complete(api, job)
    await serving(api, home, "org/model")
    await says(api, home, "Starting")
    await world.mark_available(api, home, VLLM)
    await says(api, home, "Ready")


async def test_a_job_that_is_deleted_comes_back_and_vllm_stays(api: Kube, home: str) -> None:
    job = await job_of(api, home, "org/model")
    await complete(api, job)
    before = await serving(api, home, "org/model")
    await api.delete(job)

    async def again() -> bool:
        """the Job is there again"""
        found = await job_of(api, home, "org/model")
        return bool(found["metadata"]["uid"] != job["metadata"]["uid"])

    await until(again)
    after = await serving(api, home, "org/model")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_claim_that_is_made_anew_is_filled_again(api: Kube, home: str) -> None:
    job = await job_of(api, home, "org/model")
    await complete(api, job)
    await serving(api, home, "org/model")
    claim = await api.get("PersistentVolumeClaim", home, CLAIM)
    await api.delete(claim)
    # its controller would let it go when no pod uses it
    await api.merge("PersistentVolumeClaim", home, CLAIM, {"metadata": {"finalizers": None}})

    async def renewed() -> Manifest | None:
        """another claim"""
        found = await api.find("PersistentVolumeClaim", home, CLAIM)
        return found if found and found["metadata"]["uid"] != claim["metadata"]["uid"] else None

    other = await until(renewed)
    again = await job_of(api, home, "org/model", claim=other["metadata"]["uid"])
    assert again["metadata"]["uid"] != job["metadata"]["uid"]
    assert (await serving(api, home, "org/model"))["metadata"]["name"] == VLLM


async def test_a_new_model_is_downloaded_while_the_old_one_serves(
    world: World, api: Kube, home: str
) -> None:
    first = await job_of(api, home, "org/model")
    await complete(api, first)
    before = await serving(api, home, "org/model")
    await world.mark_available(api, home, VLLM)

    async def asked_for(model: str) -> None:
        async def found() -> bool:
            """the model that the API is to ask for"""
            status = (await api.get("RAGDeployment", home, "main")).get("status", {})
            return bool(status.get("generation") == {"model": model, "maxModelLen": 4096})

        await until(found)

    await asked_for("org/model")
    change = {"spec": {"generation": {"model": "org/next"}}}
    await api.merge("RAGDeployment", home, "main", change)
    second = await job_of(api, home, "org/next")
    await says(api, home, "Downloading", "vLLM keeps org/model until then")
    assert argument(await api.get("Deployment", home, VLLM)) == "org/model"
    await complete(api, second)
    after = await serving(api, home, "org/next")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    await asked_for("org/model")
    await world.mark_available(api, home, VLLM)
    await asked_for("org/next")

    async def pruned() -> bool:
        """the old model's Job is gone"""
        return await api.find("Job", home, first["metadata"]["name"]) is None

    await until(pruned)


async def test_a_job_follows_its_settings_until_it_is_done(api: Kube, home: str) -> None:
    job = await job_of(api, home, "org/model")

    async def moved(value: str) -> Manifest:
        settings = {"nodeSelector": {"disk": value}}
        change = {"spec": {"generation": {"vllm": settings}}}
        await api.merge("RAGDeployment", home, "main", change)

        async def there() -> Manifest | None:
            """a Job with the new settings"""
            found = await job_of(api, home, "org/model")
            selector = found["spec"]["template"]["spec"].get("nodeSelector")
            return found if selector == settings["nodeSelector"] else None

        return await until(there)

    other = await moved("fast")
    assert other["metadata"]["uid"] != job["metadata"]["uid"]
    await complete(api, other)
    await serving(api, home, "org/model")
    change = {"spec": {"generation": {"vllm": {"nodeSelector": {"disk": "slow"}}}}}
    await api.merge("RAGDeployment", home, "main", change)

    async def rolled() -> bool:
        """vLLM has the new settings"""
        pod = (await api.get("Deployment", home, VLLM))["spec"]["template"]["spec"]
        return bool(pod.get("nodeSelector") == {"disk": "slow"})

    await until(rolled)
    kept = await job_of(api, home, "org/model")
    assert kept["metadata"]["uid"] == other["metadata"]["uid"]


@pytest.mark.parametrize("reason", ["ModelNotFound", "TokenMissing", "DiskFull"])
async def test_a_download_that_fails_says_why_and_waits_for_a_person(
    api: Kube, home: str, reason: str
) -> None:
    job = await job_of(api, home, "org/model")
    told = DownloadFailure.model_validate({"reason": reason, "message": "what is to be done"})
    ended = {"exitCode": 1, "reason": "Error", "message": told.model_dump_json()}
    await run_pod(
        api,
        job,
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        lastState={"terminated": ended},
        restartCount=1,
    )
    assert await says(api, home, reason) == "what is to be done"
    stalled = condition(await api.get("RAGDeployment", home, "main"), "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", reason)
    assert await api.find("Deployment", home, VLLM) is None


async def test_another_update_strategy_takes_the_place_of_the_one_that_vllm_was_made_with(
    api: Kube, home: str
) -> None:
    async def strategy(wanted: str, **more: Any) -> None:
        change = {"updateStrategy": wanted, **more}
        await api.merge("RAGDeployment", home, "main", {"spec": {"generation": {"vllm": change}}})

    await strategy("Surge")
    await complete(api, await job_of(api, home, "org/model"))
    made = await serving(api, home, "org/model")
    assert made["spec"]["strategy"]["type"] == "RollingUpdate"
    # the hub's port is in a policy, too: a change of several objects is rehearsed
    await strategy("Recreate", env=[{"name": "HF_ENDPOINT", "value": "http://hub:8081"}])

    async def changed() -> bool:
        """vLLM's pods are replaced in the other way"""
        found = await api.get("Deployment", home, VLLM)
        return bool(found["spec"]["strategy"]["type"] == "Recreate")

    await until(changed)
