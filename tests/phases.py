"""`python -m tests.phases PHASE...`: runs phases in order, and ends with a table of their times.

Stops at the first phase that fails, with its exit status.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_REPO: Final = Path(__file__).resolve().parents[1]
_BIN: Final = Path(sys.executable).parent
_COUNTS: Final = re.compile(r"^=*\s*(\d+ (?:passed|failed|error|skipped)\b.*?)\s*=*$")

Command = Sequence[str]


def _python(*words: str) -> Command:
    return (sys.executable, *words)


def _pytest(*words: str) -> Command:
    return _python("-m", "pytest", *words)


def _lint() -> list[Command]:
    commands: list[Command] = [
        (str(_BIN / "ruff"), "check", "."),
        (str(_BIN / "ruff"), "format", "--check", "."),
        (str(_BIN / "mypy"),),
        (str(_BIN / "lint-imports"),),
        _python("-m", "ragtenancy_api.crd", "--check"),
        _python("-m", "docs.resources", "--check"),
    ]
    helm = shutil.which("helm", path=f"{_REPO / '.local/bin'}{os.pathsep}{os.environ['PATH']}")
    if helm:
        commands.append((helm, "lint", "--strict", "--quiet", "charts/ragtenancy"))
    return commands


PHASES: Final = {
    "lint": _lint(),
    "unit": [_pytest("tests/unit")],
    "integration": [
        # of the local node's programs only those that these tests run
        _python("-m", "tests.e2e.localnode", "build", "--only", "integration"),
        _pytest("tests/integration", "-m", "not long"),
    ],
    "up": [_python("-m", "tests.e2e.cluster", "up")],
    "images": [_python("-m", "tests.e2e.cluster", "images")],
    "e2e": [_pytest("tests/e2e", "-m", "not long")],
    "long": [_pytest("tests", "-m", "long")],
}


@dataclass
class Result:
    """How one phase went."""

    name: str
    seconds: float
    status: int
    counts: str


def _run(command: Command) -> tuple[int, str]:
    """Run a command, passing its output on; its status and the last counts that pytest printed."""
    counts = ""
    with subprocess.Popen(
        command, cwd=_REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            if found := _COUNTS.match(line.strip()):
                counts = found[1]
    return process.returncode, counts


def _phase(name: str) -> Result:
    started, status, counts = time.monotonic(), 0, ""
    for command in PHASES[name]:
        words = " ".join(command).replace(f"{_BIN}/", "")
        print(f"\n--- {name}: {words}", flush=True)
        status, seen = _run(command)
        counts = seen or counts
        if status != 0:
            break
    return Result(name, time.monotonic() - started, status, counts)


def main() -> int:
    """Run the phases; the exit status of the first that fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.phases", description=__doc__)
    parser.add_argument("phases", nargs="+", choices=list(PHASES), metavar="PHASE")
    results: list[Result] = []
    for name in parser.parse_args().phases:
        results.append(_phase(name))
        if results[-1].status != 0:
            break
    print("\nphase          seconds  result")
    for result in results:
        verdict = "ok" if result.status == 0 else f"FAILED ({result.status})"
        print(f"{result.name:<12} {result.seconds:9.1f}  {verdict:<11} {result.counts}".rstrip())
    total = sum(result.seconds for result in results)
    print(f"{'total':<12} {total:9.1f}", flush=True)
    return results[-1].status


if __name__ == "__main__":
    sys.exit(main())
