"""Asks a tenant's API without a pause until /tmp/stop is there; runs in a pod of its own.

It knows what an application knows: the entries of the tenant's Secret. It tries nothing again. A
line says how far it has come after every few requests; the last line is one JSON object, see
``Counts``.
"""

import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

_STOP = Path("/tmp/stop")
_SAID_EVERY = 5
_PAUSE_SECONDS = 0.05


@dataclass
class Counts:
    """What one kind of request met.

    Attributes:
        kind: plain, streamed or search.
        answers: Requests by outcome: ``ok``, an HTTP status, or the kind of failure.
        without_retry_after: 503 answers that did not say when to try again.
        outage_s: Longest time from a failure to the next request that was answered.
        failures: The first failures, for a person.
    """

    kind: str
    answers: dict[str, int] = field(default_factory=dict)
    without_retry_after: int = 0
    outage_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    failing_since: float | None = None

    def add(self, outcome: str, detail: str) -> None:
        """Count one request."""
        if sum(self.answers.values()) % _SAID_EVERY == 0:
            print(self.kind, sum(self.answers.values()), flush=True)
        self.answers[outcome] = self.answers.get(outcome, 0) + 1
        now = time.monotonic()
        if outcome == "ok":
            if self.failing_since is not None:
                self.outage_s = max(self.outage_s, now - self.failing_since)
            self.failing_since = None
            return
        self.failing_since = self.failing_since or now
        if len(self.failures) < 10:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {outcome} {detail}"[:300])


async def _read(answer: aiohttp.ClientResponse, counts: Counts, *, stream: bool) -> None:
    if answer.status != 200:
        if answer.status == 503 and "retry-after" not in answer.headers:
            counts.without_retry_after += 1
        counts.add(str(answer.status), await answer.text())
        return
    text = await answer.text()
    if not stream:
        said = json.loads(text)["choices"][0]["message"]["content"]
        counts.add("ok" if said else "empty", text)
        return
    broken = "[DONE]" not in text or '"error"' in text
    counts.add("broken stream" if broken else "ok", text[-200:])


async def _client(http: aiohttp.ClientSession, counts: Counts) -> None:
    body: dict[str, Any] = {
        "model": "default",
        "messages": [{"role": "user", "content": "How tall is the tower?"}],
        "max_tokens": 4,
        "rag": {"cache": "off"},
    }
    path = "/chat/completions"
    if counts.kind == "search":
        path, body = "/search", {"query": "tower", "top_k": 2}
    elif counts.kind == "streamed":
        body["stream"] = True
    while not await asyncio.to_thread(_STOP.exists):
        try:
            async with http.post(os.environ["OPENAI_BASE_URL"] + path, json=body) as answer:
                if counts.kind == "search":
                    text = await answer.text()
                    found = answer.status == 200 and bool(json.loads(text)["results"])
                    if answer.status == 503 and "retry-after" not in answer.headers:
                        counts.without_retry_after += 1
                    counts.add("ok" if found else str(answer.status), text)
                else:
                    await _read(answer, counts, stream=counts.kind == "streamed")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            counts.add(type(error).__name__, str(error))
        await asyncio.sleep(_PAUSE_SECONDS)


async def _main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    kinds = {kind: Counts(kind) for kind in ("plain", "streamed", "search")}
    timeout = aiohttp.ClientTimeout(total=120)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
        asyncio.TaskGroup() as group,
    ):
        for counts in kinds.values():
            group.create_task(_client(http, counts))
    for counts in kinds.values():
        if counts.failing_since is not None:
            counts.outage_s = max(counts.outage_s, time.monotonic() - counts.failing_since)
    print(json.dumps({kind: asdict(counts) for kind, counts in kinds.items()}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
