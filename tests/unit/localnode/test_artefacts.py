"""The cache: built once per input, never seen half-built."""

from pathlib import Path

import pytest

from tests.e2e.localnode.artefacts import Artefact, ensure


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGTENANCY_CACHE", str(tmp_path))
    return tmp_path


def _noting(
    built: list[str], name: str, *, pin: str = "1", needs: tuple[Artefact, ...] = ()
) -> Artefact:
    def build(out: Path) -> None:
        assert all(need.built for need in needs)
        (out / "made").write_text(pin)
        built.append(name)

    return Artefact(name, (pin,), build, needs, lane=name)


def test_it_is_built_once() -> None:
    built: list[str] = []
    ensure([_noting(built, "a")])
    ensure([_noting(built, "a")])
    assert built == ["a"]


def test_another_version_is_built_beside_the_old_one() -> None:
    built: list[str] = []
    old, new = _noting(built, "a", pin="1"), _noting(built, "a", pin="2")
    ensure([old])
    ensure([new])
    assert (old.path / "made").read_text() == "1"
    assert (new.path / "made").read_text() == "2"


def test_what_it_needs_comes_first_though_in_another_lane() -> None:
    built: list[str] = []
    base = _noting(built, "base")
    ensure([_noting(built, "top", needs=(base,))])
    assert built == ["base", "top"]


def test_a_change_below_changes_the_key_above() -> None:
    tops = [_noting([], "top", needs=(_noting([], "base", pin=pin),)) for pin in "12"]
    assert tops[0].key != tops[1].key


def test_a_failed_build_leaves_nothing_that_looks_built() -> None:
    def fail(out: Path) -> None:
        (out / "half").touch()
        raise OSError("disk full")

    broken = Artefact("a", (), fail)
    with pytest.raises(OSError, match="disk full"):
        ensure([broken])
    assert not broken.built


def test_a_failure_in_one_lane_ends_those_who_wait_for_it() -> None:
    def fail(_: Path) -> None:
        raise OSError("no network")

    base = Artefact("base", (), fail, lane="x")
    with pytest.raises(OSError, match="no network"):
        ensure([_noting([], "top", needs=(base,))])
