"""The node's containerd, seen from the machine."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.e2e.localnode.gotools import binary
from tests.e2e.localnode.layout import CONTAINERD_SOCKET
from tests.e2e.localnode.oci import Image, write_archive
from tests.e2e.localnode.processes import node_pid
from tests.e2e.localnode.shell import CommandFailedError, run, say


def _ctr(*words: str) -> list[str]:
    """A `ctr` command in the node's namespaces, where kubelet's images live."""
    pid = node_pid()
    if pid is None:
        raise SystemExit("the local node is not running: make up")
    enter = ["nsenter", f"--target={pid}", "--mount", "--net", "--pid"]
    return [*enter, str(binary("ctr")), f"--address={CONTAINERD_SOCKET}", "-n=k8s.io", *words]


def is_serving() -> bool:
    """Whether containerd answers."""
    return bool(run(*_ctr("version"), check=False).count("Server:"))


def import_archive(path: Path) -> None:
    """Import an image archive (OCI or Docker)."""
    with path.open("rb") as archive:
        _import(archive)


def import_images(images: Sequence[Image]) -> None:
    """Import images that are not there yet; only layers that are missing are sent."""
    there = run(*_ctr("images", "ls")).splitlines()[1:]
    digests = {words[0]: words[2] for words in map(str.split, there) if len(words) > 2}
    new = [image for image in images if digests.get(image.name) != image.digest]
    if not new:
        return
    say(f"importing {', '.join(image.name for image in new)}")
    present = set(run(*_ctr("content", "ls", "-q")).split())
    process = subprocess.Popen(
        _ctr("images", "import", "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin
    # When ctr ends early, its own words say why.
    with suppress(BrokenPipeError):
        write_archive(process.stdin, new, present)
    output, _ = process.communicate()
    _check(process.returncode, output)


def _import(archive: IO[bytes]) -> None:
    done = subprocess.run(
        _ctr("images", "import", "-"),
        stdin=archive,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    _check(done.returncode, done.stdout)


def _check(status: int, output: bytes) -> None:
    if status != 0:
        raise CommandFailedError(f"ctr images import: {output.decode(errors='replace')[-2000:]}")
