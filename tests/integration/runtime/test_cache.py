"""The exact cache: the same answer for the same request, of this tenant, now."""

import json
from typing import Any
from uuid import uuid4

import aiohttp
from redis.asyncio import Redis

from ragtenancy_api.settings import Quotas
from ragtenancy_api.wiring import tenant_key
from ragtenancy_runtime.adapters.redis import RedisScripts
from ragtenancy_runtime.admission import Admission
from ragtenancy_runtime.ingest.claims import claimed
from tests.fakes.manifests import uid_of
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.test_answers import ask, chat, put, stream
from tests.integration.runtime.world import Pod
from tests.integration.servers import RedisServer


async def test_the_same_question_is_answered_from_the_cache_plain_and_streamed(
    pods: list[Pod], http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    await put(http, pods[0], "alpha", id="gnu", text="Gnus graze in herds.")
    upstream.pieces = ["In herds", " [1]", " [8]."]
    question = ask(f"How do gnus graze? {uuid4()}")
    first, response = await chat(http, pods[0], "alpha", question)
    assert response.headers["x-ragtenancy-cache"] == "miss"
    again, response = await chat(http, pods[1], "alpha", question)
    assert response.headers["x-ragtenancy-cache"] == "hit"
    assert again["choices"] == first["choices"]
    assert len(upstream.asked) == 1
    frames = await stream(http, pods[0], "alpha", question)
    assert frames[-1] == "[DONE]"
    deltas = [frame["choices"][0]["delta"] for frame in frames[:-1]]
    message = first["choices"][0]["message"]
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert deltas[0]["sources"] == message["sources"]
    assert deltas[-1]["citations"] == message["citations"]
    assert deltas[-1]["annotations"] == message["annotations"]
    assert len(upstream.asked) == 1


async def test_a_streamed_answer_is_cached_too(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    question = ask(f"Say hello. {uuid4()}")
    await stream(http, pod, "alpha", question)
    answer, response = await chat(http, pod, "alpha", question)
    assert response.headers["x-ragtenancy-cache"] == "hit"
    assert answer["choices"][0]["message"]["content"] == "Hello world"


async def test_a_changed_document_ends_what_was_answered_before(
    pods: list[Pod], http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    question = ask(f"What do emus eat? {uuid4()}")
    name = f"emu-{uuid4()}"
    await put(http, pods[0], "alpha", id=name, text="Emus eat seeds.")
    await chat(http, pods[0], "alpha", question)
    await put(http, pods[1], "alpha", id=name, text="Emus eat insects.")
    upstream.pieces = ["Insects."]
    answer, response = await chat(http, pods[0], "alpha", question)
    assert response.headers["x-ragtenancy-cache"] == "miss"
    assert answer["choices"][0]["message"]["content"] == "Insects."


async def test_an_answer_written_late_under_an_old_epoch_is_never_served(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, cache_redis: RedisServer
) -> None:
    question = ask(f"Do dodos fly? {uuid4()}")
    await chat(http, pod, "alpha", question)
    redis = Redis.from_url(cache_redis.url)
    key = tenant_key(uid_of("alpha"), "exact")
    late: dict[Any, Any] = await redis.hgetall(key)
    await put(http, pod, "alpha", id=f"dodo-{uuid4()}", text="Dodos never flew.")
    assert await redis.hlen(key) == 0
    await redis.hset(key, mapping=late)
    await redis.aclose()
    _, response = await chat(http, pod, "alpha", question)
    assert response.headers["x-ragtenancy-cache"] == "miss"


async def test_no_answer_from_before_the_state_redis_was_emptied_is_served(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, state_redis: RedisServer
) -> None:
    question = ask(f"Do moas run? {uuid4()}")
    await chat(http, pod, "alpha", question)
    async with Redis.from_url(state_redis.url) as redis:
        assert await redis.delete(tenant_key(uid_of("alpha"), "epoch")) == 1
    _, response = await chat(http, pod, "alpha", question)
    assert response.headers["x-ragtenancy-cache"] == "miss"
    _, response = await chat(http, pod, "alpha", question)
    assert response.headers["x-ragtenancy-cache"] == "hit"


async def test_a_writer_that_dies_while_it_switches_leaves_no_stale_answer(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, state_redis: RedisServer
) -> None:
    question = ask(f"Do auks dive? {uuid4()}")
    await chat(http, pod, "beta", question)
    uid = uid_of("beta")
    scripts = RedisScripts(state_redis.url, "state store")
    async with claimed(scripts, uid, "auk") as claim:
        await claim.extend(switching=True)
        # While it switches, nothing is read from the cache or kept in it.
        _, response = await chat(http, pod, "beta", question)
        assert response.headers["x-ragtenancy-cache"] == "miss"
    # It died here: its claim is still there, and runs out.
    redis = Redis.from_url(state_redis.url)
    key = tenant_key(uid, "writing")
    left: Any = await redis.hget(key, "auk")
    writer, _, switching = left.decode().split(" ")
    assert switching == "1"
    await redis.hset(key, "auk", f"{writer} 1 1")
    _, response = await chat(http, pod, "beta", question)
    assert response.headers["x-ragtenancy-cache"] == "miss"
    assert await redis.hlen(key) == 0
    _, response = await chat(http, pod, "beta", question)
    assert response.headers["x-ragtenancy-cache"] == "hit"
    await redis.aclose()
    await scripts.close()


async def test_tenants_and_variations_never_share_an_answer(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    text = f"Anything? {uuid4()}"
    variations = [
        ask(text),
        ask(text + " "),
        ask(text, max_tokens=7),
        ask(text, stop=["x"]),
        ask(text, seed=1),
        ask(text, rag={"top_k": 2}),
        ask(text, rag={"mode": "None"}),
        {"model": "default", "messages": [{"role": "user", "content": text, "name": "x"}]},
        {
            "model": "default",
            "messages": [{"role": "system", "content": "x"}, *ask(text)["messages"]],
        },
    ]
    for tenant in ("alpha", "beta"):
        for body in variations:
            _, response = await chat(http, pod, tenant, body)
            assert response.headers["x-ragtenancy-cache"] == "miss"


async def test_what_must_not_be_cached_is_not(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    text = f"Once more. {uuid4()}"
    for more in ({"temperature": 0.5}, {"n": 2}, {"rag": {"cache": "off"}}):
        for _ in range(2):
            _, response = await chat(http, pod, "beta", ask(text, **more))
            assert response.status == 200
            assert response.headers["x-ragtenancy-cache"] == "off"
    for _ in range(2):  # cut off by its length
        answer, response = await chat(http, pod, "beta", ask(text, max_tokens=1))
        assert answer["choices"][0]["finish_reason"] == "length"
        assert response.headers["x-ragtenancy-cache"] == "miss"
    upstream.fault = "break"
    frames = await stream(http, pod, "beta", ask(text))
    assert "error" in frames[-1]
    upstream.fault = ""
    _, response = await chat(http, pod, "beta", ask(text))
    assert response.headers["x-ragtenancy-cache"] == "miss"


async def test_a_hit_takes_only_the_request_rate(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, state_redis: RedisServer
) -> None:
    question = ask(f"Tell me. {uuid4()}", max_tokens=300)
    _, response = await chat(http, pod, "cached", question)
    assert response.status == 200
    # The rest of the tokens is taken by another; only a cached answer still fits.
    scripts = RedisScripts(state_redis.url, "state store")
    uid = uid_of("cached")
    quotas = Quotas(tokens_per_minute=1000)
    left = (await Admission(scripts).admit(uid, quotas, "probe", 0)).limits.tokens
    assert left is not None
    await Admission(scripts).admit(uid, quotas, "rest", left.remaining)
    await scripts.close()
    answer, response = await chat(http, pod, "cached", question)
    assert response.status == 200, json.dumps(answer)
    assert response.headers["x-ragtenancy-cache"] == "hit"
    _, response = await chat(http, pod, "cached", ask(f"Another? {uuid4()}", max_tokens=300))
    assert response.status == 429
