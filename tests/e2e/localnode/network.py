"""The link between the machine and the node's network namespace.

Pods are routed, not bridged: each has a point-to-point link to the node, so replies through a
Service always pass the node's address translation. The namespace itself has no name: it goes
when its last process goes, and takes the link, routes and firewall rules along.
"""

import socket
from pathlib import Path

from tests.e2e.localnode import layout
from tests.e2e.localnode.shell import run, wait_until


def connect(pid: int) -> None:
    """Link the namespace of a process to the machine; route pod and service addresses to it."""
    link = layout.HOST_LINK
    run(
        "ip", "link", "add", link, "type", "veth",
        "peer", "name", "eth0", "netns", str(pid),
    )  # fmt: skip
    run("ip", "address", "add", f"{layout.HOST_IP}/{layout.LINK_PREFIX}", "dev", link)
    run("ip", "link", "set", link, "up")
    for cidr in (layout.POD_CIDR, layout.SERVICE_CIDR):
        run("ip", "route", "replace", cidr, "via", layout.NODE_IP, "dev", link)


def disconnect() -> None:
    """Remove the link if it is there."""
    if exists():
        run("ip", "link", "delete", layout.HOST_LINK, check=False)


def exists() -> bool:
    """Whether the link is there."""
    return layout.HOST_LINK in {name for _, name in socket.if_nameindex()}


def configure_inside() -> None:
    """Within the namespace: wait for the link, give it its address, switch forwarding on."""
    wait_until("eth0", lambda: "eth0" in {name for _, name in socket.if_nameindex()}, 30)
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{layout.NODE_IP}/{layout.LINK_PREFIX}", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", layout.HOST_IP)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
