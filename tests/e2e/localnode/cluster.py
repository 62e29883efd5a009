"""The local node behind the commands that it shares with kind."""

from pathlib import Path

from tests.e2e.localnode import layout, node
from tests.e2e.localnode.addons import kubectl_path
from tests.e2e.localnode.artefacts import ensure
from tests.e2e.localnode.containerd import import_archive, import_images
from tests.e2e.localnode.gotools import TOOLS, binary
from tests.e2e.localnode.productimages import product_images


class LocalNode:
    """The one-node Kubernetes of this package."""

    def up(self) -> None:
        """Start it, or see that it runs."""
        node.up()

    def down(self) -> None:
        """End it and leave nothing but the caches."""
        node.down()

    def images(self) -> None:
        """Build the product's images and import what changed."""
        import_images(product_images())

    def import_archive(self, archive: Path) -> None:
        """Import an OCI or Docker archive."""
        import_archive(archive)

    def kubeconfig(self) -> Path:
        """Where `up` writes it."""
        return layout.KUBECONFIG

    def bin(self) -> Path:
        """A folder with links to kubectl and helm."""
        ensure([TOOLS["helm"]])
        folder = layout.KUBECONFIG.parent / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in (("kubectl", kubectl_path()), ("helm", binary("helm"))):
            if not (folder / name).exists() or (folder / name).resolve() != target.resolve():
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(target)
        return folder
