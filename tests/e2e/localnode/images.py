"""The images of the local node, under the names that the product's defaults use.

Entrypoints, users and paths are those of the official images, so that nothing above the
container runtime knows the difference.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.artefacts import Artefact
from tests.e2e.localnode.gotools import TOOLS, binary
from tests.e2e.localnode.layout import PACKAGE
from tests.e2e.localnode.oci import File, Image, folder, read_layer, tree, write_layer
from tests.e2e.localnode.rootfs import ROOTFS, rootfs

_FILES = PACKAGE / "rootfiles"
_REDIS_UID = 999
_MODEL_CACHE = "/var/lib/model-cache"

PAUSE = f"localhost/pause:{versions.PAUSE}"
BASE = f"localhost/base:{versions.DEBIAN_SUITE}"
COREDNS = f"localhost/coredns:{versions.COREDNS}"
LOCAL_PATH_PROVISIONER = f"localhost/local-path-provisioner:{versions.LOCAL_PATH_PROVISIONER}"
METRICS_SERVER = f"localhost/metrics-server:{versions.METRICS_SERVER}"
WEAVIATE = f"docker.io/semitechnologies/weaviate:{versions.WEAVIATE}"
REDIS = f"docker.io/library/redis:{versions.REDIS}"
VLLM = f"localhost/vllm-cpu:{versions.VLLM}"

_Content = Callable[[], Iterable[File | tuple[Path, str]]]


def _layer(
    name: str, content: _Content, *needs: Artefact, inputs: tuple[str, ...] = ()
) -> Artefact:
    def build(out: Path) -> None:
        write_layer(out, content())

    return Artefact(f"layer-{name}", inputs, build, needs, lane="layers")


def _binary_layer(tool: str, path: str) -> Artefact:
    return _layer(
        tool, lambda: [File(path, binary(tool), 0o755)], TOOLS[tool], inputs=(path,)
    )  # fmt: skip


def _redis_files() -> list[File]:
    account = f"redis:x:{_REDIS_UID}:{_REDIS_UID}::/data:/usr/sbin/nologin\n"
    # Debian's own redis account has another uid than the official image's.
    passwd = _without_redis("passwd") + account
    group = _without_redis("group") + f"redis:x:{_REDIS_UID}:\n"
    return [
        folder("data", owner=_REDIS_UID),
        File("etc/group", group.encode()),
        File("etc/passwd", passwd.encode()),
        _script("docker-entrypoint.sh"),
    ]


def _without_redis(database: str) -> str:
    lines = (rootfs() / "etc" / database).read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("redis:"))


def _script(name: str) -> File:
    return File(f"usr/local/bin/{name}", (_FILES / name).read_bytes(), 0o755)


BASE_LAYER = _layer("base", lambda: tree(rootfs()), ROOTFS)
_REDIS_LAYER = _layer(
    "redis", _redis_files, ROOTFS, inputs=((_FILES / "docker-entrypoint.sh").read_text(),)
)
_VLLM_LAYER = _layer(
    "vllm",
    lambda: [folder(_MODEL_CACHE), folder("vllm-workspace"), _script("vllm")],
    inputs=((_FILES / "vllm").read_text(),),
)
_WEAVIATE_LAYER = _binary_layer("weaviate-server", "usr/bin/weaviate")
_PAUSE_LAYER = _binary_layer("pause", "pause")
_COREDNS_LAYER = _binary_layer("coredns", "coredns")
_PROVISIONER_LAYER = _binary_layer("local-path-provisioner", "usr/bin/local-path-provisioner")
_METRICS_LAYER = _binary_layer("metrics-server", "metrics-server")

LAYERS = (
    BASE_LAYER,
    _REDIS_LAYER,
    _VLLM_LAYER,
    _WEAVIATE_LAYER,
    _PAUSE_LAYER,
    _COREDNS_LAYER,
    _PROVISIONER_LAYER,
    _METRICS_LAYER,
)


def third_party() -> list[Image]:
    """All images but the product's own; their layers must be built."""
    base = read_layer(BASE_LAYER.path)
    return [
        Image(PAUSE, (read_layer(_PAUSE_LAYER.path),), ("/pause",), user="65535:65535"),
        Image(BASE, (base,)),
        Image(COREDNS, (read_layer(_COREDNS_LAYER.path),), ("/coredns",), user="65532:65532"),
        Image(
            LOCAL_PATH_PROVISIONER,
            (base, read_layer(_PROVISIONER_LAYER.path)),
            ("local-path-provisioner",),
        ),
        Image(METRICS_SERVER, (read_layer(_METRICS_LAYER.path),), ("/metrics-server",)),
        Image(
            WEAVIATE,
            (base, read_layer(_WEAVIATE_LAYER.path)),
            ("/bin/weaviate",),
            ("--host", "0.0.0.0", "--port", "8080", "--scheme", "http"),
        ),
        Image(
            REDIS,
            (base, read_layer(_REDIS_LAYER.path)),
            ("docker-entrypoint.sh",),
            ("redis-server",),
            workdir="/data",
        ),
        Image(
            VLLM,
            (base, read_layer(_VLLM_LAYER.path)),
            ("vllm", "serve"),
            env=(
                f"PYTHONPATH={_MODEL_CACHE}/.packages",
                # there is no compiler in the image: logprobs with n > 1 would end the engine
                "TORCHDYNAMO_DISABLE=1",
            ),
            workdir="/vllm-workspace",
        ),
    ]
