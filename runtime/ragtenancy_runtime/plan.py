"""What an answer may take: decided before anything is asked of anybody."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ragtenancy_api.binding import Settings
from ragtenancy_api.deployment import RAGDeploymentSpec
from ragtenancy_runtime.cache.exact import request_key
from ragtenancy_runtime.errors import InvalidRequest
from ragtenancy_runtime.ports import ChatTokenizer, Message, RetrievalMode
from ragtenancy_runtime.prompt import (
    PROMPT_VERSION,
    Source,
    build_messages,
    pack,
    query_of,
)
from ragtenancy_runtime.tenants import Tenant
from ragtenancy_runtime.tokens import TemplateError


@dataclass(frozen=True, slots=True)
class Question:
    """A chat request, checked and in the pipeline's own terms."""

    messages: list[Message]
    options: dict[str, Any] = field(default_factory=dict)
    """OpenAI's sampling fields, forwarded as they are."""
    max_tokens: int | None = None
    max_tokens_field: str = "max_tokens"
    temperature: float | None = None
    stream: bool = False
    include_usage: bool = False
    mode: RetrievalMode | None = None
    top_k: int | None = None
    use_cache: bool = True

    @property
    def choices(self) -> int:
        """How many answers are asked for."""
        return int(self.options.get("n") or 1)

    @property
    def marked(self) -> bool:
        """Whether `[n]` in the answer is a citation: not in JSON, not among tool calls."""
        return "tools" not in self.options and "response_format" not in self.options


@dataclass(frozen=True, slots=True)
class Plan:
    """How a question is answered, and what that costs at most."""

    query: str | None
    """What is retrieved for; None: nothing is."""
    mode: RetrievalMode
    top_k: int
    temperature: float
    completion_tokens: int
    """The longest answer: what was asked for, or what the window leaves."""
    base_tokens: int
    """Tokens of the prompt without any source."""
    context_tokens: int
    """Tokens that sources may take."""
    cost: int
    """Prompt and completion tokens, at most."""
    cache_key: str | None
    """None: the answer is neither looked up nor kept."""


def prompt_tokens(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: list[Any] | None
) -> int:
    """Tokens of a conversation.

    Raises:
        InvalidRequest: The model's chat template refuses it.
    """
    try:
        return tokenizer.prompt_tokens(messages, tools)
    except TemplateError as error:
        raise InvalidRequest(
            f"The model's chat template refuses these messages: {error}", param="messages"
        ) from error


def context_length_exceeded(window: int, tokens: int) -> InvalidRequest:
    """The error for a conversation that the model cannot take."""
    return InvalidRequest(
        f"This model's maximum context length is {window} tokens. However, your messages "
        f"resulted in {tokens} tokens. Please reduce the length of the messages.",
        param="messages",
        code="context_length_exceeded",
    )


def cacheable(question: Question, temperature: float, settings: Settings) -> bool:
    """Whether the same question may get the same answer again."""
    varied = ("tools", "logprobs", "top_logprobs")
    return (
        settings.cache.exact.enabled
        and question.use_cache
        and question.choices == 1
        and not any(name in question.options for name in varied)
        and temperature <= settings.generation.temperature
    )


def make_plan(
    tenant: Tenant, deployment: RAGDeploymentSpec, question: Question, tokenizer: ChatTokenizer
) -> Plan:
    """Decide how a question is answered.

    The answer's room comes before the sources': they are dropped first when the window is short.

    Raises:
        InvalidRequest: The conversation alone is longer than the model takes.
    """
    settings = tenant.settings
    mode = question.mode or settings.retrieval.mode
    query = query_of(question.messages) if mode != "None" else None
    top_k = question.top_k or settings.retrieval.top_k
    temperature = (
        settings.generation.temperature if question.temperature is None else question.temperature
    )
    wanted = question.max_tokens or settings.generation.max_tokens
    bare = build_messages(
        question.messages, settings.generation.system_prompt, [] if query else None
    )
    base = prompt_tokens(tokenizer, bare, question.options.get("tools"))
    context = settings.retrieval.max_context_tokens if query else 0
    completion = wanted
    if tokenizer.worst == 1:
        window = deployment.generation.max_model_len
        if base >= window:
            raise context_length_exceeded(window, base)
        completion = min(wanted, window - base)
        context = max(0, min(context, window - base - completion))
    key = None
    if cacheable(question, temperature, settings):
        key = request_key(
            {
                "tenant": tenant.uid,
                "settings": tenant.revision,
                "prompt": PROMPT_VERSION,
                "model": [deployment.generation.model, deployment.generation.max_model_len],
                "embedder": deployment.embedding.model,
                "messages": question.messages,
                "options": question.options,
                "temperature": temperature,
                "max_tokens": wanted,
                "mode": mode,
                "top_k": top_k,
            }
        )
    return Plan(
        query=query,
        mode=mode,
        top_k=top_k,
        temperature=temperature,
        completion_tokens=completion,
        base_tokens=base,
        context_tokens=context,
        cost=base + context * tokenizer.worst + completion * question.choices,
        cache_key=key,
    )


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked."""

    messages: list[Message]
    sources: list[Source] | None
    max_tokens: int
    tokens: int


def make_prompt(
    plan: Plan,
    question: Question,
    system_prompt: str | None,
    found: Sequence[Source] | None,
    tokenizer: ChatTokenizer,
) -> Prompt:
    """The prompt with as many of the found sources as the plan reserved room for.

    Raises:
        InvalidRequest: The chat template refuses the conversation.
    """
    tools = question.options.get("tools")
    packed = None if found is None else pack(found, plan.context_tokens, tokenizer)
    bound = plan.base_tokens + plan.context_tokens * tokenizer.worst
    while True:
        messages = build_messages(question.messages, system_prompt, packed)
        tokens = prompt_tokens(tokenizer, messages, tools) if packed else plan.base_tokens
        if tokens <= bound or not packed:
            break
        packed.pop()
    return Prompt(messages, packed, plan.completion_tokens, tokens)
