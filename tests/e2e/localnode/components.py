"""The node's processes: which binaries run with which words."""

from dataclasses import dataclass

from tests.e2e.localnode import layout

STATE = layout.STATE
_PKI = STATE / "pki"
_ETCD = "http://127.0.0.1:2379"


@dataclass(frozen=True)
class Component:
    """A process of the node.

    Attributes:
        name: Of the process's log.
        command: The binary (found in the node's bin folder) and its words.
        in_cgroup: Whether it runs in the node's own cgroup, as the kubelet asks for itself.
        waits_for: A socket that must be there before it starts.
    """

    name: str
    command: tuple[str, ...]
    in_cgroup: bool = False
    waits_for: str = ""


def _kubeconfig(name: str) -> str:
    return f"--kubeconfig={STATE}/kubeconfigs/{name}"


COMPONENTS = (
    Component(
        "etcd",
        (
            "etcd",
            f"--data-dir={STATE}/etcd",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=warn",
            # The data never outlives the node.
            "--unsafe-no-fsync",
        ),
    ),
    Component(
        "kube-apiserver",
        (
            "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--advertise-address={layout.NODE_IP}",
            f"--secure-port={layout.API_PORT}",
            f"--service-cluster-ip-range={layout.SERVICE_CIDR}",
            "--allow-privileged",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--client-ca-file={_PKI}/ca.crt",
            f"--tls-cert-file={_PKI}/kube-apiserver.crt",
            f"--tls-private-key-file={_PKI}/kube-apiserver.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={_PKI}/service-accounts.pub",
            f"--service-account-signing-key-file={_PKI}/service-accounts.key",
            f"--kubelet-client-certificate={_PKI}/kubelet-client.crt",
            f"--kubelet-client-key={_PKI}/kubelet-client.key",
            f"--kubelet-certificate-authority={_PKI}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            # The aggregation layer, for metrics-server.
            f"--requestheader-client-ca-file={_PKI}/ca.crt",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={_PKI}/front-proxy.crt",
            f"--proxy-client-key-file={_PKI}/front-proxy.key",
        ),
    ),
    Component("containerd", ("containerd", f"--config={STATE}/config/containerd.toml")),
    Component(
        "kube-controller-manager",
        (
            "kube-controller-manager",
            _kubeconfig("kube-controller-manager"),
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--root-ca-file={_PKI}/ca.crt",
            f"--service-account-private-key-file={_PKI}/service-accounts.key",
            "--allocate-node-cidrs",
            f"--cluster-cidr={layout.POD_CIDR}",
            "--node-cidr-mask-size=22",
            f"--service-cluster-ip-range={layout.SERVICE_CIDR}",
        ),
    ),
    Component(
        "kube-scheduler",
        ("kube-scheduler", _kubeconfig("kube-scheduler"), "--leader-elect=false"),
    ),
    Component(
        "kubelet",
        (
            "kubelet",
            _kubeconfig("kubelet"),
            f"--config={STATE}/config/kubelet.yaml",
            f"--hostname-override={layout.NODE}",
            f"--node-ip={layout.NODE_IP}",
        ),
        in_cgroup=True,
        waits_for=layout.CONTAINERD_SOCKET,
    ),
    Component("kube-proxy", ("kube-proxy", f"--config={STATE}/config/kube-proxy.yaml")),
)

BINARIES = (
    *(component.command[0] for component in COMPONENTS),
    "containerd-shim-runc-v2",
    "ctr",
)
"""What must be built for the node to run."""
