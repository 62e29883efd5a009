"""A change rolls while traffic flows: nobody notices, or is told when to come back."""

import json
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest

from tests.e2e.product.team import App, Team
from tests.e2e.product.traffic import flowing

TOWER = "The Quillon Tower in the town of Marrow is 412 metres tall. It was built in 1987."
_ROLL_SECONDS = 400
_REPLICATED = "replicated"


def change(team: Team, deployment: str, patch: dict[str, Any]) -> None:
    """Merge a patch into a RAGDeployment's spec."""
    team.tools.kubectl(
        "patch", f"ragdeployment/{deployment}", "--namespace=rag", "--type=merge",
        f"--patch={json.dumps({'spec': patch})}",
    )  # fmt: skip


def rolled(team: Team, workload: str, mark: str) -> None:
    """Wait until every pod of a workload carries a mark among its annotations, and is ready."""
    path = "{.spec.template.metadata.annotations.rolled}"
    team.tools.kubectl(
        "wait", workload, "--namespace=rag", f"--for=jsonpath={path}={mark}", "--timeout=60s"
    )
    team.tools.kubectl(
        "rollout", "status", workload, "--namespace=rag", f"--timeout={_ROLL_SECONDS}s"
    )


@pytest.fixture(scope="module")
def tower(team: Team) -> App:
    """A tenant that knows of a tower."""
    app = team.new("tower")
    assert app.put("tower", TOWER, "Quillon Tower").status_code == 201
    return app


def test_a_change_of_the_api_loses_no_request(team: Team, tower: App) -> None:
    mark = token_hex(4)
    with flowing(team, tower) as traffic:
        change(team, "main", {"api": {"podAnnotations": {"rolled": mark}}})
        rolled(team, "deployment/main-api", mark)
    assert traffic.failed() == {}


@pytest.mark.parametrize(
    ("workload", "path"),
    [
        ("statefulset/main-state", ("state", "redis", "managed")),
        ("statefulset/main-weaviate", ("vectorStore", "weaviate", "managed")),
    ],
)
def test_a_change_of_a_singleton_is_a_503_that_says_when_to_come_back(
    team: Team, tower: App, workload: str, path: tuple[str, ...]
) -> None:
    mark = token_hex(4)
    patch: dict[str, Any] = {"podAnnotations": {"rolled": mark}}
    for part in reversed(path):
        patch = {part: patch}
    with flowing(team, tower) as traffic:
        change(team, "main", patch)
        rolled(team, workload, mark)
    assert traffic.outcomes() <= {"ok", "503"}, traffic.failed()
    assert all(counts["without_retry_after"] == 0 for counts in traffic.counts.values())
    assert traffic.outage_s() <= 60


def _replicated() -> list[dict[str, Any]]:
    """Three Weaviates that hold every shard, with the models of the other RAGDeployment."""

    def model(component: str) -> dict[str, Any]:
        return {
            "url": f"http://main-{component}.rag.svc:8000/v1",
            "apiKeySecretRef": {
                "name": f"main-{component}-credentials",
                "key": f"{component}-api-key",
            },
        }

    small = {"requests": {"cpu": "50m", "memory": "192Mi"}}
    spec = {
        "tenants": {"allowedNamespaces": {"from": "All"}},
        "vectorStore": {
            "weaviate": {
                "managed": {"replicas": 3, "storage": {"size": "1Gi"}, "resources": small}
            },
            "collection": {"replicationFactor": 3},
        },
        "embedding": {
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "dimensions": 384,
            "maxInputTokens": 256,
            "external": model("embedding"),
        },
        "generation": {
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "maxModelLen": 2048,
            "external": model("generation"),
        },
        "state": {"redis": {"managed": {"resources": small}}},
        "cache": {"redis": {"managed": {"maxMemory": "16Mi"}}},
        "api": {"replicas": 2, "resources": small},
        "deletionPolicy": "Cascade",
    }
    deployment = {
        "apiVersion": "ragtenancy.io/v1alpha1",
        "kind": "RAGDeployment",
        "metadata": {"name": _REPLICATED, "namespace": "rag"},
        "spec": spec,
    }
    # the first deployment's models take requests from its own API only
    models = {"app.kubernetes.io/name": {"operator": "In", "values": ["embedding", "generation"]}}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{_REPLICATED}-to-models", "namespace": "rag"},
        "spec": {
            "podSelector": {
                "matchExpressions": [{"key": key, **rest} for key, rest in models.items()]
            },
            "ingress": [
                {
                    "from": [
                        {"podSelector": {"matchLabels": {"ragtenancy.io/deployment": _REPLICATED}}}
                    ]
                }
            ],
        },
    }
    return [deployment, policy]


@pytest.fixture(scope="module")
def replicated(team: Team) -> Iterator[App]:
    """A tenant of a RAGDeployment with three replicated Weaviates."""
    tools = team.tools
    for manifest in _replicated():
        tools.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))
    tools.wait_ready("ragdeployment", "rag", _REPLICATED, _ROLL_SECONDS, print)
    with tools.forwarded("rag", f"{_REPLICATED}-api", 80) as address:
        there = Team(tools, team.namespace, address)
        app = there.new("replicated-tower", deploymentRef={"name": _REPLICATED, "namespace": "rag"})
        assert app.put("tower", TOWER, "Quillon Tower").status_code == 201
        yield app
    tools.kubectl("delete", f"ragdeployment/{_REPLICATED}", "--namespace=rag", "--timeout=120s")
    tools.kubectl("delete", f"networkpolicy/{_REPLICATED}-to-models", "--namespace=rag")


def test_a_change_of_three_replicated_weaviates_loses_no_request(
    team: Team, replicated: App
) -> None:
    mark = token_hex(4)
    weaviate = {"weaviate": {"managed": {"podAnnotations": {"rolled": mark}}}}
    with flowing(team, replicated, _REPLICATED) as traffic:
        change(team, _REPLICATED, {"vectorStore": weaviate})
        rolled(team, f"statefulset/{_REPLICATED}-weaviate", mark)
    assert traffic.failed() == {}


@pytest.mark.long
def test_a_change_of_a_model_with_two_replicas_loses_no_request(team: Team, tower: App) -> None:
    mark = token_hex(4)
    vllm = {"replicas": 2, "podAnnotations": {"rolled": mark}}
    change(team, "main", {"generation": {"vllm": {"replicas": 2}}})
    team.tools.kubectl(
        "wait", "deployment/main-generation", "--namespace=rag", f"--timeout={_ROLL_SECONDS}s",
        "--for=jsonpath={.status.readyReplicas}=2",
    )  # fmt: skip
    with flowing(team, tower) as traffic:
        change(team, "main", {"generation": {"vllm": vllm}})
        rolled(team, "deployment/main-generation", mark)
    change(team, "main", {"generation": {"vllm": {"replicas": None}}})
    assert traffic.failed() == {}
