"""The local node after a crash, and what is left when it is gone.

These take the machine's node down: they run only when they are asked for (`make test-long`).
"""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.localnode import node
from tests.e2e.localnode.addons import kubectl
from tests.e2e.localnode.processes import node_processes

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _asked_for(request: pytest.FixtureRequest) -> None:
    """A bare `pytest` must not take a developer's node down."""
    if request.config.getoption("markexpr") != "long":
        pytest.skip("takes the local node down; run with -m long")


def test_it_comes_up_again_after_everything_was_killed() -> None:
    node.up()
    for pid in node_processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            # It ended with its parent.
            continue
    assert node.leftovers()
    node.up()
    assert node.healthy()


def test_a_component_that_dies_is_started_again() -> None:
    node.up()
    [scheduler] = [
        pid for pid in node_processes() if _name(pid) == "kube-scheduler"
    ]  # fmt: skip
    os.kill(scheduler, signal.SIGKILL)
    kubectl("run", "after", "--image=localhost/base:trixie", "--command", "--", "sleep", "600")
    kubectl("wait", "--for=condition=Ready", "pod/after", "--timeout=60s")
    kubectl("delete", "pod/after", "--now")


def test_nothing_is_left_when_it_is_down() -> None:
    node.up()
    node.down()
    assert node.leftovers() == []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
