"""Splits a document's text into chunks, along its headings, paragraphs and sentences."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from ragtenancy_runtime.ports import Chunk, Tokenizer

CHUNKER_VERSION: Final = "1"
"""Part of a document's content hash: raise it when the same text splits differently."""

_HEADING: Final = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
_FENCE: Final = re.compile(r"^(```|~~~).*?(?:^\1[^\n]*$|\Z)", re.MULTILINE | re.DOTALL)
_BREAK: Final = re.compile(r"\n[ \t]*\n\s*|\n|(?<=[.!?])[ \t]+|(?<=[。！？])")  # noqa: RUF001
_CHARACTERS_PER_TOKEN: Final = 16
"""Bound for texts that a tokenizer takes for one long word."""


@dataclass(frozen=True, slots=True)
class _Section:
    heading: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence or line; `closes` a paragraph when a blank line follows."""

    start: int
    end: int
    tokens: int
    closes: bool


@dataclass(frozen=True, slots=True)
class _Shape:
    """Tokens of a chunk at most, and those that it repeats of the one before at most."""

    limit: int
    overlap: int


def _sections(text: str) -> Iterator[_Section]:
    """The text from heading to heading. A heading with nothing below stays with what follows."""
    fences = [match.span() for match in _FENCE.finditer(text)]
    headings = [
        match
        for match in _HEADING.finditer(text)
        if not any(start <= match.start() < end for start, end in fences)
    ]
    path: list[tuple[int, str]] = []
    start = 0
    if not headings or text[: headings[0].start()].strip():
        end = headings[0].start() if headings else len(text)
        yield _Section("", 0, end)
        start = end
    for at, match in enumerate(headings):
        level = len(match[1])
        path = [*((depth, name) for depth, name in path if depth < level), (level, match[2])]
        end = headings[at + 1].start() if at + 1 < len(headings) else len(text)
        if text[match.end() : end].strip() or at + 1 == len(headings):
            yield _Section(" > ".join(name for _, name in path), start, end)
            start = end


def _spans(text: str, section: _Section, longest: int) -> Iterator[tuple[int, int, bool]]:
    """Sentences and lines of a section; none has more than `longest` characters."""
    cuts = [(section.start, False)]
    for match in _BREAK.finditer(text, section.start, section.end):
        cuts.append((match.end(), match[0].count("\n") > 1))
    cuts.append((section.end, True))
    for (start, _), (end, closes) in pairwise(cuts):
        for at in range(start, end, longest):
            stop = min(at + longest, end)
            yield at, stop, closes and stop == end


def _units(text: str, section: _Section, limit: int, tokenizer: Tokenizer) -> list[_Unit]:
    spans = list(_spans(text, section, limit * _CHARACTERS_PER_TOKEN))
    counts = tokenizer.counts([text[start:end] for start, end, _ in spans])
    units: list[_Unit] = []
    for (start, end, closes), count in zip(spans, counts, strict=True):
        whole = _Unit(start, end, count, closes)
        for unit in [whole] if count <= limit else _windows(text, whole, limit, tokenizer):
            if text[unit.start : unit.end].strip():
                units.append(unit)
            elif units and unit.closes:
                # White space says nothing, but blank lines end a paragraph.
                units[-1] = replace(units[-1], closes=True)
    return units


def _windows(text: str, unit: _Unit, limit: int, tokenizer: Tokenizer) -> Iterator[_Unit]:
    """A sentence that is too long, cut after every `limit` tokens or before.

    Cut out of its context a piece may take more tokens than it had in it: it is then made shorter.
    """
    start, end = unit.start, unit.end
    offsets = [(start + first, start + last) for first, last in tokenizer.offsets(text[start:end])]
    at = 0
    while start < end:
        while at < len(offsets) and offsets[at][1] <= start:
            at += 1
        take = limit
        while True:
            stop = offsets[at + take][0] if at + take < len(offsets) else end
            stop = max(stop, start + 1)
            (count,) = tokenizer.counts([text[start:stop]])
            if count <= limit or take == 1:
                break
            take = max(1, take * limit // (count + 1))
        yield _Unit(start, stop, count, unit.closes and stop == end)
        start = stop


def _pack(
    text: str, units: list[_Unit], shape: _Shape, tokenizer: Tokenizer
) -> Iterator[list[_Unit]]:
    """Groups of units that fit the limit; each group begins with the end of the one before.

    A text may take more tokens than its parts do: what does not fit as a whole is made shorter.
    """
    at = 0
    carried: list[_Unit] = []
    while at < len(units):
        taken = sum(unit.tokens for unit in carried)
        stop = at
        while stop < len(units) and taken + units[stop].tokens <= shape.limit:
            taken += units[stop].tokens
            stop += 1
        if stop < len(units):
            stop = _paragraph_end(units, at, stop)
        while stop > at and not _fits(text, [*carried, *units[at:stop]], shape.limit, tokenizer):
            stop -= 1
        if stop == at:
            if carried:
                carried = []
                continue
            stop = at + 1
        group = [*carried, *units[at:stop]]
        yield group
        carried, left = [], shape.overlap
        for unit in reversed(group[1:]):
            if unit.tokens > left:
                break
            carried.insert(0, unit)
            left -= unit.tokens
        at = stop


def _fits(text: str, group: list[_Unit], limit: int, tokenizer: Tokenizer) -> bool:
    if len(group) == 1:
        return True
    return tokenizer.counts([text[group[0].start : group[-1].end].strip()])[0] <= limit


def _paragraph_end(units: list[_Unit], at: int, stop: int) -> int:
    """Where to end a full group: at its last paragraph's end, if that leaves half of it."""
    total = sum(unit.tokens for unit in units[at:stop])
    kept = total
    for end in range(stop, at, -1):
        if units[end - 1].closes:
            return end
        kept -= units[end - 1].tokens
        if kept < total / 2:
            break
    return stop


def split(text: str, tokens: int, overlap: int, tokenizer: Tokenizer) -> list[Chunk]:
    """Split a text into chunks of at most `tokens` tokens, special ones included.

    Every character but white space is in a chunk; `text[chunk.start:chunk.end] == chunk.text`. A
    chunk lies within one section; in it, it repeats at most `overlap` tokens of the one before.
    """
    limit = max(1, tokens - tokenizer.special)
    chunks: list[Chunk] = []
    for section in _sections(text):
        units = _units(text, section, limit, tokenizer)
        for group in _pack(text, units, _Shape(limit, overlap), tokenizer):
            chunk = _chunk(text, len(chunks), section.heading, group)
            if chunk.text:
                chunks.append(chunk)
    return chunks


def _chunk(text: str, position: int, heading: str, group: list[_Unit]) -> Chunk:
    start, end = group[0].start, group[-1].end
    body = text[start:end]
    start += len(body) - len(body.lstrip())
    body = body.strip()
    return Chunk(position, body, heading, start, start + len(body))
