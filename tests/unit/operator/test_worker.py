"""Which passes are worth a line of the log."""

from typing import Any

import pytest

from ragtenancy_operator.worker import LISTED, REQUEUE, RESYNC, Pass
from ragtenancy_operator.workqueue import RETRY

NOTHING = Pass((RESYNC,), "success", 0.001, 0, None, None)


@pytest.mark.parametrize(
    ("change", "dull"),
    [
        ({}, True),
        ({"cause": (LISTED, RESYNC)}, True),
        ({"cause": (REQUEUE,), "result": "requeue_after", "again": 5.0}, True),
        ({"writes": 1}, False),
        ({"error": "no answer", "result": "error"}, False),
        ({"cause": ("its deployment changed",)}, True),
        ({"cause": (RETRY,)}, False),
        ({"cause": (RESYNC, "event MODIFIED RAGTenant/a/b")}, False),
    ],
)
def test_only_a_pass_that_no_event_asked_for_and_that_did_nothing_is_dull(
    change: dict[str, Any], dull: bool
) -> None:
    made = Pass(**{**NOTHING.__dict__, **change})
    assert made.dull is dull


def test_a_line_says_cause_result_and_duration_and_leaves_out_what_is_not_there() -> None:
    made = Pass(("retry", "event ADDED Secret/a/b"), "success", 0.123456, 2, None, None)
    assert made.fields() == {
        "cause": "retry; event ADDED Secret/a/b",
        "result": "success",
        "seconds": 0.1235,
        "writes": 2,
    }
