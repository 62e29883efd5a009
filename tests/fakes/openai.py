"""A chat and embedding server over real HTTP, with exact accounting, for fault tests.

It answers what a test tells it to, at the pace that the test sets, and remembers what it was asked
and what it generated. Its embeddings are bags of hashed words: texts that share words are near.
"""

import asyncio
import hashlib
import json
import math
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.served import Served

DIMENSIONS = 64
_EMBEDDING = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_CHAT = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty",
        "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
        "parallel_tool_calls", "user",
    }
)  # fmt: skip
"""Fields that OpenAI's own API takes."""


def embed(text: str) -> list[float]:
    """A unit vector; the more words two texts share, the nearer."""
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        digest = hashlib.sha256(word.encode()).digest()
        vector[digest[0] % DIMENSIONS] += 1.0 if digest[1] % 2 else -1.0
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]


def words(text: str) -> int:
    """The fake's own tokens: words."""
    return len(text.split())


@dataclass
class FakeOpenAI(Served):
    """What it is told to do, and what it saw.

    Attributes:
        pieces: The answer, one token each.
        gate: While clear, a stream stops after its first piece until it is set.
        fault: "" or one of: no-done, break, garbage, error-frame, 400, 401, 429, 500.
        key: The API key that it asks for; empty: none.
        strict: Whether fields that OpenAI does not know are 400, as at a provider that is no vLLM.
        asked: Bodies of chat requests.
        generated: Tokens sent, in all.
        closed: Set when a client broke off a stream.
    """

    pieces: list[str] = field(default_factory=lambda: ["Hello", " world"])
    fault: str = ""
    key: str = ""
    strict: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    generated: int = 0
    prompted: int = 0
    delay_s: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def reset(self) -> None:
        """Back to what a new one does."""
        self.pieces, self.fault, self.delay_s = ["Hello", " world"], "", 0.0
        self.asked.clear()
        self.embedded.clear()
        self.gate.set()
        self.closed.clear()
        self.generated = self.prompted = self.most_running = 0

    def routes(self) -> Iterable[web.RouteDef]:
        """OpenAI's."""
        self.gate.set()
        return (
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/embeddings", self._embeddings),
            web.get("/v1/models", self._models),
        )

    def stop(self) -> None:
        """Stop serving; connections break."""
        self.gate.set()
        super().stop()

    def _refusal(
        self, request: web.Request, body: dict[str, Any], known: frozenset[str]
    ) -> web.Response | None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return _error(401, "Incorrect API key provided.")
        options = body.get("stream_options") or {}
        strange = sorted({*body} - known) + sorted({*options} - {"include_usage"})
        if self.strict and strange:
            return _error(400, f"Unrecognized request argument supplied: {strange[0]}")
        return None

    async def _models(self, request: web.Request) -> web.Response:
        return self._refusal(request, {}, _CHAT) or web.json_response(
            {"object": "list", "data": []}
        )

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        if refusal := self._refusal(request, body, _EMBEDDING):
            return refusal
        texts: list[str] = body["input"]
        self.embedded += texts
        data = [{"index": at, "embedding": embed(text)} for at, text in enumerate(texts)]
        usage = {"prompt_tokens": sum(words(text) for text in texts)}
        return web.json_response({"data": data, "usage": usage})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if refusal := self._refusal(request, body, _CHAT):
            return refusal
        if self.fault.isdigit():
            return _error(int(self.fault), "refused: secret-detail")
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        prompt = sum(words(message["content"]) for message in body["messages"])
        self.prompted += prompt
        try:
            if body.get("stream"):
                return await self._stream(request, body, prompt)
            await self._wait()
            limit = body.get("max_tokens", len(self.pieces))
            sent = self.pieces[:limit]
            self.generated += len(sent)
            return web.json_response(
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 1,
                    "model": body["model"],
                    "choices": [
                        {
                            "index": at,
                            "message": {"role": "assistant", "content": "".join(sent)},
                            "finish_reason": "stop" if len(sent) == len(self.pieces) else "length",
                        }
                        for at in range(body.get("n", 1))
                    ],
                    "usage": _usage(prompt, len(sent)),
                }
            )
        finally:
            self.running -= 1

    async def _wait(self) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        while not self.gate.is_set():
            await asyncio.sleep(0.005)

    async def _stream(
        self, request: web.Request, body: dict[str, Any], prompt: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        sent = 0

        async def frame(choices: list[Any], usage: dict[str, int] | None) -> None:
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1}
            data = json.dumps({**chunk, "model": body["model"], "choices": choices, "usage": usage})
            await response.write(f"data: {data}\n\n".encode())

        try:
            head = {"index": 0, "delta": {"role": "assistant", "content": ""}}
            await frame([{**head, "finish_reason": None}], _usage(prompt, 0))
            if self.fault == "error-frame":
                await response.write(b'data: {"error": {"message": "secret-detail"}}\n\n')
                return response
            if self.fault == "garbage":
                await response.write(b"data: {not json\n\n")
                return response
            for piece in self.pieces[: body.get("max_tokens", len(self.pieces))]:
                sent += 1
                self.generated += 1
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                await frame([choice], _usage(prompt, sent))
                await self._wait()
                if self.fault == "break" and request.transport is not None:
                    request.transport.abort()
                    return response
            reason = "stop" if sent == len(self.pieces) else "length"
            last = {"index": 0, "delta": {}, "finish_reason": reason}
            await frame([last], _usage(prompt, sent))
            await frame([], _usage(prompt, sent))
            if self.fault != "no-done":
                await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        except (ConnectionResetError, asyncio.CancelledError):
            self.closed.set()
            raise
        return response


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "x", "param": None, "code": None}
    return web.json_response({"error": error}, status=status)


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
