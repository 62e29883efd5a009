"""kind, where Docker is there: the same commands as the local node's."""

import shutil
from pathlib import Path

from tests.e2e.localnode import layout, versions
from tests.e2e.localnode.addons import kubectl, kubectl_path
from tests.e2e.localnode.shell import run, say
from tests.e2e.localnode.sources import tag

NAME = "ragtenancy"
_METRICS_SERVER = (
    "https://github.com/kubernetes-sigs/metrics-server/releases/download/"
    f"v{versions.METRICS_SERVER}/components.yaml"
)
# kind's kubelet certificate is not signed by the cluster's authority.
_INSECURE_KUBELET = (
    '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-",'
    ' "value": "--kubelet-insecure-tls"}]'
)
# The class that the quickstart asks for; its volumes start empty and are filled by a download.
_MODEL_CACHE_CLASS = """
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: model-cache}
provisioner: rancher.io/local-path
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
"""
_THIRD_PARTY = (
    f"semitechnologies/weaviate:{versions.WEAVIATE}",
    f"redis:{versions.REDIS}",
)


class KindCluster:
    """A kind cluster named `ragtenancy`."""

    def up(self) -> None:
        """Create it if it is not there, with metrics and the model-cache class."""
        if shutil.which("kind") is None:
            raise SystemExit("Docker is here, kind is not: https://kind.sigs.k8s.io/ installs it")
        if NAME not in run("kind", "get", "clusters").split():
            say("creating the kind cluster")
            run(
                "kind", "create", "cluster", "--config", layout.REPO / "kind-config.yaml",
                "--kubeconfig", layout.KUBECONFIG, "--wait", "180s",
            )  # fmt: skip
        run("kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", layout.KUBECONFIG)
        layout.KUBECONFIG.chmod(0o600)
        kubectl("apply", "--server-side", "-f", "-", stdin=_MODEL_CACHE_CLASS)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", _METRICS_SERVER)
        args = kubectl(
            "get", "deployment/metrics-server", "-n", "kube-system",
            "-o", "jsonpath={.spec.template.spec.containers[0].args}",
        )  # fmt: skip
        if "--kubelet-insecure-tls" not in args:
            kubectl(
                "patch", "deployment/metrics-server", "-n", "kube-system",
                "--type=json", f"--patch={_INSECURE_KUBELET}",
            )  # fmt: skip
        kubectl(
            "wait", "--for=condition=Available", "--timeout=180s",
            "apiservice/v1beta1.metrics.k8s.io",
        )  # fmt: skip
        for image in _THIRD_PARTY:
            run("docker", "pull", "--quiet", image)
        self._load(*_THIRD_PARTY)

    def down(self) -> None:
        """Delete it."""
        run("kind", "delete", "cluster", "--name", NAME, "--kubeconfig", layout.KUBECONFIG)
        layout.KUBECONFIG.unlink(missing_ok=True)

    def images(self) -> None:
        """Build the Dockerfiles and load the images."""
        names = []
        for part in ("operator", "runtime"):
            names.append(f"ghcr.io/ragtenancy/{part}:{tag()}")
            dockerfile = layout.REPO / part / "Dockerfile"
            run("docker", "build", "--file", dockerfile, "--tag", names[-1], layout.REPO)
        self._load(*names)

    def import_archive(self, archive: Path) -> None:
        """Load an archive of `docker save`."""
        run("kind", "load", "image-archive", archive, "--name", NAME)

    def kubeconfig(self) -> Path:
        """Where `up` wrote it."""
        return layout.KUBECONFIG

    def bin(self) -> Path:
        """A folder with links to this machine's kubectl and helm."""
        folder = layout.KUBECONFIG.parent / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        helm = shutil.which("helm")
        if helm is None:
            raise SystemExit("helm is missing: https://helm.sh/docs/intro/install/")
        for name, target in (("kubectl", kubectl_path()), ("helm", Path(helm))):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(target)
        return folder

    def _load(self, *images: str) -> None:
        run("kind", "load", "docker-image", *images, "--name", NAME)
