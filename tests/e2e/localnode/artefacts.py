"""The cache: one folder per built thing, keyed by a hash of all that went into it."""

import fcntl
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.localnode.layout import cache
from tests.e2e.localnode.shell import say

_LONG_BUILD = 6
"""With this many missing artefacts the build is called cold."""


@dataclass(frozen=True)
class Artefact:
    """Something that is built once for its inputs.

    Attributes:
        name: Also the start of its folder's name.
        inputs: Everything pinned that decides the result; hashed into the folder's name.
        build: Fills the empty folder it is given.
        needs: Artefacts that must exist first; their keys are part of this one's.
        lane: Artefacts of one lane are built one after the other, lanes side by side.
    """

    name: str
    inputs: tuple[str, ...]
    build: Callable[[Path], None] = field(compare=False)
    needs: tuple["Artefact", ...] = ()
    lane: str = "main"

    @property
    def key(self) -> str:
        """A hash of the inputs, here and below."""
        words = [self.name, *self.inputs, *(need.key for need in self.needs)]
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Where it is, once built."""
        return cache() / f"{self.name}-{self.key}"

    @property
    def built(self) -> bool:
        """Whether it is there; a folder gets its name only when it is complete."""
        return self.path.is_dir()


def ensure(wanted: Sequence[Artefact]) -> None:
    """Build what is missing of `wanted` and of what that needs, in the order given."""
    if all(artefact.built for artefact in _with_needs(wanted)):
        return
    with _only_builder():
        missing = [artefact for artefact in _with_needs(wanted) if not artefact.built]
        if missing:
            _Build(missing).run()


def _with_needs(wanted: Sequence[Artefact]) -> list[Artefact]:
    ordered: dict[Artefact, None] = {}

    def visit(artefact: Artefact) -> None:
        for need in artefact.needs:
            visit(need)
        ordered.setdefault(artefact)

    for artefact in wanted:
        visit(artefact)
    return list(ordered)


@contextmanager
def _only_builder() -> Iterator[None]:
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in cache().glob(".building-*"):
            shutil.rmtree(stale)
        yield


class _Build:
    """One run over the missing artefacts: a thread per lane, progress, the first error."""

    def __init__(self, missing: list[Artefact]) -> None:
        self._missing = missing
        self._done = {artefact: threading.Event() for artefact in missing}
        self._failed: list[BaseException] = []
        self._lock = threading.Lock()
        self._count = 0

    def run(self) -> None:
        names = ", ".join(artefact.name for artefact in self._missing)
        say(f"to build: {names} (kept in {cache()})")
        if len(self._missing) >= _LONG_BUILD:
            say("a cold build takes about half an hour on two cores; it happens once per version")
        lanes = dict.fromkeys(artefact.lane for artefact in self._missing)
        threads = [threading.Thread(target=self._lane, args=(lane,), daemon=True) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _lane(self, lane: str) -> None:
        try:
            for artefact in self._missing:
                if artefact.lane == lane:
                    self._one(artefact)
        except BaseException as error:
            self._failed.append(error)

    def _one(self, artefact: Artefact) -> None:
        for need in artefact.needs:
            event = self._done.get(need)
            while event and not event.wait(0.5):
                if self._failed:
                    return
        if self._failed:
            return
        with self._lock:
            self._count += 1
            say(f"building {artefact.name} ({self._count} of {len(self._missing)})")
        started = time.monotonic()
        workdir = cache() / f".building-{artefact.path.name}"
        workdir.mkdir()
        artefact.build(workdir)
        workdir.rename(artefact.path)
        say(f"built {artefact.name} in {time.monotonic() - started:.0f} s")
        self._done[artefact].set()
