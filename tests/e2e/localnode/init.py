"""The first process of the node's namespaces: mounts, network, components.

It starts the components again when they end, reaps what containers leave behind, and with it
the whole node ends: it is process 1 of its namespace.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.localnode import cgroups, network
from tests.e2e.localnode.components import COMPONENTS, Component
from tests.e2e.localnode.layout import MODEL_CACHE, OWN_FOLDERS, STATE
from tests.e2e.localnode.modelcache import contents
from tests.e2e.localnode.shell import run, wait_until

_KUBELET_SETTINGS = {
    "vm/overcommit_memory": "1",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
}
_RESTART_DELAY_S = 1.0
_SOCKET_TIMEOUT_S = 30.0


def _mount() -> None:
    """Give the node its own view of the places it writes, so that nothing of it stays."""
    run("mount", "--make-rshared", "/")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in OWN_FOLDERS:
        own = STATE / "own" / folder.name
        own.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        run("mount", "--bind", own, folder)
    for setting, value in _KUBELET_SETTINGS.items():
        # The kubelet wants these and would set them for the whole machine.
        copy = STATE / "own" / setting.replace("/", "-")
        copy.write_text(value)
        run("mount", "--bind", copy, f"/proc/sys/{setting}")
    for name, source in contents().items():
        shown = MODEL_CACHE / name
        shown.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", source, shown)
        run("mount", "-o", "remount,bind,ro", shown)


def _start(component: Component) -> int:
    if component.waits_for:
        wait_until(component.waits_for, Path(component.waits_for).exists, _SOCKET_TIMEOUT_S)
    log = STATE / "log" / f"{component.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            component.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": f"{STATE}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"},
            preexec_fn=cgroups.enter if component.in_cgroup else None,  # noqa: PLW1509 - no threads
        )
    return process.pid


def main() -> None:
    """Start everything and keep it running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.umask(0o022)
    _mount()
    network.configure_inside()
    running = {_start(component): component for component in COMPONENTS}
    while True:
        pid, status = os.wait()
        component = running.pop(pid, None)
        if component:
            print(f"{component.name} ended with status {status}; starting it again", flush=True)
            time.sleep(_RESTART_DELAY_S)
            running[_start(component)] = component


if __name__ == "__main__":
    main()
