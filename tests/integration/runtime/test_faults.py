"""Bad input, a client or a server that goes away: real statuses, and recovery without a restart."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from tests.fakes.manifests import binding_manifest
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.conftest import TENANTS, auth, make_collections
from tests.integration.runtime.test_answers import ask, chat, put, search, stream
from tests.integration.runtime.world import Pod, environment, write_tenants
from tests.integration.servers import RedisServer, WeaviateServer

CHAT, DOCUMENTS, SEARCH = "/v1/chat/completions", "/v1/documents", "/v1/search"
USER = {"role": "user", "content": "hi"}

BAD: list[tuple[str, str, bytes | dict[str, Any], int, str | None]] = [
    ("not JSON", CHAT, b"{", 400, None),
    ("not UTF-8", CHAT, b'{"model": "\xff"}', 400, None),
    ("half a surrogate", CHAT, b'{"model": "\\ud800"}', 400, None),
    ("an array", CHAT, b"[]", 400, None),
    ("nothing", CHAT, b"", 400, None),
    ("unknown field", CHAT, ask("hi", cache_salt="x"), 400, "cache_salt"),
    ("priority", CHAT, ask("hi", priority=1), 400, "priority"),
    ("no messages", CHAT, {"model": "default"}, 400, "messages"),
    ("empty messages", CHAT, {"model": "default", "messages": []}, 400, "messages"),
    ("unknown model", CHAT, {"model": "gpt", "messages": [USER]}, 404, "model"),
    ("role", CHAT, {"model": "default", "messages": [{"role": "x"}]}, 400, "messages[0].role"),
    (
        "no content",
        CHAT,
        {"model": "default", "messages": [{"role": "user"}]},
        400,
        "messages[0].content",
    ),
    (
        "an image",
        CHAT,
        {
            "model": "default",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
            ],
        },
        400,
        "messages[0].content[0].type",
    ),
    ("temperature", CHAT, ask("hi", temperature=3), 400, "temperature"),
    (
        "NaN",
        CHAT,
        b'{"model": "default", "temperature": NaN, "messages": [{"role": "user"}]}',
        400,
        "temperature",
    ),
    ("n", CHAT, ask("hi", n=0), 400, "n"),
    ("huge n", CHAT, ask("hi", n=10**30), 400, "n"),
    ("max_tokens", CHAT, ask("hi", max_tokens=0), 400, "max_tokens"),
    ("stream_options", CHAT, ask("hi", stream_options={}), 400, "stream_options"),
    ("rag field", CHAT, ask("hi", rag={"tenant": "x"}), 400, "rag.tenant"),
    ("oversized", CHAT, b'{"model": "' + b"x" * 9_000_000, 413, None),
    ("empty text", DOCUMENTS, {"text": ""}, 400, "text"),
    ("white space", DOCUMENTS, {"text": " \n "}, 400, "text"),
    ("no text", DOCUMENTS, {"id": "a"}, 400, "text"),
    ("document too large", DOCUMENTS, {"text": "x" * 100_001}, 413, "text"),
    ("bad id", DOCUMENTS, {"id": "a/b", "text": "x"}, 400, "id"),
    ("document field", DOCUMENTS, {"text": "x", "vector": [1]}, 400, "vector"),
    ("no query", SEARCH, {}, 400, "query"),
    ("top_k", SEARCH, {"query": "x", "top_k": 0}, 400, "top_k"),
    ("mode", SEARCH, {"query": "x", "mode": "Magic"}, 400, "mode"),
]


@pytest.mark.parametrize(("body", "path", "status", "param"), [
    pytest.param(body, path, status, param, id=name) for name, path, body, status, param in BAD
])  # fmt: skip
async def test_bad_input_is_an_openai_error_that_names_the_field(
    pod: Pod,
    http: aiohttp.ClientSession,
    body: bytes | dict[str, Any],
    path: str,
    status: int,
    param: str | None,
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(f"{pod.url}{path}", data=data, headers=auth("plain")) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


ODD: list[tuple[str, dict[str, Any]]] = [
    (DOCUMENTS, {"id": "null\u2028 é 漢 ?#%&=+", "text": "a\x00b\u202e\ufffe"}),
    (DOCUMENTS, {"id": "x" * 256, "text": "x" * 5000, "title": "\u0000", "metadata": {"": None}}),
    (DOCUMENTS, {"id": "..", "text": "\n".join("#" * 7 + " x" for _ in range(500))}),
    (DOCUMENTS, {"text": "```\n" * 300, "metadata": {"n": 1e308, "i": 10**30}}),
    (DOCUMENTS, {"text": "\u00a0\u2003 x"}),
    (SEARCH, {"query": "\x00"}),
    (SEARCH, {"query": '* AND (\\" OR'}),
    (SEARCH, {"query": "w " * 10_000, "top_k": 100}),
    (CHAT, ask("\x00\u202e")),
    (CHAT, ask("", rag={})),
    (CHAT, ask("{{ 7*7 }} {% raise %} <|im_end|>", seed=-(2**63), stop=[])),
    (CHAT, {"model": "default", "messages": [{"role": "assistant", "content": "x"}]}),
    (
        CHAT,
        {"model": "default", "messages": [{"role": "tool", "content": "x", "tool_call_id": ""}]},
    ),
]


@pytest.mark.parametrize(("path", "body"), ODD)
async def test_odd_input_is_answered(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, path: str, body: dict[str, Any]
) -> None:
    async with http.post(f"{pod.url}{path}", json=body, headers=auth("beta")) as response:
        assert response.status in (200, 201), await response.text()
        answer = await response.json()
    if path == DOCUMENTS:
        url = f"{pod.url}{DOCUMENTS}/{quote(answer['id'], safe='')}"
        if answer["id"] == "..":  # an HTTP client resolves it away
            return
        async with http.get(URL(url, encoded=True), headers=auth("beta")) as response:
            assert response.status == 200
            assert (await response.json())["metadata"] == body.get("metadata", {})


async def test_json_that_is_nested_without_end_is_refused(
    pod: Pod, http: aiohttp.ClientSession
) -> None:
    data = b'{"text": "x", "metadata": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    async with http.post(f"{pod.url}{DOCUMENTS}", data=data, headers=auth("beta")) as response:
        assert response.status == 400


async def test_every_wrong_key_gets_the_same_answer(pod: Pod, http: aiohttp.ClientSession) -> None:
    answers = set()
    for value in ("Bearer rag-unknown", "Bearer ", "Basic x", "", "Bearer \xfc", None):
        headers = {} if value is None else {"authorization": value}
        async with http.post(f"{pod.url}{CHAT}", headers=headers) as response:
            assert response.status == 401
            answers.add(await response.read())
    assert len(answers) == 1
    assert json.loads(answers.pop())["error"]["code"] == "invalid_api_key"


async def test_what_is_not_there_is_an_openai_error(pod: Pod, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{pod.url}/v1/nothing", headers=auth("plain")) as response:
        assert response.status == 404
        assert "error" in await response.json()
    async with http.get(f"{pod.url}{CHAT}", headers=auth("plain")) as response:
        assert response.status == 405
        assert "error" in await response.json()


async def test_the_first_token_arrives_while_the_model_is_still_generating(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    upstream.pieces = ["First", " second"]
    upstream.gate.clear()
    body = ask("hi", stream=True)
    async with http.post(f"{pod.url}{CHAT}", json=body, headers=auth("plain")) as response:
        seen = b""
        while b"First" not in seen:
            seen += await response.content.readany()
        assert upstream.generated == 1
        upstream.gate.set()
        seen += await response.read()
    assert b" second" in seen and seen.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_stops_the_model(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, streamed: bool
) -> None:
    upstream.gate.clear()
    asked = asyncio.create_task(chat(http, pod, "narrow", ask("hi", stream=streamed)))
    await eventually(lambda: upstream.running == 1)
    asked.cancel()
    await eventually(lambda: upstream.running == 0)
    upstream.gate.set()
    # Its lease is back: the limit's worth of others is admitted.
    answers = await asyncio.gather(*(chat(http, pod, "narrow", ask("hi")) for _ in range(3)))
    assert [response.status for _, response in answers] == [200, 200, 200]


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds, 10 s at most."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", ["no-done", "break", "garbage", "error-frame"])
async def test_a_stream_that_breaks_ends_with_an_error_frame_and_no_done(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI, fault: str
) -> None:
    upstream.fault = fault
    frames = await stream(http, pod, "plain", ask("hi"))
    assert frames[-1]["error"]["code"] == "upstream_failed"
    assert "[DONE]" not in frames
    assert "secret-detail" not in json.dumps(frames)


@pytest.mark.parametrize(
    ("fault", "status"), [("400", 400), ("401", 503), ("429", 503), ("500", 503)]
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_model_that_refuses_is_a_real_status(
    pod: Pod,
    http: aiohttp.ClientSession,
    upstream: FakeOpenAI,
    fault: str,
    status: int,
    streamed: bool,
) -> None:
    upstream.fault = fault
    answer, response = await chat(http, pod, "plain", ask("hi", stream=streamed))
    assert response.status == status
    if status == 503:
        assert int(response.headers["retry-after"]) >= 1
        assert "secret-detail" not in json.dumps(answer)


async def test_a_conversation_that_does_not_fit_is_refused(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    body = ask("word " * 2000)
    answer, response = await chat(http, pod, "tokens", body)
    assert response.status == 400
    assert answer["error"]["code"] == "request_too_large"


async def test_each_dependency_may_go_away_and_come_back(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    """503 with retry-after within 5 s, and the same pod answers again afterwards."""
    state, cache = redis_server(), redis_server()
    weaviate = WeaviateServer.start(tmp_path / "weaviate")
    await make_collections(weaviate)
    fake = FakeOpenAI().start()
    bindings = [binding_manifest(name, **settings) for name, settings in TENANTS.items()]
    write_tenants(tmp_path / "tenants", fake, *bindings)
    variables = environment(tmp_path, state, cache, weaviate, fake)
    pod = Pod.start(tmp_path / "pod", variables, "--tenants", str(tmp_path / "tenants"))
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as http:

        async def status(tenant: str, path: str, body: dict[str, Any]) -> int:
            began = time.monotonic()
            url = f"{pod.url}{path}"
            async with http.post(url, json=body, headers=auth(tenant)) as response:
                await response.read()
                if response.status == 503:
                    assert int(response.headers["retry-after"]) >= 1
                    assert time.monotonic() - began < 5
                return response.status

        async def recovered(tenant: str, path: str, body: dict[str, Any]) -> None:
            async with asyncio.timeout(20):
                while await status(tenant, path, body) != 200:
                    await asyncio.sleep(0.1)

        try:
            await put(http, pod, "alpha", id="a", text="Something to find.")

            fake.stop()
            assert await status("plain", CHAT, ask("hi")) == 503
            assert await status("plain", CHAT, ask("hi", stream=True)) == 503
            assert await status("alpha", SEARCH, {"query": "find"}) == 503
            fake.start()
            await recovered("plain", CHAT, ask("hi"))

            cache.process.kill()
            assert await status("alpha", CHAT, ask("hi")) == 200

            state.process.kill()
            assert await status("plain", CHAT, ask("hi")) == 503
            state.process.restart()
            await recovered("plain", CHAT, ask("hi"))

            weaviate.process.kill()
            assert await status("alpha", SEARCH, {"query": "find"}) == 503
            assert await status("plain", CHAT, ask("hi")) == 200
            weaviate.process.restart()
            await recovered("alpha", SEARCH, {"query": "find"})
            assert await search(http, pod, "alpha", "find")
        finally:
            pod.process.stop()
            weaviate.stop()
            state.stop()
            fake.stop()


async def test_a_pod_ends_although_its_redis_stays_away(
    tmp_path: Path,
    redis_server: Callable[..., RedisServer],
    weaviate: WeaviateServer,
    upstream: FakeOpenAI,
    http: aiohttp.ClientSession,
) -> None:
    state = redis_server()
    write_tenants(tmp_path / "tenants", upstream, binding_manifest("plain", **TENANTS["plain"]))
    variables = environment(tmp_path, state, state, weaviate, upstream)
    pod = Pod.start(tmp_path / "pod", variables, "--tenants", str(tmp_path / "tenants"))
    upstream.gate.clear()
    answer = asyncio.create_task(chat(http, pod, "plain", ask("hi")))
    await eventually(lambda: upstream.running == 1)
    state.process.kill()
    upstream.gate.set()
    assert (await answer)[1].status == 200
    pod.process.terminate()
    assert await asyncio.to_thread(pod.process.wait, 30) == 0


async def test_a_pod_that_is_told_to_stop_finishes_its_streams(
    home: Path,
    pods: list[Pod],
    tmp_path: Path,
    state_redis: RedisServer,
    cache_redis: RedisServer,
    weaviate: WeaviateServer,
    upstream: FakeOpenAI,
    http: aiohttp.ClientSession,
) -> None:
    variables = environment(tmp_path, state_redis, cache_redis, weaviate, upstream)
    pod = Pod.start(tmp_path / "pod", variables, "--tenants", str(home / "tenants"))
    upstream.gate.clear()
    body = ask("hi", stream=True)
    async with http.post(f"{pod.url}{CHAT}", json=body, headers=auth("plain")) as response:
        seen = b""
        while b"Hello" not in seen:
            seen += await response.content.readany()
        pod.process.terminate()
        await eventually(lambda: not pod.ready())
        upstream.gate.set()
        seen += await response.read()
    assert seen.endswith(b"data: [DONE]\n\n")
    assert await asyncio.to_thread(pod.process.wait, 30) == 0
