from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ragtenancy_runtime.citations import MarkerFilter

ANSWERS = st.lists(
    st.sampled_from(
        ["[1]", "[2]", "[9]", "[", "]", "1", "[[", "12", "[0]", "[1234]", " word", "[1", "漢"]
    ),
    max_size=30,
).map("".join)


def run(pieces: list[str], sources: int) -> tuple[str, MarkerFilter]:
    shown = MarkerFilter(sources)
    return "".join([*(shown.feed(piece) for piece in pieces), shown.finish()]), shown


def test_a_marker_of_a_source_stays_and_one_of_nothing_goes() -> None:
    text, shown = run(["So it is [1], and so [3] too [2][0]."], 2)
    assert text == "So it is [1], and so  too [2]."
    assert [(c.index, text[c.start : c.end]) for c in shown.citations] == [(1, "[1]"), (2, "[2]")]


def test_brackets_that_are_no_markers_stay() -> None:
    for text in ("a[i]", "[see 1]", "[2024]", "[", "x [1", "[]", "[1 ]"):
        assert run([text], 1)[0] == text


def test_nothing_is_a_marker_without_sources() -> None:
    assert run(["[1] and [", "2]"], 0)[0] == "[1] and [2]"


def test_only_what_may_be_half_a_marker_is_held_back() -> None:
    shown = MarkerFilter(3)
    assert shown.feed("It is so [") == "It is so "
    assert shown.feed("2") == ""
    assert shown.feed("] indeed") == "[2] indeed"


@given(ANSWERS, st.integers(0, 12), st.data())
def test_however_an_answer_is_cut_the_result_is_the_same(
    answer: str, sources: int, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=12)))
    bounds = [0, *cuts, len(answer)]
    pieces = [answer[start:end] for start, end in pairwise(bounds)]
    whole, one = run([answer], sources)
    split, many = run(pieces, sources)
    assert split == whole
    assert many.citations == one.citations
    for citation in many.citations:
        assert split[citation.start : citation.end] == f"[{citation.index}]"
