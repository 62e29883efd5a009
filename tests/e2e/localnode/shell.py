"""Running commands, and saying what goes on."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_STARTED = time.monotonic()

APT_PACKAGES = {
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "ip": "iproute2",
    "openssl": "openssl",
    "mount": "mount",
    "unshare": "util-linux",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}
"""Command or file that must be there, and the Debian package that brings it."""


class CommandFailedError(RuntimeError):
    """A command ended with an error; the message holds the end of what it printed."""


def say(message: str) -> None:
    """Print a line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:6.1f}s] {message}", file=sys.stderr, flush=True)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> str:
    """Run a command and return what it printed to stdout.

    Raises:
        CommandFailedError: It failed, and `check` is set.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **env} if env else None,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    if check and done.returncode != 0:
        tail = (done.stdout + done.stderr)[-4000:]
        raise CommandFailedError(
            f"{' '.join(map(str, command))[:300]}: status {done.returncode}\n{tail}"
        )
    return done.stdout


def require_root() -> None:
    """Stop with a clear message where the node cannot be made."""
    if os.geteuid() != 0:
        raise SystemExit("the local node needs root (namespaces, mounts, cgroups)")


def install_system_packages() -> None:
    """Install with apt what the node and its builds call, where it is missing."""
    missing = sorted({package for probe, package in APT_PACKAGES.items() if not _present(probe)})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise SystemExit(f"install these first (no apt-get here): {', '.join(missing)}")
    require_root()
    say(f"installing {', '.join(missing)}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=env)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=env)


def _present(probe: str) -> bool:
    if probe.startswith("/"):
        return Path(probe).exists()
    return shutil.which(probe, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is not None


def wait_until(what: str, ready: Callable[[], object], timeout_s: float) -> None:
    """Poll `ready()` until it is true.

    Raises:
        TimeoutError: It never was; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not there after {timeout_s:.0f} s")
        time.sleep(0.1)
