"""Names, addresses and folders: the one place that knows them."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
PACKAGE = Path(__file__).resolve().parent
KUBECONFIG = REPO / ".local" / "kubeconfig"
CONTEXT = "ragtenancy-local"

NODE = "ragtenancy"
"""The node's name, also of its cgroup."""
STATE = Path("/var/lib/ragtenancy-node")
"""Everything a running node writes; `down` removes it."""
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
"""Inside the node's mount namespace, whose /run is its own."""
OWN_FOLDERS = (Path("/var/lib/cni"), Path("/var/lib/kubelet"), Path("/var/log"))
"""Folders of the machine of which the node has its own; what it writes there is in `STATE`."""
SHARED_VOLUMES = STATE / "shared"
MODEL_CACHE = SHARED_VOLUMES / "model-cache"

HOST_LINK = "ragtenancy0"
HOST_IP = "10.77.0.1"
NODE_IP = "10.77.0.2"
LINK_PREFIX = 24
POD_CIDR = "10.244.0.0/16"
NODE_POD_CIDR = "10.244.0.0/22"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
API_PORT = 6443
API_URL = f"https://{NODE_IP}:{API_PORT}"


def cache() -> Path:
    """The folder for what is built once; `RAGTENANCY_CACHE` moves it."""
    override = os.environ.get("RAGTENANCY_CACHE")
    return Path(override) if override else Path.home() / ".cache" / "ragtenancy"
