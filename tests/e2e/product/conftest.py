"""The quickstart on the cluster, as a user would install it, and teams to test with."""

import json
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.e2e.cluster import choose
from tests.e2e.demo.kube import NAMESPACE, Tools
from tests.e2e.product.team import Team

_MODELS_SECONDS = 1800
_ROLL_SECONDS = 180


@pytest.fixture(scope="session")
def tools(kubeconfig: Path) -> Tools:
    """kubectl and helm, with the chart installed under Pod Security and the quickstart Ready."""
    made = Tools.of(choose())
    restricted = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    made.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(restricted))
    made.install()
    made.apply_quickstart()
    made.wait_ready("ragdeployment", "rag", "main", _MODELS_SECONDS, print)
    made.wait_current(_ROLL_SECONDS)
    return made


@pytest.fixture(scope="module")
def team(tools: Tools, request: pytest.FixtureRequest) -> Iterator[Team]:
    """A namespace of the module's own, gone with its tenants afterwards."""
    name = f"team-{request.module.__name__.rpartition('_')[2]}-{token_hex(3)}"
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "rag.example.com/tenants": "allowed",
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }
    tools.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
    with tools.forwarded("rag", "main-api", 80) as address:
        yield Team(tools, name, address)
    tools.kubectl("delete", "namespace", name, "--wait=false")
