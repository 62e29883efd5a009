"""Turns what the chat server sends into what the client gets. No I/O: bytes in, bytes out.

Most chunks of a stream carry one token: they are rebuilt from a template around its text, as
encoding the whole object again would cost more than everything else that is done for a token.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from ragtenancy_runtime.citations import MarkerFilter, annotations, citation_objects
from ragtenancy_runtime.errors import UpstreamFailed
from ragtenancy_runtime.prompt import Source

DONE: Final = b"[DONE]"
_PLAIN: Final = frozenset({"role", "content"})


@dataclass(slots=True)
class Answer:
    """An answer as it grows: what is known of it now."""

    request_id: str
    model: str
    created: int
    sources: list[Source] | None
    """None when nothing was retrieved for it: then it says nothing of sources."""
    marked: bool = True
    """Whether `[n]` in it is a citation."""
    usage: dict[str, Any] | None = None
    """The server's own last count."""
    finish_reasons: dict[int, str] = field(default_factory=dict)
    done: bool = False
    _completion: dict[int, int] = field(default_factory=dict)
    _text: list[str] = field(default_factory=list)
    _filters: dict[int, MarkerFilter] = field(default_factory=dict)
    _template: tuple[bytes, bytes] = (b"", b"")

    def __post_init__(self) -> None:
        head = json.dumps(self._chunk([])).encode().removesuffix(b"[]}")
        self._template = (
            head + b'[{"index":0,"delta":{"content":',
            b'},"finish_reason":null}]}',
        )

    @property
    def text(self) -> str:
        """The first choice's text, as the client has it."""
        return "".join(self._text)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far: the server's count, or a bound where it sends none.

        No token is shorter than a byte, so a text has at most as many as it has bytes.
        """
        if self.usage is not None:
            return max(
                int(self.usage.get("completion_tokens") or 0), sum(self._completion.values())
            )
        return len(self.text.encode())

    def filter(self, choice: int) -> MarkerFilter:
        """The marker filter of one choice."""
        found = self._filters.get(choice)
        if found is None:
            count = len(self.sources) if self.sources and self.marked else 0
            found = self._filters[choice] = MarkerFilter(count)
        return found

    def start(self) -> bytes:
        """The first chunk: the role, and the sources once."""
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        if self.sources is not None:
            delta["sources"] = self._sources()
        return self._encode([{"index": 0, "delta": delta, "finish_reason": None}])

    def feed(self, data: bytes) -> bytes | None:
        """The chunk for the client that follows from one of the server's; None: nothing yet.

        Raises:
            UpstreamFailed: The server reports an error, or sends what is not a chunk.
        """
        if data == DONE:
            self.done = True
            return None
        try:
            chunk = json.loads(data)
            if "error" in chunk:
                raise UpstreamFailed("error in the stream")
            choices = chunk["choices"]
            self._count(chunk.get("usage"), choices)
            if len(choices) == 1:
                choice = choices[0]
                delta = choice["delta"]
                if (
                    choice["finish_reason"] is None
                    and not choice.get("logprobs")
                    and choice["index"] == 0
                    and delta.keys() <= _PLAIN
                ):
                    return self._plain(delta.get("content"))
            out = [entry for choice in choices if (entry := self._choice(choice)) is not None]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UpstreamFailed("not a chat completion chunk") from error
        return self._encode(out) if out else None

    def usage_chunk(self) -> bytes:
        """The last chunk of a stream whose client asked for usage."""
        return json.dumps({**self._chunk([]), "usage": self.usage}).encode()

    def whole(self, completion: dict[str, Any]) -> bytes:
        """The plain answer that follows from the server's.

        Raises:
            UpstreamFailed: It is not a chat completion.
        """
        try:
            self.usage = completion["usage"]
            choices = [self._message(choice) for choice in completion["choices"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise UpstreamFailed("not a chat completion") from error
        return json.dumps(
            {**self._chunk(choices), "object": "chat.completion", "usage": self.usage}
        ).encode()

    def _message(self, choice: dict[str, Any]) -> dict[str, Any]:
        index = choice["index"]
        # what the server adds of its own (audio, reasoning) is no part of the contract: a cached
        # answer must be the same
        message = {name: choice["message"].get(name) for name in ("role", "content")}
        if tools := choice["message"].get("tool_calls"):
            message["tool_calls"] = tools
        shown = self.filter(index)
        if isinstance(message.get("content"), str):
            message["content"] = shown.feed(message["content"]) + shown.finish()
            if index == 0:
                self._text.append(message["content"])
        if self.sources is not None:
            message["sources"] = self._sources()
            message |= self._cited(index)
        self.finish_reasons[index] = choice["finish_reason"]
        kept = {"index": index, "message": message, "finish_reason": choice["finish_reason"]}
        if choice.get("logprobs"):
            kept["logprobs"] = choice["logprobs"]
        return kept

    def _count(self, usage: dict[str, Any] | None, choices: list[Any]) -> None:
        if not usage:
            return
        self.usage = usage
        if choices:  # vLLM's continuous count is the one of this choice
            self._completion[choices[0]["index"]] = int(usage.get("completion_tokens") or 0)
        else:
            self._completion.clear()

    def _plain(self, content: str | None) -> bytes | None:
        if not content:
            return None
        shown = self.filter(0).feed(content)
        if not shown:
            return None
        self._text.append(shown)
        head, tail = self._template
        return head + json.dumps(shown).encode() + tail

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        index, reason = choice["index"], choice["finish_reason"]
        delta = dict(choice["delta"])
        shown = self.filter(index)
        text = shown.feed(delta.get("content") or "")
        if reason is not None:
            self.finish_reasons[index] = reason
            text += shown.finish()
            if self.sources is not None:
                delta |= self._cited(index)
        if index == 0:
            delta.pop("role", None)
            self._text.append(text)
        if text or "content" in delta:
            delta["content"] = text
        if not delta.get("content") and delta.keys() <= {"content"} and reason is None:
            return None
        kept = {"index": index, "delta": delta, "finish_reason": reason}
        if choice.get("logprobs"):
            kept["logprobs"] = choice["logprobs"]
        return kept

    def _sources(self) -> list[dict[str, Any]]:
        return [source.wire(at) for at, source in enumerate(self.sources or (), start=1)]

    def _cited(self, choice: int) -> dict[str, Any]:
        found = self.filter(choice).citations
        sources = self.sources or []
        return {
            "citations": citation_objects(found, sources),
            "annotations": annotations(found, sources),
        }

    def _chunk(self, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.request_id}",
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _encode(self, choices: list[Any]) -> bytes:
        return json.dumps(self._chunk(choices)).encode()

    def restored(self, text: str, finish_reason: str) -> bytes:
        """The plain answer around a text that was filtered before."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self.sources is not None:
            message["sources"] = self._sources()
            message |= self._cited(0)
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        return json.dumps(
            {**self._chunk([choice]), "object": "chat.completion", "usage": self.usage}
        ).encode()

    def replayed(self, text: str, finish_reason: str) -> list[bytes]:
        """The chunks of a stream around a text that was filtered before."""
        last: dict[str, Any] = {"content": ""}
        if self.sources is not None:
            last |= self._cited(0)
        return [
            self.start(),
            self._encode([{"index": 0, "delta": {"content": text}, "finish_reason": None}]),
            self._encode([{"index": 0, "delta": last, "finish_reason": finish_reason}]),
        ]
