"""What a RAGDeployment says of itself."""

from typing import Any

import pytest

from ragtenancy_operator.deployment import status
from ragtenancy_operator.deployment.status import Workload, pod_trouble, verdicts, workload
from ragtenancy_operator.errors import Refused, Retry
from tests.unit.builders import context, obj


def deployment(ready: int, wanted: int = 1, *, available: bool = True, seen: int = 1) -> Any:
    made = obj("Deployment", "main-api", spec={"replicas": wanted})
    made["metadata"]["generation"] = 1
    made["status"] = {
        "observedGeneration": seen,
        "readyReplicas": ready,
        "conditions": [{"type": "Available", "status": str(available)}],
    }
    return made


@pytest.mark.parametrize(
    ("obj_", "expected", "reason"),
    [
        (None, "Unknown", "Creating"),
        (deployment(1), "True", "Ready"),
        (deployment(1, 2), "True", "Ready"),
        (deployment(0, available=True), "False", "Starting"),
        (deployment(1, seen=0), "False", "Starting"),
        (deployment(1, available=False), "False", "Starting"),
        (deployment(0, 0), "False", "ScaledToZero"),
    ],
)
def test_a_workload_serves_when_it_is_current_and_available(
    obj_: Any, expected: str, reason: str
) -> None:
    verdict = workload("APIReady", Workload(obj_, []))
    assert (verdict.status, verdict.reason) == (expected, reason)


def test_a_pod_that_cannot_start_gives_the_reason() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    pod = obj("Pod", "p", status={"containerStatuses": [{"state": waiting}]})
    assert pod_trouble([pod]) == ("ImagePullBackOff", "pod p: no such image")
    verdict = workload("APIReady", Workload(deployment(0), [pod]))
    assert verdict.reason == "ImagePullBackOff"


def test_a_pod_that_fits_no_node_gives_the_schedulers_words() -> None:
    condition = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}
    pod = obj("Pod", "p", status={"conditions": [condition]})
    assert pod_trouble([pod]) == ("Unschedulable", "pod p: 0/1 nodes")


def ready_workloads() -> dict[str, Workload]:
    return dict.fromkeys(status.CONDITIONS, Workload(deployment(1), []))


def test_ready_sums_up_and_names_the_first_that_is_missing() -> None:
    results = {v.type: v for v in verdicts(context(), ready_workloads(), {})}
    assert results["Ready"].true
    assert "Stalled" not in results
    lacking = ready_workloads() | {"state": Workload(deployment(0), [])}
    results = {v.type: v for v in verdicts(context(), lacking, {})}
    assert results["Ready"].status == "False"
    assert results["Ready"].message.startswith("StateReady: ")


def test_only_what_a_person_must_mend_stalls() -> None:
    passing = {v.type: v for v in verdicts(context(), ready_workloads(), {"api": Retry("busy")})}
    assert "Stalled" not in passing
    assert passing["APIReady"].status == "Unknown"
    lasting = {
        v.type: v
        for v in verdicts(context(), ready_workloads(), {"api": Refused("Conflict", "taken")})
    }
    assert lasting["Stalled"].reason == "Conflict"
    assert lasting["APIReady"].reason == "Conflict"


def test_a_note_stalls_and_leaves_ready_as_it_is() -> None:
    note = {"api": Refused("GatewayAPIMissing", "install it")}
    noted = {v.type: v for v in verdicts(context(), ready_workloads(), {}, note)}
    assert (noted["Stalled"].status, noted["Stalled"].reason) == ("True", "GatewayAPIMissing")
    assert noted["Stalled"].message == "APIReady: install it"
    assert noted["Ready"].true
    assert noted["APIReady"].true


def test_what_fails_stalls_before_what_is_noted() -> None:
    note = {"api": Refused("GatewayAPIMissing", "install it")}
    failed = {"state": Refused("Conflict", "taken")}
    both = {v.type: v for v in verdicts(context(), ready_workloads(), failed, note)}
    assert both["Stalled"].reason == "Conflict"
