"""The node's cgroups: one folder of its own in each hierarchy."""

import errno
import os
from pathlib import Path

from tests.e2e.localnode.layout import NODE
from tests.e2e.localnode.shell import wait_until

_ROOT = Path("/sys/fs/cgroup")
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


def unified() -> bool:
    """Whether this machine has cgroup v2 only."""
    return (_ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    if unified():
        return [_ROOT]
    seen: dict[str, Path] = {}
    for entry in sorted(_ROOT.iterdir()):
        if (entry / "cgroup.procs").exists():
            seen.setdefault(str(entry.resolve()), entry.resolve())
    return list(seen.values())


def create() -> None:
    """Make the node's cgroup and, below it, the kubelet's own."""
    for hierarchy in _hierarchies():
        for folder in (hierarchy / NODE, hierarchy / NODE / "kubelet"):
            folder.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                # A new v1 cpuset is empty and takes no process until it is given some.
                if not unified() and (folder / setting).exists():
                    (folder / setting).write_text((folder.parent / setting).read_text())
        if unified():
            for folder in (hierarchy, hierarchy / NODE):
                _enable_controllers(folder)


def _enable_controllers(folder: Path) -> None:
    available = (folder / "cgroup.controllers").read_text().split()
    missing = [name for name in _V2_CONTROLLERS if name not in available]
    if missing:
        raise SystemExit(f"the local node needs the cgroup controllers {missing} in {folder}")
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{n}" for n in _V2_CONTROLLERS))


def enter() -> None:
    """Move this process into the kubelet's cgroup."""
    for hierarchy in _hierarchies():
        (hierarchy / NODE / "kubelet" / "cgroup.procs").write_text(str(os.getpid()))


def remaining() -> list[Path]:
    """The node's folders that are there."""
    return [h / NODE for h in _hierarchies() if (h / NODE).exists()]


def members() -> set[int]:
    """Processes in the node's cgroups."""
    return {
        int(pid)
        for top in remaining()
        for procs in top.rglob("cgroup.procs")
        for pid in procs.read_text().split()
        if pid != "0"
    }


def remove() -> None:
    """Remove the node's cgroups, from the leaves up; their processes must be gone."""
    # A cgroup is busy for a moment after its last process ended.
    wait_until("the end of the node's cgroups", _try_remove, 10)


def _try_remove() -> bool:
    for top in remaining():
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
    return True
