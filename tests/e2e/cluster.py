"""`python -m tests.e2e.cluster COMMAND`: the test cluster, by kind or by the local node.

kind where Docker answers, else the local node; `RAGTENANCY_CLUSTER=kind|localnode` decides
otherwise. Everything above knows only the kubeconfig and these commands.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Protocol

from tests.e2e.kind import KindCluster
from tests.e2e.localnode.cluster import LocalNode
from tests.e2e.localnode.shell import CommandFailedError, run


class Cluster(Protocol):
    """What both kinds of cluster can do."""

    def up(self) -> None:
        """Start it, or see that it runs."""

    def down(self) -> None:
        """Remove it."""

    def images(self) -> None:
        """Build the product's images and put them into the cluster."""

    def import_archive(self, archive: Path) -> None:
        """Put an image archive into the cluster."""

    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""

    def bin(self) -> Path:
        """A folder with kubectl and helm."""


def choose() -> Cluster:
    """The cluster of this machine."""
    chosen = os.environ.get("RAGTENANCY_CLUSTER") or ("kind" if docker_answers() else "localnode")
    match chosen:
        case "kind":
            return KindCluster()
        case "localnode":
            return LocalNode()
    raise SystemExit(f"RAGTENANCY_CLUSTER={chosen}: kind or localnode")


def docker_answers() -> bool:
    """Whether a Docker daemon answers (its client alone may be there without one)."""
    if shutil.which("docker") is None:
        return False
    try:
        run("docker", "info", timeout=20)
    except (CommandFailedError, TimeoutExpired):
        return False
    return True


def main() -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the cluster, or see that it runs")
    commands.add_parser("down", help="remove the cluster")
    commands.add_parser("images", help="build the product's images and put them into the cluster")
    commands.add_parser("kubeconfig", help="print the kubeconfig's path")
    commands.add_parser("bin", help="print a folder with kubectl and helm")
    commands.add_parser("import", help="import an image archive").add_argument("archive", type=Path)
    arguments = parser.parse_args()
    cluster = choose()
    match arguments.command:
        case "up":
            cluster.up()
        case "down":
            cluster.down()
        case "images":
            cluster.images()
        case "kubeconfig":
            print(cluster.kubeconfig())
        case "bin":
            print(cluster.bin())
        case "import":
            cluster.import_archive(arguments.archive)
    return 0


if __name__ == "__main__":
    sys.exit(main())
