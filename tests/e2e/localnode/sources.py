"""Which state of the product's sources an image holds: its tag says so.

A pod whose image has another tag is replaced, so no test runs against code of yesterday.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.layout import REPO

_FOLDERS = ("crds/ragtenancy_api", "operator", "runtime")


def files(folder: Path) -> Iterator[Path]:
    """The source files of a folder, in order."""
    return (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".pyc")


@cache
def tag() -> str:
    """The tag of this state's images: the version and a hash of sources and locked packages."""
    digest = hashlib.sha256((REPO / "uv.lock").read_bytes())
    for folder in _FOLDERS:
        for path in files(REPO / folder):
            digest.update(f"{path.relative_to(REPO)}\0".encode() + path.read_bytes())
    return f"{versions.PRODUCT}-{digest.hexdigest()[:12]}"
