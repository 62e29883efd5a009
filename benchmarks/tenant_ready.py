"""`tenant_ready`: from `kubectl apply` of a RAGTenant to its condition Ready.

Tenants are made one after another, as a person would, by kubectl: its own start is in the figure.
Right after Ready a request with the Secret's key is made to every ready API pod, and must be
answered within a second.
"""

import sys
import time
from contextlib import ExitStack

from benchmarks._quickstart import Quickstart, percentile, report, say
from tests.e2e.product.team import App

TENANTS = 50
_ANSWER_SECONDS = 1.0


def _check(app: App, addresses: list[str]) -> None:
    for address in addresses:
        started = time.monotonic()
        there = App(app.tenant, app.uid, app.key, app.model, address)
        status = there.request("GET", "/models").status_code
        took = time.monotonic() - started
        if status != 200 or took > _ANSWER_SECONDS:
            raise RuntimeError(
                f"{app.tenant} is Ready, but {address} answered {status} in {took:.2f} s"
            )


def measure() -> dict[str, float]:
    """Make the tenants and time each."""
    quickstart = Quickstart.ready()
    seconds = []
    with ExitStack() as stack:
        addresses = [
            stack.enter_context(quickstart.tools.forwarded("rag", f"pod/{pod}", 8080))
            for pod in quickstart.api_pods()
        ]
        if not addresses:
            raise RuntimeError("no API pod is ready")
        team = stack.enter_context(quickstart.team(addresses[0]))
        for number in range(TENANTS):
            started = time.monotonic()
            team.apply(f"t{number}")
            team.wait(f"t{number}")
            seconds.append(time.monotonic() - started)
            _check(team.app(f"t{number}"), addresses)
            say(f"t{number}: {seconds[-1]:.2f} s")
    return {
        "tenants": TENANTS,
        "p50_s": round(percentile(seconds, 50), 3),
        "p99_s": round(percentile(seconds, 99), 3),
    }


if __name__ == "__main__":
    sys.exit(report(measure))
