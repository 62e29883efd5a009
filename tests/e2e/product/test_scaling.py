"""The API's pods by load: the autoscaler sees what the real metrics-server measures."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.demo.kube import Tools
from tests.e2e.product.team import until

_METRICS_SECONDS = 180
"""metrics-server samples every 15 s and knows a new pod's use after two samples."""


def change(tools: Tools, api: dict[str, Any]) -> None:
    """Merge a patch into the API of the quickstart's RAGDeployment."""
    tools.kubectl(
        "patch", "ragdeployment/main", "--namespace=rag", "--type=merge",
        f"--patch={json.dumps({'spec': {'api': api}})}",
    )  # fmt: skip


@pytest.fixture
def scaled(tools: Tools) -> Iterator[None]:
    """The API with an autoscaler that wants three pods at least."""
    change(tools, {"replicas": None, "autoscaling": {"minReplicas": 3, "maxReplicas": 4}})
    yield
    change(tools, {"replicas": 2, "autoscaling": None})
    tools.kubectl(
        "wait", "deployment/main-api", "--namespace=rag", "--timeout=180s",
        "--for=jsonpath={.status.replicas}=2",
    )  # fmt: skip


@pytest.mark.usefixtures("scaled")
def test_the_autoscaler_measures_the_api_and_decides_how_many_pods_there_are(tools: Tools) -> None:
    def measured() -> dict[str, Any]:
        words = ("get", "hpa/main-api", "--namespace=rag", "--ignore-not-found", "--output=json")
        status = json.loads(tools.kubectl(*words) or "{}").get("status", {})
        active = [
            c["status"] for c in status.get("conditions") or () if c["type"] == "ScalingActive"
        ]
        return status if active == ["True"] and status.get("currentMetrics") else {}

    status = until(measured, _METRICS_SECONDS, "the autoscaler measures")
    (metric,) = status["currentMetrics"]
    assert metric["resource"]["name"] == "cpu"
    assert metric["resource"]["current"]["averageUtilization"] >= 0
    tools.kubectl(
        "wait", "deployment/main-api", "--namespace=rag", "--timeout=120s",
        "--for=jsonpath={.status.readyReplicas}=3",
    )  # fmt: skip
    # the operator, asked again, leaves the autoscaler's number alone
    tools.kubectl("annotate", "ragdeployment/main", "--namespace=rag", "--overwrite", "touched=yes")
    tools.wait_ready("ragdeployment", "rag", "main", 60, print)
    assert tools.get("deployment", "rag", "main-api")["spec"]["replicas"] == 3
