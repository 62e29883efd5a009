"""Bringing the node up, taking it down, and telling what is left of it."""

import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from string import Template

from tests.e2e.localnode import addons, cgroups, images, layout, network
from tests.e2e.localnode.artefacts import Artefact, ensure
from tests.e2e.localnode.components import BINARIES
from tests.e2e.localnode.containerd import import_images, is_serving
from tests.e2e.localnode.gotools import TOOLS, binary
from tests.e2e.localnode.layout import PACKAGE, REPO, STATE
from tests.e2e.localnode.modelcache import ARTEFACTS as MODEL_ARTEFACTS
from tests.e2e.localnode.pki import Authority
from tests.e2e.localnode.processes import kill_all, node_pid, node_processes
from tests.e2e.localnode.shell import (
    install_system_packages,
    require_root,
    run,
    say,
    wait_until,
)

_CHILD_TIMEOUT_S = 10.0
_API_TIMEOUT_S = 30.0


def needed() -> list[Artefact]:
    """Everything the node is made of, what the integration tests need first."""
    return [*TOOLS.values(), *images.LAYERS, *MODEL_ARTEFACTS]


def up() -> None:
    """Start the node, or see that it runs; it is ready for pods when this returns."""
    with _alone():
        _up()


def down() -> None:
    """End the node and remove everything but the caches; also after a crash."""
    with _alone():
        _down()


@contextmanager
def _alone() -> Iterator[None]:
    """One `up` or `down` at a time, from whichever checkout."""
    require_root()
    layout.cache().mkdir(parents=True, exist_ok=True)
    with (layout.cache() / ".node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _up() -> None:
    phases = Phases()
    with phases.measure("system packages"):
        install_system_packages()
    with phases.measure("builds"):
        ensure(needed())
    if not healthy():
        with phases.measure("clean up"):
            _down()
        with phases.measure("start"):
            _prepare()
            _start()
    with ThreadPoolExecutor() as pool, phases.measure("images, API server, add-ons"):
        importing = pool.submit(_import_images)
        pool.submit(addons.install).result()
        importing.result()
    with phases.measure("node, DNS, volumes, metrics"):
        addons.wait_until_ready()
    say(f"the node is up ({phases}); kubeconfig: {layout.KUBECONFIG}")


def _down() -> None:
    kill_all()
    network.disconnect()
    for mount in reversed(_mounts()):
        run("umount", "--lazy", mount)
    cgroups.remove()
    if STATE.exists():
        shutil.rmtree(STATE)
    for folder in layout.OWN_FOLDERS:
        # Made for the node to mount its own over, where the machine had none.
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    layout.KUBECONFIG.unlink(missing_ok=True)


def leftovers() -> list[str]:
    """What of a node is there: nothing, after `down`."""
    found = [f"process {pid}" for pid in sorted(node_processes())]
    found += [f"mount {mount}" for mount in _mounts()]
    found += [f"cgroup {path}" for path in cgroups.remaining()]
    found += [f"interface {layout.HOST_LINK}"] if network.exists() else []
    found += [f"folder {STATE}"] if STATE.exists() else []
    routes = run("ip", "route", "show")
    ranges = (layout.POD_CIDR, layout.SERVICE_CIDR)
    return found + [f"route {line}" for line in routes.splitlines() if line.startswith(ranges)]


def healthy() -> bool:
    """Whether a node runs and its API server is ready, or becomes so.

    It is waited for: under load the API server may be slow to answer, and `up` must not replace a
    node for that.
    """
    if node_pid() is None or not (STATE / "pki" / "admin.crt").exists():
        return False
    write_user_kubeconfig()
    try:
        wait_until("the API server", addons.api_ready, _API_TIMEOUT_S)
    except TimeoutError:
        return False
    return True


def write_user_kubeconfig() -> None:
    """Write the administrator's kubeconfig into the repository's .local folder."""
    Authority(STATE / "pki").write_kubeconfig(
        layout.KUBECONFIG, "admin", layout.API_URL, layout.CONTEXT
    )


def settings() -> dict[str, str]:
    """The values that configuration files and add-ons are filled with."""
    return {
        "state": str(STATE),
        "node": layout.NODE,
        "node_pod_cidr": layout.NODE_POD_CIDR,
        "pod_cidr": layout.POD_CIDR,
        "dns_service_ip": layout.DNS_SERVICE_IP,
        "pause_image": images.PAUSE,
    }


def _prepare() -> None:
    for name in ("bin", "log", "volumes"):
        (STATE / name).mkdir(parents=True)
    layout.MODEL_CACHE.mkdir(parents=True)
    for name in BINARIES:
        (STATE / "bin" / name).symlink_to(binary(name))
    shutil.copy(PACKAGE / "nodefiles" / "runc-within-limits", STATE / "bin")
    _issue_certificates()
    source = PACKAGE / "config"
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        target = STATE / "config" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(path.read_text()).substitute(settings()))
    cgroups.create()


def _issue_certificates() -> None:
    pki = Authority.create(STATE / "pki")
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    addresses = (layout.NODE_IP, layout.API_SERVICE_IP, "127.0.0.1")
    hosts = (*(f"DNS:{name}" for name in services), *(f"IP:{ip}" for ip in addresses))
    pki.issue("kube-apiserver", "kube-apiserver", hosts=(*hosts, "DNS:localhost"))
    pki.issue("admin", "admin", "system:masters")
    pki.issue("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
    pki.issue("front-proxy", "front-proxy")
    pki.issue(
        "kubelet", f"system:node:{layout.NODE}", "system:nodes",
        (f"DNS:{layout.NODE}", f"IP:{layout.NODE_IP}"),
    )  # fmt: skip
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        pki.issue(name, f"system:{name}")
    for name in ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        pki.write_kubeconfig(
            STATE / "kubeconfigs" / name, name, layout.API_URL, layout.CONTEXT
        )  # fmt: skip
    write_user_kubeconfig()


def _start() -> None:
    """Start `init` in namespaces of its own; with its parent's end all of it ends."""
    with (STATE / "log" / "node.log").open("wb") as log:
        subprocess.Popen(
            [
                "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
                "--propagation", "private", "--mount-proc",
                sys.executable, "-m", "tests.e2e.localnode.init",
            ],
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    wait_until("the node's first process", node_pid, _CHILD_TIMEOUT_S)
    network.connect(node_pid() or 0)


def _import_images() -> None:
    wait_until("containerd", is_serving, 60)
    import_images(images.third_party())


def _mounts() -> list[str]:
    """Mounts below the node's folder that this mount namespace sees."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(f"{STATE}/")]


class Phases:
    """How long each phase took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the time of the block to a phase."""
        started = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - started

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self._seconds.items())
