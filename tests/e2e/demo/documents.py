"""Real documents for the demo: Python's own documentation, cut into one document a page.

It comes from Debian's package where apt is there, else from docs.python.org.
"""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bs4 import BeautifulSoup, Tag

from tests.e2e.localnode.layout import cache

_ARCHIVE_VERSION: Final = "3.13"
_ARCHIVE: Final = (
    f"https://docs.python.org/{_ARCHIVE_VERSION}/archives/"
    f"python-{_ARCHIVE_VERSION}-docs-html.tar.bz2"
)
TUTORIAL: Final = tuple(
    f"tutorial/{page}"
    for page in (
        "appetite", "classes", "controlflow", "datastructures", "errors", "floatingpoint",
        "inputoutput", "interpreter", "modules", "venv",
    )
)  # fmt: skip
LIBRARY: Final = tuple(
    f"library/{page}"
    for page in (
        "bisect", "contextlib", "fnmatch", "glob", "graphlib", "heapq", "json", "pathlib",
        "sched", "secrets", "shelve", "tempfile", "textwrap", "zlib",
    )
)  # fmt: skip
"""Pages of two parts, of some 200 chunks each."""

_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_SKIPPED: Final = ("a.headerlink", "script", "style", "nav", "div.sphinxsidebar", "table.footnote")


@dataclass(frozen=True)
class Page:
    """One page of documentation."""

    id: str
    title: str
    text: str


def pages(names: tuple[str, ...]) -> list[Page]:
    """Pages by their names; ``tutorial/classes`` becomes the document ``tutorial.classes``."""
    folder = _html()
    return [read_page(name, (folder / f"{name}.html").read_text("utf-8")) for name in names]


def read_page(name: str, html: str) -> Page:
    """A page: its first heading as title, ``#`` before the others, fences around code."""
    body = BeautifulSoup(html, "html.parser").select_one("div.body, div[role=main]")
    if body is None:
        raise ValueError(f"{name}.html has no body")
    for unwanted in body.select(",".join(_SKIPPED)):
        unwanted.decompose()
    first, *blocks = _blocks(body)
    title = first.removeprefix("# ")
    return Page(name.replace("/", "."), title, "\n\n".join(blocks))


def _blocks(element: Tag) -> Iterator[str]:
    for child in element.find_all(True, recursive=False):
        if child.name in _HEADINGS:
            yield f"{'#' * _HEADINGS[child.name]} {_line(child)}"
        elif child.name == "pre":
            yield f"```\n{child.get_text().strip()}\n```"
        elif child.name in ("p", "dt", "tr"):
            if text := _line(child):
                yield text
        else:
            yield from _blocks(child)


def _line(element: Tag) -> str:
    return re.sub(r"\s+", " ", element.get_text()).strip()


def _html() -> Path:
    """The folder with the documentation's HTML, fetched once for each version."""
    package = _package()
    folder = cache() / "python-docs" / (package or f"docs.python.org-{_ARCHIVE_VERSION}")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            fetched = _from_debian(package, Path(scratch)) if package else _online(Path(scratch))
            fetched.rename(folder)
    return folder


def _package() -> str | None:
    """``NAME=VERSION`` of Debian's newest package with the documentation; None without apt."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    for refresh in (False, True):
        if refresh and os.geteuid() == 0:
            _run("apt-get", "update", "-qq")
        listed = _run("apt-cache", "show", "--no-all-versions", "python3-doc", check=False)
        depends = re.search(r"^Depends: .*?(python3\.\d+-doc)", listed, re.MULTILINE)
        if depends is None:
            continue
        shown = _run("apt-cache", "show", "--no-all-versions", depends[1], check=False)
        if version := re.search(r"^Version: (\S+)", shown, re.MULTILINE):
            return f"{depends[1]}={version[1]}"
    return None


def _from_debian(package: str, scratch: Path) -> Path:
    _run("apt-get", "download", "-qq", package, cwd=scratch)
    (archive,) = scratch.glob("*.deb")
    _run("dpkg-deb", "-x", str(archive), str(scratch / "files"))
    name = package.partition("=")[0].removesuffix("-doc")
    return scratch / "files/usr/share/doc" / name / "html"


def _online(scratch: Path) -> Path:
    archive, _ = urllib.request.urlretrieve(_ARCHIVE, scratch / "docs.tar.bz2")
    with tarfile.open(archive) as files:
        files.extractall(scratch / "files", filter="data")
    (folder,) = (scratch / "files").iterdir()
    return folder


def _run(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout
