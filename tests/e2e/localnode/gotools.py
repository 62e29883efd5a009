"""The Go binaries, built from the modules pinned in `go/*/go.mod` and `go.sum`."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.artefacts import Artefact
from tests.e2e.localnode.layout import PACKAGE
from tests.e2e.localnode.shell import run

_MODULES = PACKAGE / "go"
_ENV = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    # The compiler is short-lived: fewer collections make it about a tenth faster.
    "GOGC": "400",
}


def _symbols(*assignments: str) -> str:
    return " ".join(f"-X {assignment}" for assignment in assignments)


# Without these the node calls itself v0.0.0-master and Helm refuses charts with a kubeVersion.
_KUBERNETES = _symbols(
    f"k8s.io/component-base/version.gitVersion=v{versions.KUBERNETES}",
    f"k8s.io/component-base/version.gitMajor={versions.KUBERNETES.split('.')[0]}",
    f"k8s.io/component-base/version.gitMinor={versions.KUBERNETES.split('.')[1]}",
    f"k8s.io/client-go/pkg/version.gitVersion=v{versions.KUBERNETES}",
)
_CONTAINERD = _symbols(
    f"github.com/containerd/containerd/v2/version.Version=v{versions.CONTAINERD}"
)


@dataclass(frozen=True)
class GoTool:
    """A binary: the module folder that pins it, its package, linker symbols, build tags."""

    name: str
    module: str
    package: str
    symbols: str = ""
    tags: str = ""

    def artefact(self) -> Artefact:
        """Its place in the cache; a change of the module's pins builds it anew."""
        folder = _MODULES / self.module
        sources = sorted(p for p in folder.rglob("*") if p.is_file())
        pins = tuple(f"{p.relative_to(folder)}\n{p.read_text()}" for p in sources)
        return Artefact(
            self.name,
            (self.package, self.symbols, self.tags, *_ENV.values(), *pins),
            self._build,
            lane="go-kubernetes" if self.module == "kubernetes" else "go-others",
        )

    def _build(self, out: Path) -> None:
        if shutil.which("go") is None:
            raise SystemExit("the local node is built from Go modules: install Go 1.26 or later")
        command = ["go", "build", "-trimpath", "-pgo=off", "-o", str(out / self.name)]
        command += ["-ldflags", f"-s -w {self.symbols}"]
        command += ["-tags", self.tags] if self.tags else []
        run(*command, self.package, cwd=_MODULES / self.module, env=_ENV)


def _kubernetes(name: str) -> GoTool:
    return GoTool(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES)


def _containerd(name: str) -> GoTool:
    package = f"github.com/containerd/containerd/v2/cmd/{name}"
    return GoTool(name, "containerd", package, _CONTAINERD)


# In the order of need: what the integration tests start comes first.
_ALL = (
    _kubernetes("kube-apiserver"),
    GoTool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    GoTool(
        "weaviate-server", "weaviate", "github.com/weaviate/weaviate/cmd/weaviate-server",
        tags="netgo",
    ),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kubelet"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kube-proxy"),
    _containerd("containerd"),
    _containerd("containerd-shim-runc-v2"),
    _containerd("ctr"),
    GoTool("pause", "kubernetes", "./pause"),
    GoTool("coredns", "kubernetes", "./coredns"),
    GoTool(
        "local-path-provisioner", "kubernetes", "github.com/rancher/local-path-provisioner",
        _symbols(f"main.VERSION=v{versions.LOCAL_PATH_PROVISIONER}"),
    ),
    GoTool("metrics-server", "kubernetes", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    GoTool(
        "helm", "kubernetes", "helm.sh/helm/v4/cmd/helm",
        _symbols(f"helm.sh/helm/v4/internal/version.version=v{versions.HELM}"),
    ),
)  # fmt: skip

TOOLS = {tool.name: tool.artefact() for tool in _ALL}


def binary(name: str) -> Path:
    """The path of a tool that was built."""
    return TOOLS[name].path / name
