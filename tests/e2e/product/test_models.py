"""Models on their way to a vLLM: what the conditions say of a real hub, Job and kubelet."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.e2e.demo.kube import Tools
from tests.e2e.localnode.sources import tag
from tests.e2e.product.team import until
from tests.fakes import hub as fake

SECONDS = 60
_IMAGE = f"ghcr.io/ragtenancy/runtime:{tag()}"
_HUB = "http://hub:8080"


def _hub() -> list[dict[str, Any]]:
    """A hub that runs from a ConfigMap in a pod of the runtime's image."""
    nobody = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "hub",
        "image": _IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/hub/hub.py"],
        "securityContext": nobody,
        "volumeMounts": [{"name": "hub", "mountPath": "/hub"}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    volume = {"name": "hub", "configMap": {"name": "hub"}}
    source = Path(fake.__file__).read_text("utf-8")
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"hub.py": source}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "spec": {"selector": {"app": "hub"}, "ports": [{"port": 8080}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "spec": {"containers": [container], "volumes": [volume]},
        },
    ]


def _spec() -> dict[str, Any]:
    """A RAGDeployment of which only the chat model's download is to come to life."""

    def nowhere(key: str) -> dict[str, Any]:
        return {"redis": {"external": {"urlSecretRef": {"name": "nowhere", "key": key}}}}

    weaviate = {"httpUrl": "http://nowhere:8080", "grpcUrl": "grpc://nowhere:50051"}
    vllm = {
        # no vLLM, so that it ends at once with something to say
        "image": _IMAGE,
        "gpus": 0,
        "env": [{"name": "HF_ENDPOINT", "value": _HUB}],
        "modelCache": {"persistentVolumeClaim": {"size": "1Gi"}},
    }
    return {
        "vectorStore": {"weaviate": {"external": weaviate}},
        "embedding": {"model": "x", "dimensions": 8, "external": {"url": "http://nowhere/v1"}},
        "generation": {"model": "tests/nothing", "maxModelLen": 2048, "vllm": vllm},
        "state": nowhere("state"),
        "cache": nowhere("cache"),
        "api": {"replicas": 1},
    }


@dataclass(frozen=True)
class Models:
    """The RAGDeployment, and what it says of its chat model."""

    tools: Tools
    namespace: str

    def apply(self, manifest: dict[str, Any], name: str) -> None:
        """Declare an object of this namespace."""
        metadata = {"name": name, "namespace": self.namespace, "labels": {"app": name}}
        self.tools.kubectl(
            "apply", "--filename=-", stdin=json.dumps(manifest | {"metadata": metadata})
        )

    def change(self, **generation: Any) -> None:
        """Change the chat model."""
        patch = json.dumps({"spec": {"generation": generation}})
        self.tools.kubectl(
            "patch", "ragdeployment", "main", f"--namespace={self.namespace}", "--type=merge",
            f"--patch={patch}",
        )  # fmt: skip

    def says(self, reason: str, part: str = "") -> str:
        """The message of GenerationReady, once it has this reason and speaks of this."""

        def found() -> str | None:
            held = self.tools.get("ragdeployment", self.namespace, "main")
            conditions = {c["type"]: c for c in held.get("status", {}).get("conditions") or ()}
            ready = conditions.get("GenerationReady", {})
            right = ready.get("reason") == reason and part in ready["message"]
            return str(ready["message"]) if right else None

        return until(found, SECONDS, f"GenerationReady={reason} with {part!r}")

    def workload(self) -> str:
        """vLLM's Deployment, by kubectl's name; empty while there is none."""
        return self.tools.kubectl(
            "get", "deployment", "main-generation", f"--namespace={self.namespace}",
            "--ignore-not-found", "--output=name",
        ).strip()  # fmt: skip


@pytest.fixture
def models(tools: Tools) -> Iterator[Models]:
    """A namespace with a hub, and a RAGDeployment whose chat model that hub does not have."""
    namespace = f"models-{token_hex(3)}"
    tools.kubectl("create", "namespace", namespace)
    tools.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    made = Models(tools, namespace)
    for manifest in _hub():
        made.apply(manifest, "hub")
    tools.kubectl(
        "wait",
        "--for=condition=Ready",
        "pod/hub",
        f"--namespace={namespace}",
        f"--timeout={SECONDS}s",
    )
    deployment = {"apiVersion": "ragtenancy.io/v1alpha1", "kind": "RAGDeployment", "spec": _spec()}
    made.apply(deployment, "main")
    yield made
    # in a namespace that goes nobody waits for the Weaviate that is nowhere
    tools.kubectl("delete", "namespace", namespace, "--wait=false")


def test_a_model_goes_from_a_wrong_name_over_a_token_to_its_vllm(models: Models) -> None:
    assert "tests/nothing" in models.says("ModelNotFound")
    models.change(model="tests/gated")
    assert "gated" in models.says("TokenMissing")
    models.change(vllm={"tokenSecretRef": {"name": "hub", "key": "token"}})
    models.says("TokenMissing", 'secret "hub" not found')
    assert not models.workload()
    token = {"apiVersion": "v1", "kind": "Secret", "stringData": {"token": fake.TOKEN}}
    models.apply(token, "hub")
    models.says("CrashLooping", "error: unrecognized arguments")
    assert models.workload()
    models.change(model="tests/slow")
    assert "vLLM keeps tests/gated" in models.says("Downloading", " of 30.0 MB")
    assert "tests/slow" in models.says("CrashLooping", "tests/slow")
