"""One question on its way through the pipeline, and what it has used."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from ragtenancy_runtime.admission import Grant, Usage
from ragtenancy_runtime.cache.exact import CachedAnswer
from ragtenancy_runtime.errors import RateLimits, RequestError
from ragtenancy_runtime.plan import Plan, Prompt, Question
from ragtenancy_runtime.ports import Span
from ragtenancy_runtime.relay import Answer
from ragtenancy_runtime.tenants import Tenant
from ragtenancy_runtime.tracing import NoSpan


@dataclass(slots=True)
class Turn:
    """One question on its way: admitted, and settled when it ends, however it ends."""

    tenant: Tenant
    question: Question
    plan: Plan
    grant: Grant
    usage: Usage = field(default_factory=Usage)
    hit: CachedAnswer | None = None
    answer: Answer | None = None
    prompt: Prompt | None = None
    first_token_at: float | None = None
    span: Span = field(default_factory=NoSpan)
    """The model's part, once it is asked."""
    _sent: bool = False
    """Whether the model was asked: from then on the prompt counts, whatever comes back."""

    @property
    def cache(self) -> Literal["hit", "miss", "off"]:
        """What the cache did for this turn."""
        if self.plan.cache_key is None:
            return "off"
        return "miss" if self.hit is None else "hit"

    @property
    def limits(self) -> RateLimits:
        """Where the tenant's limits stood at admission."""
        return self.grant.limits

    @contextmanager
    def asking(self) -> Iterator[None]:
        """The model is being asked: what it may have done counts, unless it says it did nothing."""
        self._sent = True
        try:
            yield
        except RequestError:
            self._sent = False
            raise

    def count(self) -> Usage:
        """What this turn has used up to now."""
        answer, prompt = self.answer, self.prompt
        if answer is None or prompt is None or not self._sent:
            return self.usage
        counted = answer.usage or {}
        self.usage.prompt = int(counted.get("prompt_tokens") or prompt.tokens)
        details = counted.get("prompt_tokens_details") or {}
        self.usage.cached = int(details.get("cached_tokens") or 0)
        self.usage.completion = answer.completion_tokens
        if answer.usage is None and not self.question.stream:
            # Nobody waited for the answer, and its length is unknown: all that it was allowed.
            self.usage.completion = prompt.max_tokens * self.question.choices
        return self.usage
