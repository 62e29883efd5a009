"""docs/operations.md speaks of every reason that the operator can give, and of no other."""

import re
from pathlib import Path

import pytest

from ragtenancy_operator.metrics import Metrics as OperatorMetrics
from ragtenancy_runtime.metrics import Metrics as RuntimeMetrics
from tests.unit.docs.reasons import Unreadable, given

_ROOT = Path(__file__).resolve().parents[3]
_PAGE = _ROOT / "docs/operations.md"
_TABLE = re.compile(r"^\| reason \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", re.MULTILINE)
_METRIC = re.compile(r"\b(?:ragtenancy|controller_runtime|workqueue|leader_election)_\w+")
_MAKERS = """
from ragtenancy_operator.conditions import Verdict, no, yes

class Refused(Exception):
    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
"""


def _given() -> dict[str, str]:
    sources = (_ROOT / "operator/ragtenancy_operator", _ROOT / "crds/ragtenancy_api")
    files = sorted(file for source in sources for file in source.rglob("*.py"))
    return given({str(file.relative_to(_ROOT)): file.read_text("utf-8") for file in files})


def _documented() -> set[str]:
    """What stands in code in the first column of a table of reasons."""
    rows = [row for table in _TABLE.findall(_PAGE.read_text("utf-8")) for row in table.splitlines()]
    return {reason for row in rows for reason in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_reason_is_documented() -> None:
    documented = _documented()
    assert {reason: at for reason, at in _given().items() if reason not in documented} == {}


def test_no_documented_reason_is_one_that_the_operator_cannot_give() -> None:
    assert _documented() - _given().keys() == set()


def test_every_metric_of_ours_that_is_named_exists() -> None:
    registries = (OperatorMetrics(["RAGTenant"]).registry, RuntimeMetrics().registry)
    families = [family for registry in registries for family in registry.collect()]
    exposed = {
        f"{family.name}{end}"
        for family in families
        for end in {"counter": ("_total",), "histogram": ("_bucket",)}.get(family.type, ("",))
    }
    named = re.findall(_METRIC, _PAGE.read_text("utf-8"))
    assert named and set(named) - exposed == set()


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        ('no("Accepted", "A", "text")', {"A"}),
        ('conditions.yes("Accepted", reason="A")', {"A"}),
        ('Verdict("Accepted", "True", "A")', {"A"}),
        ('async def tell(): await services.events.post(raw, "Warning", "A", "text")', {"A"}),
        ('TABLE = {"HTTPRoute": Refused("A", "text"), "Job": Refused("B", "text")}', {"A", "B"}),
        ('WORD: Final = "A"\ndef verdict(): return no("Accepted", plan.WORD, "text")', {"A"}),
        ('class Rejected(Refused):\n def __init__(self): super().__init__("A", "text")', {"A"}),
        ('class Mine(Refused): pass\nclass Own(Mine): pass\nOwn("A", "text")', {"A"}),
        ('no("Accepted", "A" if late else "B", "text")', {"A", "B"}),
        ('patch = {"conditions": [{"type": "Ready", "reason": "A"}]}', {"A"}),
        ('replace(verdict, status="False", reason="A")', {"A"}),
        (
            """
def trouble() -> tuple[str, str] | None:
    if waits:
        return "A", "text"
    return waiting["reason"], "text" if waiting.get("reason") in _LONG else None

_LONG = frozenset({"B", "C"})

def verdict():
    found = trouble()
    return no("Ready", *found)
""",
            {"A", "B", "C"},
        ),
        (
            """
class Failure(Model):
    reason: Literal["A", "Failed"] = Field(description="text")

def _failure() -> Failure | None: ...

def verdict():
    if failure := _failure():
        reason, message = failure.reason, "text"
        return no("Ready", "B" if reason == "Failed" else reason, message)
""",
            {"A", "B"},
        ),
        ("def _failed(error): return no(kind, error.reason, error.message)", set()),
        ("no(kind, problems[0].reason, error.message)", set()),
        ('logging.info("Accepted", "A")', set()),
    ],
)
def test_each_form_of_giving_a_reason_is_read(source: str, reasons: set[str]) -> None:
    assert set(given({"makers.py": _MAKERS, "source.py": source})) == reasons


@pytest.mark.parametrize(
    "source",
    [
        'no("Accepted", words.pop(), "text")',
        'def verdict(reason): return no("Accepted", reason, "text")',
        'no("Accepted", f"{kind}Missing", "text")',
        'def verdict(waiting): return no("Accepted", waiting["reason"], "text")',
    ],
)
def test_a_reason_that_cannot_be_read_is_an_error(source: str) -> None:
    with pytest.raises(Unreadable, match=r"^source\.py:1: "):
        given({"makers.py": _MAKERS, "source.py": source})
