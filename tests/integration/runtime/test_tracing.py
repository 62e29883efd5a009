"""Requests and their steps reach a collector, and nothing waits for it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from ragtenancy_api import wiring
from tests.fakes.collector import FakeCollector, Received
from tests.fakes.manifests import CHAT_MODEL, EMBEDDING_MODEL, key_of, uid_of
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.conftest import auth
from tests.integration.runtime.test_answers import ask, chat, put
from tests.integration.runtime.test_faults import eventually
from tests.integration.runtime.world import Pod, environment
from tests.integration.servers import RedisServer, WeaviateServer

CHAT, SEARCH = "POST /v1/chat/completions", "POST /v1/search"
SERVER = 2
"""SPAN_KIND_SERVER"""


@pytest.fixture(scope="module")
def collector() -> Iterator[FakeCollector]:
    fake = FakeCollector().start()
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory,
    home: Path,
    pods: list[Pod],
    state_redis: RedisServer,
    cache_redis: RedisServer,
    weaviate: WeaviateServer,
    fake_openai: FakeOpenAI,
    collector: FakeCollector,
) -> Iterator[Pod]:
    """A pod that traces."""
    here = tmp_path_factory.mktemp("traced")
    variables = environment(here, state_redis, cache_redis, weaviate, fake_openai)
    variables[wiring.ENV_OTLP_ENDPOINT] = f"{collector.url}/"
    pod = Pod.start(here / "pod", variables, "--tenants", str(home / "tenants"))
    yield pod
    pod.process.stop()


def parent(*, sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    """A trace, a span in it, and the header that names them."""
    trace, span = token_hex(16), token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-{'01' if sampled else '00'}"}


async def post(
    http: aiohttp.ClientSession, pod: Pod, path: str, body: dict[str, Any], headers: dict[str, str]
) -> int:
    async with http.post(f"{pod.url}{path}", json=body, headers=headers) as response:
        await response.read()
        return response.status


async def trace_of(collector: FakeCollector, trace: str, last: str) -> dict[str, Received]:
    """A trace, once its last span is there."""
    await eventually(lambda: last in collector.of(trace))
    return collector.of(trace)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_request_is_a_span_with_one_for_each_step(
    traced: Pod,
    collector: FakeCollector,
    http: aiohttp.ClientSession,
    upstream: FakeOpenAI,
    streamed: bool,
) -> None:
    await put(http, traced, "alpha", id="traced", text="The traced document is about tapirs.")
    trace, caller, header = parent()
    question = f"What about tapirs? {uuid4()}"
    body = ask(question, stream=streamed)
    headers = {**auth("alpha"), **header}
    assert await post(http, traced, "/v1/chat/completions", body, headers) == 200
    spans = await trace_of(collector, trace, CHAT)

    chatting, embedding = f"chat {CHAT_MODEL}", f"embeddings {EMBEDDING_MODEL}"
    assert spans.keys() == {CHAT, "admission", embedding, "retrieval", chatting}
    server = spans[CHAT]
    assert server.kind == SERVER and server.parent == caller
    assert server.attributes["http.route"] == "/v1/chat/completions"
    assert server.attributes["http.response.status_code"] == 200
    assert {span.attributes["ragtenancy.tenant.uid"] for span in spans.values()} == {
        uid_of("alpha")
    }
    assert {span.parent for span in spans.values() if span is not server} == {server.id}
    assert not any(span.failed for span in spans.values())

    generated = spans[chatting].attributes
    assert generated["gen_ai.operation.name"] == "chat"
    assert generated["gen_ai.request.model"] == CHAT_MODEL
    assert generated["gen_ai.usage.output_tokens"] == len(upstream.pieces)
    assert generated["gen_ai.usage.input_tokens"] == upstream.prompted
    assert generated["gen_ai.response.finish_reasons"] == ["stop"]
    assert spans[embedding].attributes["gen_ai.operation.name"] == "embeddings"
    assert spans[embedding].attributes["gen_ai.usage.input_tokens"] > 0
    assert spans["retrieval"].attributes["gen_ai.operation.name"] == "retrieval"
    assert collector.resources[-1]["service.name"] == "ragtenancy-api"

    sent = b"".join(collector.raw)
    for secret in (question, "tapirs", "traced document", key_of("alpha"), "Be brief."):
        assert secret.encode() not in sent


async def test_a_failure_and_a_refusal_are_told_apart(
    traced: Pod, collector: FakeCollector, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    upstream.fault = "500"
    trace, _, header = parent()
    path = "/v1/chat/completions"
    assert await post(http, traced, path, ask("hi"), {**auth("plain"), **header}) == 503
    spans = await trace_of(collector, trace, CHAT)
    assert spans[CHAT].failed and spans[f"chat {CHAT_MODEL}"].failed
    assert spans[CHAT].attributes["http.response.status_code"] == 503

    trace, _, header = parent()
    assert await post(http, traced, path, ask("hi"), header) == 401
    spans = await trace_of(collector, trace, CHAT)
    assert spans.keys() == {CHAT} and not spans[CHAT].failed
    assert "ragtenancy.tenant.uid" not in spans[CHAT].attributes


async def test_an_unsampled_parent_is_obeyed_and_a_wrong_one_passed_over(
    traced: Pod, collector: FakeCollector, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    unsampled, _, header = parent(sampled=False)
    body = {"query": "tapirs"}
    assert await post(http, traced, "/v1/search", body, {**auth("alpha"), **header}) == 200
    before = len(collector.spans)
    wrong = {"traceparent": "00-\xfc-x-zz", "tracestate": "x" * 5000}
    assert await post(http, traced, "/v1/search", body, {**auth("alpha"), **wrong}) == 200
    await eventually(lambda: any(span.name == SEARCH for span in collector.spans[before:]))
    assert collector.of(unsampled) == {}


async def test_a_collector_that_is_slow_or_away_keeps_nobody_waiting(
    tmp_path: Path,
    home: Path,
    pods: list[Pod],
    state_redis: RedisServer,
    cache_redis: RedisServer,
    weaviate: WeaviateServer,
    upstream: FakeOpenAI,
    http: aiohttp.ClientSession,
) -> None:
    collector = FakeCollector(slow=True).start()
    variables = environment(tmp_path, state_redis, cache_redis, weaviate, upstream)
    variables[wiring.ENV_OTLP_ENDPOINT] = collector.url
    pod = Pod.start(tmp_path / "pod", variables, "--tenants", str(home / "tenants"))
    for _ in range(20):
        _, response = await chat(http, pod, "plain", ask("hi"))
        assert response.status == 200
    collector.stop()
    for _ in range(20):
        _, response = await chat(http, pod, "plain", ask("hi"))
        assert response.status == 200
    pod.process.terminate()
    assert await asyncio.to_thread(pod.process.wait, 30) == 0
