"""Traces: one span per request and one per step, where somebody collects them.

Attributes follow OpenTelemetry's conventions for HTTP and generative AI. None holds a body, a key,
a document's id or an address.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from ragtenancy_api.models import Embedding
from ragtenancy_runtime.ports import Attribute, Embedder, Embeddings, Span, Tracer

TENANT: Final = "ragtenancy.tenant.uid"
"""Set on a request's span, it stands on those of its steps too."""
REQUEST: Final = "ragtenancy.request.id"
CACHE: Final = "ragtenancy.cache"
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
OPENAI: Final = "openai"
"""The provider, as far as its clients know: the conventions' name for whatever speaks this API."""
MODEL: Final = "gen_ai.request.model"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
TEMPERATURE: Final = "gen_ai.request.temperature"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOP_K: Final = "ragtenancy.retrieval.top_k"
MODE: Final = "ragtenancy.retrieval.mode"
FOUND: Final = "ragtenancy.retrieval.chunks"


class NoSpan:
    """A span that nobody collects."""

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Keep nothing."""

    def fail(self, kind: str) -> None:
        """Keep nothing."""

    def end(self) -> None:
        """Keep nothing."""


@dataclass(frozen=True, slots=True)
class NoTraces:
    """What traces where nobody collects."""

    _span: NoSpan = field(default_factory=NoSpan)

    def request(self, route: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
        """A span that nobody collects."""
        return nullcontext(self._span)

    def start(self, name: str, attributes: Mapping[str, Attribute]) -> Span:
        """A span that nobody collects."""
        return self._span


NO_TRACES: Final = NoTraces()


@contextmanager
def step(tracer: Tracer, name: str, attributes: Mapping[str, Attribute]) -> Iterator[Span]:
    """One step of a request."""
    span = tracer.start(name, attributes)
    try:
        yield span
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()


@dataclass(frozen=True, slots=True)
class TracedEmbedder:
    """An embedder whose calls are steps."""

    embedder: Embedder
    tracer: Tracer

    async def embed(self, model: Embedding, texts: Sequence[str]) -> Embeddings:
        """Embed texts in one call."""
        asked = {OPERATION: "embeddings", PROVIDER: OPENAI, MODEL: model.model}
        with step(self.tracer, f"embeddings {model.model}", asked) as span:
            found = await self.embedder.embed(model, texts)
            span.set({INPUT_TOKENS: found.tokens})
        return found
