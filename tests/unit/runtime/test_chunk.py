from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ragtenancy_runtime.ingest.chunk import split
from ragtenancy_runtime.tokens import ByteTokenizer

BYTES = ByteTokenizer()
TEXTS = st.lists(
    st.sampled_from(
        [
            "# One\n",
            "## Two\n",
            "word ",
            "A sentence. ",
            "\n\n",
            "\n",
            "é",
            "漢字。",
            "x" * 40,
            "```\n",
            " ",
        ]
    ),
    max_size=60,
).map("".join) | st.text(max_size=300)


@given(TEXTS, st.integers(8, 64), st.integers(0, 6))
def test_chunks_are_pieces_of_the_text_and_leave_nothing_out(
    text: str, tokens: int, overlap: int
) -> None:
    chunks = split(text, tokens, overlap, BYTES)
    covered = [False] * len(text)
    for at, chunk in enumerate(chunks):
        assert chunk.position == at
        assert chunk.text == text[chunk.start : chunk.end] and chunk.text.strip() == chunk.text
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    assert all(seen or character.isspace() for seen, character in zip(covered, text, strict=True))


@given(TEXTS, st.integers(8, 64), st.integers(0, 6))
def test_no_chunk_is_longer_than_the_model_takes(text: str, tokens: int, overlap: int) -> None:
    for chunk in split(text, tokens, overlap, BYTES):
        assert BYTES.counts([chunk.text])[0] + BYTES.special <= tokens


@given(TEXTS, st.integers(8, 64), st.integers(0, 6))
def test_each_chunk_goes_further_than_the_one_before(text: str, tokens: int, overlap: int) -> None:
    for before, after in pairwise(split(text, tokens, overlap, BYTES)):
        assert after.start > before.start and after.end > before.end


def test_a_chunk_knows_the_headings_above_it() -> None:
    text = "Preface.\n\n# A\n\n## B\n\nText of b.\n\n### C\n\nText of c.\n\n## D\n\nText of d.\n"
    found = [(chunk.heading, chunk.text) for chunk in split(text, 100, 0, BYTES)]
    assert found == [
        ("", "Preface."),
        ("A > B", "# A\n\n## B\n\nText of b."),
        ("A > B > C", "### C\n\nText of c."),
        ("A > D", "## D\n\nText of d."),
    ]


def test_a_hash_in_a_code_block_is_no_heading() -> None:
    text = "# A\n\n```\n# comment\nmore\n```\n\nend"
    assert [chunk.heading for chunk in split(text, 100, 0, BYTES)] == ["A"]


def test_chunks_end_with_paragraphs_where_that_fills_them_half() -> None:
    paragraph = "Words and more words here."
    text = "\n\n".join([paragraph] * 4)
    chunks = split(text, 2 * len(paragraph) + 12, 0, BYTES)
    assert [chunk.text for chunk in chunks] == [f"{paragraph}\n\n{paragraph}"] * 2


def test_a_chunk_begins_with_the_last_sentences_of_the_one_before() -> None:
    text = "One is it. Two is it. Three is. Four is it. Five is it."
    first, second, *_ = split(text, 36, 12, BYTES)
    assert first.text.endswith("Three is.") and second.text.startswith("Three is.")
