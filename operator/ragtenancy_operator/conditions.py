"""Conditions: computed anew in each pass, merged with what is there so that times stay true."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from ragtenancy_api.meta import Condition
from ragtenancy_operator.errors import Refused

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Verdict:
    """What one pass found out about one condition."""

    type: str
    status: Status
    reason: str
    message: str = ""

    @property
    def true(self) -> bool:
        """Whether the condition holds."""
        return self.status == "True"


def yes(kind: str, reason: str, message: str = "") -> Verdict:
    """A condition that holds."""
    return Verdict(kind, "True", reason, message)


def no(kind: str, reason: str, message: str) -> Verdict:
    """A condition that does not hold."""
    return Verdict(kind, "False", reason, message)


def unknown(kind: str, reason: str, message: str) -> Verdict:
    """A condition that cannot be told yet."""
    return Verdict(kind, "Unknown", reason, message)


def sum_up(verdicts: Sequence[Verdict], ready_message: str) -> Verdict:
    """The Ready condition: the first that does not hold gives its reason and message."""
    for verdict in verdicts:
        if not verdict.true:
            return no("Ready", verdict.reason, f"{verdict.type}: {verdict.message}")
    return yes("Ready", "Ready", ready_message)


def refused(refusal: Refused) -> list[Verdict]:
    """The conditions of an object that is not acted on at all."""
    return [
        no("Accepted", refusal.reason, refusal.message),
        no("Ready", refusal.reason, refusal.message),
        yes("Stalled", refusal.reason, refusal.message),
    ]


def merge(
    verdicts: Iterable[Verdict], previous: Iterable[Condition], generation: int
) -> list[dict[str, Any]]:
    """The conditions for the status.

    ``lastTransitionTime`` is kept while the status stays the same. Conditions that no verdict
    speaks of are dropped.
    """
    before = {condition.type: condition for condition in previous}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    merged = []
    for verdict in verdicts:
        old = before.get(verdict.type)
        kept = old is not None and old.status == verdict.status and old.last_transition_time
        merged.append(
            {
                "type": verdict.type,
                "status": verdict.status,
                "reason": verdict.reason,
                "message": verdict.message,
                "observedGeneration": generation,
                "lastTransitionTime": old.last_transition_time if old and kept else now,
            }
        )
    return merged
