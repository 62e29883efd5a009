"""`python -m tests.e2e.localnode COMMAND`: see docs/local-node.md."""

import argparse
import sys
from pathlib import Path

from tests.e2e.localnode import images, layout, modelcache, node
from tests.e2e.localnode.artefacts import Artefact, ensure
from tests.e2e.localnode.containerd import import_archive, import_images
from tests.e2e.localnode.gotools import TOOLS
from tests.e2e.localnode.productimages import product_images
from tests.e2e.localnode.rootfs import ROOTFS
from tests.e2e.localnode.shell import install_system_packages

_INTEGRATION = ("kube-apiserver", "etcd", "weaviate-server")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.localnode", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the node, or see that it runs")
    commands.add_parser("down", help="end the node and leave nothing but the caches")
    build = commands.add_parser("build", help="build what the node needs, without starting it")
    build.add_argument("--only", choices=["integration", "models"], help="build just this part")
    archive = commands.add_parser("import", help="put an image archive into the node")
    archive.add_argument("archive", type=Path)
    commands.add_parser("images", help="build the operator's and the runtime's images and import")
    commands.add_parser("kubeconfig", help="print the kubeconfig's path")
    status = commands.add_parser("status", help="say whether the node runs")
    status.add_argument("--leftovers", action="store_true", help="fail when anything is left")
    return parser


def _part(name: str | None) -> list[Artefact]:
    match name:
        case "integration":
            return [*(TOOLS[tool] for tool in _INTEGRATION), ROOTFS]
        case "models":
            return list(modelcache.ARTEFACTS)
        case _:
            return node.needed()


def main() -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args()
    match arguments.command:
        case "up":
            node.up()
        case "down":
            node.down()
        case "build":
            install_system_packages()
            ensure(_part(arguments.only))
        case "import":
            import_archive(arguments.archive)
        case "images":
            ensure([images.BASE_LAYER, TOOLS["ctr"]])
            import_images(product_images())
        case "kubeconfig":
            print(layout.KUBECONFIG)
        case "status" if arguments.leftovers:
            left = node.leftovers()
            print("\n".join(left) or "nothing is left")
            return 1 if left else 0
        case "status":
            print("running" if node.healthy() else "not running")
            return 0 if node.healthy() else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
