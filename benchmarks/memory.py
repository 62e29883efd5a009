"""`memory`: resident memory of an API pod and of the operator, after 50 tenants and 100 requests.

The requests go to every API pod in turn; the larger pod counts.
"""

import sys
from contextlib import ExitStack

from benchmarks._quickstart import Quickstart, report, say
from tests.e2e.demo.kube import NAMESPACE as SYSTEM
from tests.e2e.product.team import App

TENANTS, REQUESTS = 50, 100


def measure() -> dict[str, float]:
    """Make the tenants and the requests, and read the processes' own metrics."""
    quickstart = Quickstart.ready()
    pods = quickstart.api_pods()
    with ExitStack() as stack:
        addresses = [
            stack.enter_context(quickstart.tools.forwarded("rag", f"pod/{pod}", 8080))
            for pod in pods
        ]
        team = stack.enter_context(quickstart.team(addresses[0]))
        for number in range(TENANTS):
            team.apply(f"t{number}")
        apps = [team.app(f"t{number}") for number in range(TENANTS)]
        say(f"{TENANTS} tenants are Ready")
        for number in range(REQUESTS):
            app = apps[number % TENANTS]
            there = App(app.tenant, app.uid, app.key, app.model, addresses[number % len(addresses)])
            answer = (
                there.put("doc", f"Document {number} says {number * number}.")
                if number < TENANTS
                else there.chat("What does the document say?", max_tokens=8)
            )
            if answer.status_code >= 300:
                raise RuntimeError(f"request {number} failed: {answer.text}")
        selector = "--selector=app.kubernetes.io/name=ragtenancy-operator"
        (operator,) = quickstart.tools.kubectl(
            "get", "pods", f"--namespace={SYSTEM}", selector, "--output=name"
        ).split()
        return {
            "api_mb": round(max(quickstart.resident_mb("rag", pod) for pod in pods), 1),
            "operator_mb": round(quickstart.resident_mb(SYSTEM, operator.removeprefix("pod/")), 1),
        }


if __name__ == "__main__":
    sys.exit(report(measure))
