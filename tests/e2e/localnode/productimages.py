"""The product's own images, where there is no Docker to build their Dockerfiles.

From the same pinned inputs: uv.lock's packages as one layer, the sources as a small last one,
so that a change of the code costs seconds.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.artefacts import Artefact, ensure
from tests.e2e.localnode.images import BASE_LAYER
from tests.e2e.localnode.layout import REPO
from tests.e2e.localnode.oci import Image, read_layer, tree, write_layer
from tests.e2e.localnode.rootfs import ROOTFS
from tests.e2e.localnode.shell import run
from tests.e2e.localnode.uv import byte_compile, install, uv

_NOT_SOURCES = ("__pycache__", "*.pyc")


@dataclass(frozen=True)
class Product:
    """An image of ours: the extra whose packages it needs and the sources it runs."""

    extra: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"ghcr.io/ragtenancy/{self.extra}:{versions.PRODUCT}"

    @property
    def module(self) -> str:
        return f"ragtenancy_{self.extra}"


PRODUCTS = (
    Product("operator", ("crds/ragtenancy_api", "operator/ragtenancy_operator")),
    Product("runtime", ("crds/ragtenancy_api", "runtime/ragtenancy_runtime")),
)


def product_images() -> list[Image]:
    """Build what changed of our images and return them."""
    return [_image(product) for product in PRODUCTS]


def _image(product: Product) -> Image:
    packages, sources = _packages_layer(product), _sources_layer(product)
    ensure([BASE_LAYER, packages, sources])
    return Image(
        product.name,
        tuple(read_layer(layer.path) for layer in (BASE_LAYER, packages, sources)),
        ("python", "-m", product.module),
        env=("PYTHONPATH=/app:/opt/packages", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"),
        user="65532:65532",
        workdir="/app",
    )


def _packages_layer(product: Product) -> Artefact:
    requirements = run(
        uv(), "export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project",
        "--no-header", "--extra", product.extra, cwd=REPO,
    )  # fmt: skip

    def build(out: Path) -> None:
        (out / "requirements.txt").write_text(requirements)
        packages = out / "packages"
        install(out / "requirements.txt", packages)
        byte_compile(packages)
        write_layer(out, tree(packages, "opt/packages"))
        shutil.rmtree(packages)

    name = f"layer-{product.extra}-packages"
    return Artefact(name, (requirements, versions.PYTHON_PLATFORM), build, (ROOTFS,))


def _sources_layer(product: Product) -> Artefact:
    folders = [REPO / source for source in product.sources]
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            digest.update(f"{path.relative_to(REPO)}\0".encode() + path.read_bytes())

    def build(out: Path) -> None:
        app = out / "app"
        for folder in folders:
            ignore = shutil.ignore_patterns(*_NOT_SOURCES)
            shutil.copytree(folder, app / folder.name, ignore=ignore)
        run("chmod", "-R", "u=rwX,go=rX", app)
        byte_compile(app)
        write_layer(out, tree(app, "app"))
        shutil.rmtree(app)

    return Artefact(f"layer-{product.extra}-sources", (digest.hexdigest(),), build, (ROOTFS,))
