"""A tenant's application: the OpenAI client, with nothing but what the tenant's Secret holds."""

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from openai import AuthenticationError, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.demo.documents import Page

_TIMEOUT_SECONDS: Final = 120.0
_RETRIES: Final = 8
"""With the client's backoff some 40 s: what a busy machine may need to take a document in."""


@dataclass
class Answer:
    """A streamed answer, and when it came."""

    text: str = ""
    pieces: int = 0
    first_token_s: float = 0.0
    total_s: float = 0.0
    sources: list[dict[str, Any]] = field(default_factory=list)
    citations: list[dict[str, Any]] = field(default_factory=list)


class Tenant:
    """One tenant, as its application sees the API.

    ``address`` stands in for the host of ``OPENAI_BASE_URL``, which is one inside the cluster.
    """

    def __init__(self, name: str, secret: Mapping[str, str], address: str) -> None:
        self.name = name
        self.model = secret["OPENAI_MODEL"]
        self._address = f"{address}/v1"
        self._client = self._with_key(secret["OPENAI_API_KEY"])

    def _with_key(self, key: str) -> OpenAI:
        return OpenAI(
            api_key=key, base_url=self._address, timeout=_TIMEOUT_SECONDS, max_retries=_RETRIES
        )

    def load(self, pages: list[Page]) -> int:
        """Put documents in; the number of their chunks. The same pages again change nothing."""

        def put(page: Page) -> int:
            body = {"id": page.id, "title": page.title, "text": page.text}
            return int(self._post("/documents", body)["chunks"])

        return sum(map(put, pages))

    def find(self, query: str) -> list[str]:
        """Ids of the documents that a search finds."""
        results = self._post("/search", {"query": query, "top_k": 10})["results"]
        return [result["document_id"] for result in results]

    def ask(self, question: str, earlier: Iterable[tuple[str, str]] = ()) -> Answer:
        """Ask, and write the answer to the terminal as it arrives.

        ``earlier`` are the questions and answers that the conversation began with.
        """
        messages: list[ChatCompletionMessageParam] = []
        for asked, answered in earlier:
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": answered})
        messages.append({"role": "user", "content": question})
        answer, started = Answer(), time.monotonic()
        stream = self._client.chat.completions.create(
            model=self.model,
            messages=messages,
            stream=True,
            # a second run of the demo would otherwise get its first run's answer
            extra_body={"rag": {"cache": "off"}},
        )
        for chunk in stream:
            for choice in chunk.choices:
                extra = choice.delta.model_extra or {}
                answer.sources = extra.get("sources", answer.sources)
                answer.citations = extra.get("citations", answer.citations)
                if choice.delta.content:
                    answer.first_token_s = answer.first_token_s or time.monotonic() - started
                    answer.pieces += 1
                    answer.text += choice.delta.content
                    sys.stdout.write(choice.delta.content)
                    sys.stdout.flush()
        print()
        answer.total_s = time.monotonic() - started
        return answer

    def refuses(self, key: str) -> bool:
        """Whether a key is answered with 401."""
        try:
            self._with_key(key).models.list()
        except AuthenticationError:
            return True
        return False

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        # ``dict`` as cast_to makes the client return the parsed JSON
        answer: dict[str, Any] = self._client.post(path, body=body, cast_to=dict[str, Any])
        return answer
