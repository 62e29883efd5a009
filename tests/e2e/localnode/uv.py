"""uv, from PyPI, in its own small environment in the cache."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.layout import cache
from tests.e2e.localnode.rootfs import run_inside
from tests.e2e.localnode.shell import run


def uv() -> Path:
    """The path of the pinned uv; installs it when it is missing."""
    home = cache() / f"uv-{versions.UV}"
    program = home / "bin" / "uv"
    if not program.exists():
        run(sys.executable, "-m", "venv", home)
        run(home / "bin" / "pip", "install", "--quiet", f"uv=={versions.UV}")
    return program


def install(requirements: Path, target: Path) -> None:
    """Install a complete, hashed list of requirements for the images' Python into a folder."""
    run(
        uv(), "pip", "install", "--quiet", "--no-config", "--no-deps", "--require-hashes",
        "--python-version", versions.PYTHON, "--python-platform", versions.PYTHON_PLATFORM,
        "--target", target, "--requirement", requirements,
    )  # fmt: skip


def byte_compile(target: Path, skip: str = "") -> None:
    """Compile a folder with the images' Python.

    Pods mount it read-only and so could never keep the .pyc files: every start would compile
    anew. Unchecked, since layers do not keep the sources' times.
    """
    command: Sequence[str] = (
        "python3", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash",
        *(["-x", skip] if skip else []), "/mnt/target",
    )  # fmt: skip
    run_inside({"target": target}, *command)
