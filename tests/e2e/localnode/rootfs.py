"""The Debian rootfs: base layer of every image, and the Python and Redis of the tests."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.artefacts import Artefact
from tests.e2e.localnode.shell import CommandFailedError, run

_NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
)


def _build(out: Path) -> None:
    root = out / "rootfs"
    include = ",".join(versions.DEBIAN_PACKAGES)
    run(
        "debootstrap", "--variant=minbase", f"--include={include}",
        versions.DEBIAN_SUITE, root, versions.DEBIAN_MIRROR,
    )  # fmt: skip
    for folder in _NOT_NEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    banner = run("chroot", root, "redis-server", "--version")
    if f"v={versions.REDIS} " not in banner:
        raise CommandFailedError(f"expected Redis {versions.REDIS}, the suite has: {banner}")


ROOTFS = Artefact(
    "rootfs",
    (versions.DEBIAN_SUITE, versions.DEBIAN_MIRROR, *versions.DEBIAN_PACKAGES, *_NOT_NEEDED),
    _build,
    lane="downloads",
)


def rootfs() -> Path:
    """The folder that is `/` of the base layer."""
    return ROOTFS.path / "rootfs"


def run_inside(mounts: Mapping[str, Path], *command: str) -> str:
    """Run a command in the rootfs with folders of the host mounted as `/mnt/NAME`."""
    root = rootfs()
    script = ["set -e", f"mount -t tmpfs tmpfs '{root}/mnt'"]
    script += [f"mount --rbind /dev '{root}/dev'", f"mount -t proc proc '{root}/proc'"]
    for name, folder in mounts.items():
        script += [f"mkdir '{root}/mnt/{name}'", f"mount --bind '{folder}' '{root}/mnt/{name}'"]
    script.append(f"exec chroot '{root}' \"$@\"")
    return run(
        "unshare", "--mount", "--propagation", "private",
        "sh", "-c", "\n".join(script), "sh", *command,
    )  # fmt: skip


def foreign_command(program: str) -> list[str]:
    """The words that start a program of the rootfs on the host, without a chroot.

    Its own loader and libraries are used, since the host's C library may be older.
    """
    root = rootfs()
    libraries = f"{root}/usr/lib/x86_64-linux-gnu"
    loader = f"{root}/usr/lib64/ld-linux-x86-64.so.2"
    return [loader, "--library-path", libraries, f"{root}/usr/bin/{program}"]
