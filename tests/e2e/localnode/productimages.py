"""The product's own images, where there is no Docker to build their Dockerfiles.

From the same pinned inputs: uv.lock's packages as one layer, the sources as a small last one,
so that a change of the code costs seconds.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.artefacts import Artefact, ensure
from tests.e2e.localnode.images import BASE_LAYER
from tests.e2e.localnode.layout import REPO
from tests.e2e.localnode.oci import Image, read_layer, tree, write_layer
from tests.e2e.localnode.rootfs import ROOTFS
from tests.e2e.localnode.shell import run
from tests.e2e.localnode.sources import files, tag
from tests.e2e.localnode.uv import byte_compile, install, uv

_NOT_SOURCES = ("__pycache__", "*.pyc")


@dataclass(frozen=True)
class Product:
    """An image of ours: the extra whose packages it needs and the sources it runs."""

    extra: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"ghcr.io/ragtenancy/{self.extra}:{tag()}"

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
    layers = (BASE_LAYER, *_packages_layers(product), _sources_layer(product))
    ensure(layers)
    return Image(
        product.name,
        tuple(read_layer(layer.path) for layer in layers),
        ("python", "-m", product.module),
        env=("PYTHONPATH=/app:/opt/packages", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"),
        user="65532:65532",
        workdir="/app",
    )


def _packages_layers(product: Product) -> tuple[Artefact, Artefact]:
    """What all our images need as one layer, stored and unpacked once, then the image's own."""
    common = frozenset.intersection(*(_requirements(each.extra) for each in PRODUCTS))
    return (
        _packages_layer("common", common),
        _packages_layer(product.extra, _requirements(product.extra) - common),
    )


@cache
def _requirements(extra: str) -> frozenset[str]:
    """uv.lock's packages for an extra: each a pinned name with its hashes."""
    exported = run(
        uv(), "export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project",
        "--no-header", "--no-annotate", "--extra", extra, cwd=REPO,
    )  # fmt: skip
    # A package's hashes are on indented lines below its name.
    return frozenset(re.split(r"\n(?=\S)", exported.strip()))


def _packages_layer(name: str, requirements: frozenset[str]) -> Artefact:
    text = "\n".join(sorted(requirements)) + "\n"

    def build(out: Path) -> None:
        (out / "requirements.txt").write_text(text)
        packages = out / "packages"
        install(out / "requirements.txt", packages)
        byte_compile(packages)
        write_layer(out, tree(packages, "opt/packages"))
        shutil.rmtree(packages)

    inputs = (text, versions.PYTHON_PLATFORM)
    return Artefact(f"layer-{name}-packages", inputs, build, (ROOTFS,))


def _sources_layer(product: Product) -> Artefact:
    folders = [REPO / source for source in product.sources]
    digest = hashlib.sha256()
    for folder in folders:
        for path in files(folder):
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
