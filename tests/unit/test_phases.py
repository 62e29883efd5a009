"""`make test` stops at the first failure and ends with what each phase counted."""

import sys

import pytest

from tests import phases


def _printing(text: str, status: int = 0) -> list[phases.Command]:
    return [(sys.executable, "-c", f"import sys; print({text!r}); sys.exit({status})")]


def test_the_table_repeats_what_pytest_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(phases.PHASES, "unit", _printing("===== 3 passed, 1 skipped in 0.1s ====="))
    monkeypatch.setattr(sys, "argv", ["phases", "unit"])
    assert phases.main() == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("unit "))
    assert row.endswith("3 passed, 1 skipped in 0.1s")


def test_a_phase_that_fails_ends_the_run_with_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(phases.PHASES, "lint", _printing("wrong", status=3))
    monkeypatch.setitem(phases.PHASES, "unit", _printing("never"))
    monkeypatch.setattr(sys, "argv", ["phases", "lint", "unit"])
    assert phases.main() == 3
    assert "never" not in capsys.readouterr().out
