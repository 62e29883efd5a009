"""Limits hold, whoever asks and however many ask at once."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from ragtenancy_api.settings import Quotas
from ragtenancy_api.wiring import state_keys, tenant_key, tombstone_key
from ragtenancy_runtime.adapters.redis import RedisScripts
from ragtenancy_runtime.admission import Admission, Grant, Usage
from ragtenancy_runtime.errors import InvalidRequest, RateLimited, Unauthenticated
from tests.fakes.manifests import uid_of
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.conftest import auth
from tests.integration.runtime.test_answers import ask, chat
from tests.integration.runtime.world import Pod
from tests.integration.servers import RedisServer


@pytest.fixture
async def redis(state_redis: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(state_redis.url)
    yield client
    await client.aclose()


@pytest.fixture
async def admissions(state_redis: RedisServer) -> AsyncIterator[list[Admission]]:
    """Four of them, as four pods would have."""
    clients = [RedisScripts(state_redis.url, "state store") for _ in range(4)]
    made = [Admission(client) for client in clients]
    yield made
    for admission, client in zip(made, clients, strict=True):
        await admission.drain()
        await client.close()


@pytest.fixture
def uid() -> str:
    return str(uuid4())


async def attempt(
    admission: Admission, uid: str, quotas: Quotas, cost: int = 0
) -> Grant | RateLimited:
    try:
        return await admission.admit(uid, quotas, uuid4().hex, cost)
    except RateLimited as denial:
        return denial


@dataclass(frozen=True)
class Admitted:
    """What was admitted somewhere between two moments."""

    sent: float
    answered: float
    amount: int = 1


def assert_never_passed(admitted: list[Admitted], burst: float, rate: float) -> None:
    """In every window at most ``burst + rate x t`` was admitted, however slow the machine."""
    for since in {one.sent for one in admitted}:
        total = 0
        for one in sorted(admitted, key=lambda one: one.answered):
            if one.sent >= since:
                total += one.amount
                assert total <= burst + rate * (one.answered - since)


async def test_requests_admitted_in_any_window_never_pass_burst_and_rate(
    admissions: list[Admission], uid: str
) -> None:
    burst, rate = 25, 20
    quotas = Quotas(requests_per_minute=60 * rate, burst=burst)
    admitted: list[Admitted] = []

    async def client(at: int) -> None:
        # Until it gave the burst and what a second refills: it withholds nothing either.
        while len(admitted) < burst + rate:
            sent = time.monotonic()
            if isinstance(await attempt(admissions[at % 4], uid, quotas), Grant):
                admitted.append(Admitted(sent, time.monotonic()))
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(client(at) for at in range(32)))
    assert_never_passed(admitted, burst, rate)


async def test_concurrent_requests_never_pass_their_limit(
    admissions: list[Admission], uid: str
) -> None:
    quotas = Quotas(concurrent_requests=7)
    running = most = 0
    denied = 0

    async def client(at: int) -> None:
        nonlocal running, most, denied
        admission = admissions[at % 4]
        for _ in range(20):
            grant = await attempt(admission, uid, quotas)
            if isinstance(grant, RateLimited):
                assert grant.dimension == "concurrency"
                denied += 1
                continue
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1
            admission.settle(grant, Usage())

    await asyncio.gather(*(client(at) for at in range(40)))
    assert most == 7 and denied > 0
    for admission in admissions:
        await admission.drain()
    assert isinstance(await attempt(admissions[0], uid, quotas), Grant)


async def test_tokens_are_reserved_and_what_was_not_used_comes_back(
    admissions: list[Admission], uid: str
) -> None:
    admission, quotas = admissions[0], Quotas(tokens_per_minute=1000)
    first = await admission.admit(uid, quotas, "first", 800)
    denied = await attempt(admission, uid, quotas, 800)
    assert isinstance(denied, RateLimited) and denied.dimension == "tokens"
    # 600 tokens must drain at a thousand a minute.
    assert 30 < denied.retry_after <= 36
    admission.settle(first, Usage(prompt=100, completion=50))
    await admission.drain()
    assert isinstance(await attempt(admission, uid, quotas, 800), Grant)
    denied = await attempt(admission, uid, quotas, 100)
    assert isinstance(denied, RateLimited)


async def test_tokens_used_in_any_window_never_pass_burst_and_rate(
    admissions: list[Admission], uid: str
) -> None:
    limit, rate = 6000, 100.0
    quotas, dice = Quotas(tokens_per_minute=limit), Random(7)
    used: list[Admitted] = []

    async def client(at: int) -> None:
        admission = admissions[at % 4]
        while sum(one.amount for one in used) < 0.95 * limit:
            sent, cost = time.monotonic(), dice.randint(20, 400)
            grant = await attempt(admission, uid, quotas, cost)
            if isinstance(grant, Grant):
                actual = dice.randint(0, cost)
                used.append(Admitted(sent, time.monotonic(), actual))
                await asyncio.sleep(dice.random() / 20)
                admission.settle(grant, Usage(prompt=actual))

    async with asyncio.timeout(30):
        await asyncio.gather(*(client(at) for at in range(32)))
    assert_never_passed(used, limit, rate)


async def test_a_refund_never_lets_a_window_pass_its_bound(
    admissions: list[Admission], redis: Redis, uid: str
) -> None:
    """What has drained is not given back a second time."""
    admission, quotas = admissions[0], Quotas(tokens_per_minute=6000)
    old = await admission.admit(uid, quotas, "old", 6000)
    # A minute ago, as the meter sees it: all of it has drained.
    key = tenant_key(uid, "tokens")
    then = float((await redis.hget(key, "t")) or 0) - 60_000_000
    await redis.hset(key, "t", repr(then))
    await admission.admit(uid, quotas, "new", 6000)
    admission.settle(old, Usage())
    await admission.drain()
    assert isinstance(await attempt(admission, uid, quotas, 500), RateLimited)


async def test_what_never_fits_is_not_told_to_try_again(
    admissions: list[Admission], uid: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await admissions[0].admit(uid, Quotas(tokens_per_minute=10), "x", 11)
    assert caught.value.code == "request_too_large"


async def test_admission_and_settlement_happen_once_for_one_id(
    admissions: list[Admission], redis: Redis, uid: str
) -> None:
    admission = admissions[0]
    quotas = Quotas(requests_per_minute=60, tokens_per_minute=1000, concurrent_requests=5)
    for _ in range(3):
        grant = await admission.admit(uid, quotas, "same", 300)
    assert await redis.zcard(tenant_key(uid, "leases")) == 1
    for other in admissions:
        other.settle(grant, Usage(prompt=10, cached=4, completion=5, embedding=2))
    for other in admissions:
        await other.drain()
    (day,) = (await admission.usage(uid)).values()
    assert day == {"requests": 1, "prompt": 10, "cached": 4, "completion": 5, "embedding": 2}
    assert await redis.zcard(tenant_key(uid, "leases")) == 0
    later = await admission.admit(uid, quotas, "next", 0)
    assert later.limits.requests is not None and later.limits.requests.remaining == 58
    assert later.limits.tokens is not None and later.limits.tokens.remaining >= 985


async def test_a_lost_lease_is_reclaimed_and_a_live_one_extended(
    admissions: list[Admission], redis: Redis, uid: str
) -> None:
    dead, alive = admissions[:2]
    quotas = Quotas(concurrent_requests=2)
    await dead.admit(uid, quotas, "dead", 0)
    await alive.admit(uid, quotas, "alive", 0)
    leases = tenant_key(uid, "leases")
    assert isinstance(await attempt(alive, uid, quotas), RateLimited)
    await redis.zadd(leases, {"dead": 1.0, "alive": time.time() * 1000 + 1000})
    await alive.extend()
    assert (await redis.zscore(leases, "alive") or 0) > time.time() * 1000 + 20_000
    assert isinstance(await attempt(alive, uid, quotas), Grant)
    assert await redis.zscore(leases, "dead") is None


async def test_after_a_tombstone_nothing_is_written(
    admissions: list[Admission], redis: Redis, uid: str
) -> None:
    admission, quotas = admissions[0], Quotas(tokens_per_minute=1000)
    grant = await admission.admit(uid, quotas, "late", 100)
    await redis.set(tombstone_key(uid), 1)
    await redis.delete(*state_keys(uid))
    admission.settle(grant, Usage(prompt=1))
    await admission.drain()
    with pytest.raises(Unauthenticated):
        await admission.admit(uid, quotas, "later", 100)
    assert await redis.exists(*state_keys(uid)) == 0


async def test_every_key_of_a_tenant_is_one_that_a_purge_removes(
    admissions: list[Admission], redis: Redis, uid: str
) -> None:
    admission = admissions[0]
    quotas = Quotas(requests_per_minute=10, tokens_per_minute=1000, concurrent_requests=2)
    admission.settle(await admission.admit(uid, quotas, "a", 10), Usage(prompt=1))
    await admission.drain()
    found = {key.decode() async for key in redis.scan_iter(f"*{uid}*", count=1000)}
    assert found and found <= set(state_keys(uid))


async def test_the_request_limit_answers_429_with_the_usual_headers_on_every_pod(
    pods: list[Pod], http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    answers = await asyncio.gather(
        *(chat(http, pods[at % 2], "rated", ask("hi")) for at in range(40))
    )
    statuses = Counter(response.status for _, response in answers)
    assert statuses == {200: 20, 429: 20}
    body, denied = next(answer for answer in answers if answer[1].status == 429)
    assert body["error"]["code"] == "rate_limit_exceeded"
    assert int(denied.headers["retry-after"]) >= 1
    assert denied.headers["x-ratelimit-limit-requests"] == "1"
    assert denied.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-ratelimit-reset-requests" in denied.headers


async def test_the_ledger_equals_what_the_model_counted(
    pods: list[Pod], http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    async def ledger() -> Counter[str]:
        async with http.get(f"{pods[0].url}/v1/usage", headers=auth("plain")) as response:
            days = (await response.json())["data"]
        return Counter({name: n for day in days for name, n in day.items() if name != "date"})

    before = await ledger()
    upstream.prompted = upstream.generated = 0
    bodies = [ask("one two three", stream=at % 3 == 0) for at in range(30)]

    async def post(at: int) -> None:
        url = f"{pods[at % 2].url}/v1/chat/completions"
        async with http.post(url, json=bodies[at], headers=auth("plain")) as response:
            assert response.status == 200
            await response.read()

    await asyncio.gather(*(post(at) for at in range(30)))
    expected = {"requests": 30, "prompt_tokens": 90, "completion_tokens": 60}
    assert (upstream.prompted, upstream.generated) == (90, 60)
    async with asyncio.timeout(5):
        while (used := await ledger() - before)["requests"] < 30:
            await asyncio.sleep(0.01)
    assert used == Counter(expected)


async def test_concurrency_holds_over_two_pods(
    pods: list[Pod], http: aiohttp.ClientSession, upstream: FakeOpenAI, redis: Redis
) -> None:
    upstream.delay_s = 0.05
    answers = await asyncio.gather(
        *(chat(http, pods[at % 2], "narrow", ask("hi")) for at in range(24))
    )
    assert upstream.most_running <= 3
    assert {response.status for _, response in answers} == {200, 429}
    async with asyncio.timeout(5):
        while await redis.zcard(tenant_key(uid_of("narrow"), "leases")):
            await asyncio.sleep(0.01)
