"""What every test on a cluster starts from; nothing here knows how the cluster was made."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.e2e.localnode import layout
from tests.e2e.localnode.addons import kubectl_path

_CONTEXTS = {layout.CONTEXT, "kind-ragtenancy"}

Kubectl = Callable[..., str]


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The test cluster's kubeconfig; any other cluster is refused."""
    path = layout.KUBECONFIG
    if not path.exists():
        pytest.fail(f"{path} is missing: make up")
    words = [str(kubectl_path()), f"--kubeconfig={path}", "config", "current-context"]
    context = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    if context not in _CONTEXTS:
        pytest.fail(f"context {context!r} is not one of {sorted(_CONTEXTS)}: refusing to touch it")
    return path


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    """Runs kubectl on the test cluster: `kubectl("get", "pods", stdin=...)` -> stdout."""

    def run(*words: str, stdin: str | None = None, timeout: float = 120) -> str:
        done = subprocess.run(
            [str(kubectl_path()), f"--kubeconfig={kubeconfig}", *words],
            input=stdin, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def restricted_namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace under Pod Security `restricted`, gone after the module's tests."""
    # A new name each time: the old one may still be going, and names live on in DNS caches.
    name = f"{request.module.__name__.rpartition('.')[2].replace('_', '-')}-{token_hex(3)}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
