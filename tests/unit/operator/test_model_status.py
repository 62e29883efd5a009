"""What EmbeddingReady and GenerationReady say."""

from dataclasses import replace
from typing import Any

import pytest

from ragtenancy_api.wiring import DownloadFailure, DownloadProgress
from ragtenancy_operator.conditions import Verdict
from ragtenancy_operator.deployment.model_status import ModelPart, last_line, verdict
from ragtenancy_operator.deployment.status import Workload
from tests.unit.builders import obj

GB = 1_000_000_000
RUNNING: dict[str, Any] = {"state": {"running": {}}}


def pod(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return obj("Pod", "p", status={"containerStatuses": list(containers), **status})


def ended(message: str, code: int = 1, **more: Any) -> dict[str, Any]:
    return {"lastState": {"terminated": {"exitCode": code, "message": message, **more}}}


def failed(reason: str) -> dict[str, Any]:
    told = DownloadFailure.model_validate({"reason": reason, "message": "in a sentence"})
    return ended(told.model_dump_json()) | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}


def vllm(*pods: dict[str, Any], model: str = "org/chat", ready: int = 0) -> Workload:
    made = obj("Deployment", "main-generation")
    made["spec"] = {
        "replicas": 1,
        "template": {"spec": {"containers": [{"args": [model, "--port", "8000"]}]}},
    }
    made["status"] = {
        "readyReplicas": ready,
        "conditions": [{"type": "Available", "status": str(bool(ready))}],
    }
    return Workload(made, pods)


NOTHING = ModelPart("org/chat", None, False, [], None, Workload(None, []))
MADE = replace(NOTHING, job=obj("Job", "j"))


def said(part: ModelPart) -> Verdict:
    found = verdict("GenerationReady", part)
    assert found.type == "GenerationReady"
    return found


def test_a_download_says_how_far_it_is() -> None:
    assert said(NOTHING).reason == "Downloading"
    assert said(MADE).reason == "Downloading"
    on_its_way = replace(
        MADE,
        pods=[pod(RUNNING)],
        progress=DownloadProgress(done=int(3.1 * GB), total=12_400_000_000),
    )
    assert said(on_its_way).message == "org/chat: 3.1 of 12.4 GB"
    trouble = DownloadProgress(done=GB, total=2 * GB, trouble="the hub answered with status 503")
    waiting = said(replace(on_its_way, progress=trouble))
    assert waiting.reason == "Downloading"
    assert waiting.message.endswith("1.0 of 2.0 GB; waiting: the hub answered with status 503")


@pytest.mark.parametrize(
    "reason", ["ModelNotFound", "TokenMissing", "DiskFull", "Unreachable", "CacheReadOnly"]
)
def test_a_download_that_failed_says_why(reason: str) -> None:
    found = said(replace(MADE, pods=[pod(failed(reason))]))
    assert (found.status, found.reason, found.message) == ("False", reason, "in a sentence")


def test_a_new_try_keeps_the_reason_until_something_comes() -> None:
    again = pod(failed("TokenMissing") | RUNNING)
    trying = replace(MADE, pods=[again], progress=DownloadProgress(done=0, total=GB))
    assert said(trying).reason == "TokenMissing"
    assert (
        said(replace(trying, progress=DownloadProgress(done=5, total=GB))).reason == "Downloading"
    )


def test_a_download_without_its_secret_lacks_the_token() -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}
    found = said(replace(MADE, pods=[pod({"state": {"waiting": waiting}})]))
    assert found.reason == "TokenMissing"
    assert 'secret "hub" not found' in found.message


def test_a_download_that_was_ended_by_the_node_says_so() -> None:
    found = said(replace(MADE, pods=[pod(ended("", 137, reason="OOMKilled") | {"state": {}})]))
    assert (found.reason, found.message) == ("CrashLooping", "pod p: OOMKilled, exit code 137")


def test_a_new_model_is_downloaded_while_the_old_one_stays() -> None:
    old = vllm(model="org/old", ready=1)
    found = said(replace(MADE, workload=old))
    assert (found.status, found.reason) == ("False", "Downloading")
    assert found.message.endswith("vLLM keeps org/old until then")
    assert said(replace(MADE, workload=old, downloaded=True)).reason == "Starting"


def test_a_vllm_that_serves_is_ready_whatever_became_of_the_job() -> None:
    assert said(replace(NOTHING, workload=vllm(ready=1))).true


def test_a_vllm_that_loads_is_starting() -> None:
    found = said(replace(MADE, downloaded=True, workload=vllm(pod(RUNNING))))
    assert (found.status, found.reason) == ("False", "Starting")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "InsufficientGPU"),
        ("0/3 nodes are available: 3 Insufficient memory.", "Unschedulable"),
    ],
)
def test_a_vllm_that_fits_no_node_says_what_it_lacks(message: str, reason: str) -> None:
    condition = {"type": "PodScheduled", "reason": "Unschedulable", "message": message}
    found = said(replace(MADE, downloaded=True, workload=vllm(pod(conditions=[condition]))))
    assert (found.reason, found.message) == (reason, f"pod p: {message}")


@pytest.mark.parametrize(
    "state", [{"waiting": {"reason": "CrashLoopBackOff"}}, {"running": {}}, {"terminated": {}}]
)
def test_a_vllm_that_crashes_shows_its_last_line_also_while_it_tries_again(
    state: dict[str, Any],
) -> None:
    log = "Traceback:\n  File x\nValueError: no such dtype: flout32\n\n"
    crashed = ended(log) | {"state": state, "restartCount": 3}
    found = said(replace(MADE, downloaded=True, workload=vllm(pod(crashed))))
    assert found.reason == "CrashLooping"
    assert found.message == "pod p: exit code 1: ValueError: no such dtype: flout32"


def test_an_image_that_does_not_come_keeps_its_reason() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    found = said(replace(MADE, downloaded=True, workload=vllm(pod({"state": waiting}))))
    assert found.reason == "ImagePullBackOff"
    assert said(replace(MADE, pods=[pod({"state": waiting})])).reason == "ImagePullBackOff"


@pytest.mark.parametrize(
    "secret",
    ["hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567", "kZ3vQw_-8tYbN1mLr7XcV5pHs2DfG9jK4aUeTiOoP0q"],
)
def test_the_last_line_of_a_log_shows_no_credential_and_is_short(secret: str) -> None:
    assert last_line("one\n two \n\n") == "two"
    assert last_line("") == ""
    assert secret not in last_line(f"refused: Authorization: Bearer {secret}")
    assert secret not in last_line(f"args: {{'api_key': '{secret}'}}")
    assert "pass" not in last_line("no answer from http://me:pass@proxy:3128")
    assert len(last_line("word " * 200)) == 300
