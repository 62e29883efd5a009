"""The steps of an answer, in their order."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from ragtenancy_api.deployment import RAGDeploymentSpec
from ragtenancy_api.meta import parse_duration
from ragtenancy_runtime import tracing
from ragtenancy_runtime.admission import Admission, Usage
from ragtenancy_runtime.cache.exact import CachedAnswer, ExactCache
from ragtenancy_runtime.errors import RateLimited, UpstreamFailed
from ragtenancy_runtime.plan import Plan, Prompt, Question, make_plan, make_prompt
from ragtenancy_runtime.ports import AnswerStream, Attribute, ChatTokenizer, Generator, Tracer
from ragtenancy_runtime.prompt import text_of
from ragtenancy_runtime.relay import Answer
from ragtenancy_runtime.retrieval.search import Search, first_tokens, sources_of
from ragtenancy_runtime.tenants import Directory, Tenant
from ragtenancy_runtime.tokens import Tokenizers
from ragtenancy_runtime.tracing import NO_TRACES
from ragtenancy_runtime.turn import Turn

LONG_CHARACTERS: Final = 16_384
"""From this length on, counting tokens (about a millisecond per 1,000 of them) would keep other
requests waiting."""

_T = TypeVar("_T")


async def _aside(question: Question, decide: Callable[[], _T]) -> _T:
    """Decide something that counts a question's tokens; a long one's in a thread."""
    if sum(len(text_of(message)) for message in question.messages) < LONG_CHARACTERS:
        return decide()
    return await asyncio.to_thread(decide)


def cache_salt(secret: bytes, uid: str) -> str:
    """The salt that keeps one tenant's prefix cache on the GPU apart from another's."""
    return hmac.new(secret, uid.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Answers questions, with what it is given."""

    directory: Directory
    admission: Admission
    cache: ExactCache
    search: Search
    generator: Generator
    tokenizers: Tokenizers
    salt: bytes
    tracer: Tracer = NO_TRACES

    @asynccontextmanager
    async def turn(
        self, tenant: Tenant, question: Question, request_id: str
    ) -> AsyncIterator[Turn]:
        """Admit a question, and settle it at the end of the block.

        Raises:
            RequestError: It is not admitted, or the block raised one.
        """
        deployment = self.directory.deployment
        tokenizer = self.tokenizers.generation(deployment.generation.model)
        plan = await _aside(question, lambda: make_plan(tenant, deployment, question, tokenizer))
        turn = await self._admit(tenant, question, plan, request_id)
        try:
            if turn.hit is None:
                await self._prepare(turn, deployment, tokenizer)
            yield turn
        except BaseException as error:
            turn.span.fail(type(error).__name__)
            raise
        finally:
            usage = turn.count()
            self._end_span(turn, usage)
            self.admission.settle(turn.grant, usage)

    async def _admit(self, tenant: Tenant, question: Question, plan: Plan, request_id: str) -> Turn:
        """Ask for admission and look into the cache at the same time."""
        quotas = tenant.settings.quotas
        admit = partial(self.admission.admit, uses=plan.query is not None)
        if plan.cache_key is None:
            grant = await admit(tenant.uid, quotas, request_id, plan.cost)
            return Turn(tenant, question, plan, grant)
        lookup = asyncio.create_task(self.cache.look_up(tenant.uid, plan.cache_key))
        try:
            try:
                grant = await admit(tenant.uid, quotas, request_id, plan.cost)
            except RateLimited as denial:
                kept = await lookup
                if denial.dimension == "requests" or kept is None or kept.epoch != denial.epoch:
                    raise
                grant = await admit(tenant.uid, quotas, request_id, 0, lease=False)
        except BaseException:
            lookup.cancel()
            raise
        try:
            kept = await lookup
        except BaseException:
            self.admission.settle(grant, Usage())
            raise
        if kept is not None and kept.epoch != grant.epoch:
            kept = None
        return Turn(tenant, question, plan, grant, hit=kept)

    async def _prepare(
        self, turn: Turn, deployment: RAGDeploymentSpec, tokenizer: ChatTokenizer
    ) -> None:
        """Retrieve, and write the prompt."""
        sources = None
        if turn.plan.query is not None:
            embedding = deployment.embedding
            asked, tokenize = turn.plan.query, self.tokenizers.embedding(embedding.model)
            query = await _aside(
                turn.question, lambda: first_tokens(asked, embedding.max_input_tokens, tokenize)
            )
            found = await self.search.find(
                turn.tenant.corpus, turn.plan.mode, embedding, query, turn.plan.top_k
            )
            turn.usage.embedding = found.embedding_tokens
            sources = sources_of(found)
        system_prompt = turn.tenant.settings.generation.system_prompt
        turn.prompt = await _aside(
            turn.question,
            lambda: make_prompt(turn.plan, turn.question, system_prompt, sources, tokenizer),
        )
        turn.answer = Answer(
            request_id=turn.grant.request_id,
            model=deployment.generation.model,
            created=int(time.time()),
            sources=turn.prompt.sources,
            marked=turn.question.marked,
        )

    def _start_span(self, turn: Turn, answer: Answer, prompt: Prompt) -> None:
        """From here to the turn's end the model is at work."""
        asked: dict[str, Attribute] = {
            tracing.OPERATION: "chat",
            tracing.PROVIDER: tracing.OPENAI,
            tracing.MODEL: answer.model,
            tracing.MAX_TOKENS: prompt.max_tokens,
            tracing.TEMPERATURE: turn.plan.temperature,
        }
        turn.span = self.tracer.start(f"chat {answer.model}", asked)

    @staticmethod
    def _end_span(turn: Turn, usage: Usage) -> None:
        reasons = list(turn.answer.finish_reasons.values()) if turn.answer is not None else []
        turn.span.set(
            {
                tracing.INPUT_TOKENS: usage.prompt,
                tracing.OUTPUT_TOKENS: usage.completion,
                tracing.FINISH_REASONS: reasons,
            }
        )
        turn.span.end()

    def _payload(self, turn: Turn) -> bytes:
        """What the chat server is sent."""
        if turn.prompt is None or turn.answer is None:
            raise RuntimeError("a turn that was served from the cache asks no model")
        question = turn.question
        ours = self.directory.deployment.generation.vllm is not None
        payload: dict[str, Any] = {
            "model": turn.answer.model,
            "messages": turn.prompt.messages,
            **question.options,
            "temperature": turn.plan.temperature,
            question.max_tokens_field: turn.prompt.max_tokens,
        }
        if ours:
            payload["cache_salt"] = cache_salt(self.salt, turn.tenant.uid)
        if question.stream:
            payload["stream"] = True
            payload["stream_options"] = {"include_usage": True}
            if ours:
                payload["stream_options"]["continuous_usage_stats"] = True
        return json.dumps(payload).encode()

    async def whole(self, turn: Turn) -> bytes:
        """The plain answer.

        Raises:
            Unavailable: The chat server is away.
            UpstreamFailed: It sent something else than an answer.
        """
        if turn.hit is not None:
            return whole_hit(turn.hit, turn.grant.request_id)
        payload = self._payload(turn)
        if turn.answer is None or turn.prompt is None:
            raise RuntimeError("a turn is prepared before it is answered")
        self._start_span(turn, turn.answer, turn.prompt)
        with turn.asking():
            completion = await self.generator.complete(payload)
        turn.first_token_at = time.monotonic()
        body = turn.answer.whole(completion)
        await self._keep(turn)
        return body

    async def open(self, turn: Turn) -> AnswerStream | None:
        """Start a streamed answer; None when the cache has it. Errors up to here are statuses.

        Raises:
            Unavailable: The chat server is away.
        """
        if turn.hit is not None:
            return None
        payload = self._payload(turn)
        if turn.answer is None or turn.prompt is None:
            raise RuntimeError("a turn is prepared before it is answered")
        self._start_span(turn, turn.answer, turn.prompt)
        with turn.asking():
            return await self.generator.stream(payload)

    async def chunks(
        self, turn: Turn, stream: AnswerStream | None
    ) -> AsyncGenerator[list[bytes], None]:
        """The chunks of a streamed answer, in batches as they arrive, the last one included.

        Raises:
            UpstreamFailed: The chat server broke off.
        """
        if stream is None or turn.answer is None:
            if turn.hit is not None:
                yield stream_hit(turn.hit, turn.grant.request_id, turn.question.include_usage)
            return
        answer = turn.answer
        try:
            yield [answer.start()]
            async with aclosing(stream.events()) as events:
                async for batch in events:
                    out = [chunk for data in batch if (chunk := answer.feed(data)) is not None]
                    if out:
                        if turn.first_token_at is None:
                            turn.first_token_at = time.monotonic()
                        yield out
            if not answer.done:
                raise UpstreamFailed("the stream ended without [DONE]")
        finally:
            stream.close()
        if turn.question.include_usage:
            yield [answer.usage_chunk()]
        await self._keep(turn)

    async def _keep(self, turn: Turn) -> None:
        """Keep a finished answer for the next one who asks the same."""
        answer = turn.answer
        key = turn.plan.cache_key
        if key is None or answer is None or not turn.grant.epoch:
            return
        if answer.finish_reasons != {0: "stop"}:
            return
        usage = turn.count()
        cached = CachedAnswer(
            epoch=turn.grant.epoch,
            model=answer.model,
            created=answer.created,
            content=answer.text,
            finish_reason="stop",
            sources=answer.sources,
            citations=answer.filter(0).citations,
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
        )
        ttl = parse_duration(turn.tenant.settings.cache.exact.ttl)
        await self.cache.keep(turn.tenant.uid, key, cached, ttl)


def _replayed(hit: CachedAnswer, request_id: str) -> Answer:
    answer = Answer(request_id, hit.model, hit.created, hit.sources)
    answer.filter(0).citations.extend(hit.citations)
    answer.usage = {
        "prompt_tokens": hit.prompt_tokens,
        "completion_tokens": hit.completion_tokens,
        "total_tokens": hit.prompt_tokens + hit.completion_tokens,
    }
    return answer


def stream_hit(hit: CachedAnswer, request_id: str, include_usage: bool) -> list[bytes]:
    """A cached answer as the chunks of a stream."""
    answer = _replayed(hit, request_id)
    chunks = answer.replayed(hit.content, hit.finish_reason)
    return [*chunks, answer.usage_chunk()] if include_usage else chunks


def whole_hit(hit: CachedAnswer, request_id: str) -> bytes:
    """A cached answer as a plain one."""
    return _replayed(hit, request_id).restored(hit.content, hit.finish_reason)
