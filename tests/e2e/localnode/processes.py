"""Which processes are the node's, and their end."""

import os
import signal
from pathlib import Path

from tests.e2e.localnode import cgroups
from tests.e2e.localnode.layout import STATE
from tests.e2e.localnode.shell import wait_until

_INIT = "tests.e2e.localnode.init"


def node_pid() -> int | None:
    """The node's first process, as this machine numbers it."""
    return next((pid for pid in _all() if _INIT in _words(pid) and _is_first(pid)), None)


def node_processes() -> set[int]:
    """Every process of the node: its parent, what is in its namespaces, what is in its cgroups."""
    found = {pid for pid in _all() if _INIT in _words(pid) or _runs_from_state(pid)}
    namespaces = {_namespace(pid) for pid in found if _is_first(pid)}
    found |= {pid for pid in _all() if _namespace(pid) in namespaces}
    return (found | cgroups.members()) - {os.getpid()}


def kill_all() -> None:
    """End the node's processes at once; containers keep no state worth a clean exit."""
    for pid in node_processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until("the end of the node's processes", lambda: not node_processes(), 30)


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _is_first(pid: int) -> bool:
    """Whether it is process 1 of a PID namespace that is not the machine's."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(numbers) > 1 and numbers[-1] == "1"


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return f"gone {pid}"


def _runs_from_state(pid: int) -> bool:
    return any(word.startswith(f"--config={STATE}/") for word in _words(pid))
