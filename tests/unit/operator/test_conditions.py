"""Conditions keep their times while their status stays."""

from ragtenancy_api.meta import Condition
from ragtenancy_operator.conditions import merge, no, sum_up, yes

BEFORE = "2020-01-01T00:00:00Z"


def held(status: str) -> Condition:
    return Condition.model_validate(
        {"type": "Ready", "status": status, "reason": "X", "lastTransitionTime": BEFORE}
    )


def test_the_time_stays_while_the_status_stays_though_the_reason_changes() -> None:
    (merged,) = merge([no("Ready", "Other", "m")], [held("False")], 3)
    assert merged["lastTransitionTime"] == BEFORE
    assert merged["reason"] == "Other"
    assert merged["observedGeneration"] == 3


def test_the_time_moves_with_the_status() -> None:
    (merged,) = merge([yes("Ready", "Ready")], [held("False")], 3)
    assert merged["lastTransitionTime"] > BEFORE


def test_conditions_nobody_speaks_of_are_dropped() -> None:
    assert merge([], [held("True")], 1) == []


def test_the_sum_is_ready_only_when_all_parts_are() -> None:
    assert sum_up([yes("A", "Fine")], "ok").true
    verdict = sum_up([yes("A", "Fine"), no("B", "Broken", "why"), no("C", "Too", "x")], "ok")
    assert (verdict.reason, verdict.message) == ("Broken", "B: why")
