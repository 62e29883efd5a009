"""Citation markers `[n]` in an answer: found, checked, and those that point nowhere removed."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from ragtenancy_runtime.prompt import Source

_MARKER: Final = re.compile(r"\[([0-9]{1,3})\]")
"""At most three digits, as no prompt holds a thousand sources: `[2024]` is a year."""
_BEGUN: Final = re.compile(r"\[[0-9]{0,3}$")
"""The end of a text that may become a marker with what follows."""


@dataclass(frozen=True, slots=True)
class Citation:
    """One marker that stands in the answer: characters `start` to `end` cite source `index`."""

    index: int
    start: int
    end: int


@dataclass(slots=True)
class MarkerFilter:
    """Lets an answer through piece by piece, holding back only what may be half a marker.

    However the answer is cut into pieces, what comes out is the same. With `sources` 0 nothing is a
    marker and everything passes.
    """

    sources: int
    citations: list[Citation] = field(default_factory=list)
    _held: str = ""
    _length: int = 0

    def feed(self, piece: str) -> str:
        """The text that can be shown after this piece arrived."""
        if not self.sources:
            return piece
        text = self._held + piece
        if "[" not in text:
            self._held = ""
            self._length += len(text)
            return text
        begun = _BEGUN.search(text)
        self._held = text[begun.start() :] if begun else ""
        return self._pass(text[: begun.start()] if begun else text)

    def finish(self) -> str:
        """What was held back, when the answer is over."""
        held, self._held = self._held, ""
        self._length += len(held)
        return held

    def _pass(self, text: str) -> str:
        kept: list[str] = []
        at = 0
        for match in _MARKER.finditer(text):
            kept.append(text[at : match.start()])
            self._length += match.start() - at
            at = match.end()
            index = int(match[1])
            if 1 <= index <= self.sources:
                kept.append(match[0])
                end = self._length + len(match[0])
                self.citations.append(Citation(index, self._length, end))
                self._length = end
        kept.append(text[at:])
        self._length += len(text) - at
        return "".join(kept)


def citation_objects(citations: list[Citation], sources: list[Source]) -> list[dict[str, Any]]:
    """The `citations` of an answer."""
    return [
        {
            "index": citation.index,
            "document_id": sources[citation.index - 1].document_id,
            "chunk_id": sources[citation.index - 1].chunk_id,
            "start_index": citation.start,
            "end_index": citation.end,
        }
        for citation in citations
    ]


def annotations(citations: list[Citation], sources: list[Source]) -> list[dict[str, Any]]:
    """The same as OpenAI's annotations."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": citation.start,
                "end_index": citation.end,
                "title": sources[citation.index - 1].title,
                "url": sources[citation.index - 1].url,
            },
        }
        for citation in citations
    ]
