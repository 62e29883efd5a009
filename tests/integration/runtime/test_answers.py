"""Documents are found and cited, by their own tenant alone."""

import json
from typing import Any
from uuid import uuid4

import aiohttp

from tests.fakes.manifests import CHAT_MODEL
from tests.fakes.openai import FakeOpenAI
from tests.integration.runtime.conftest import auth
from tests.integration.runtime.world import Pod


async def put(http: aiohttp.ClientSession, pod: Pod, tenant: str, **body: Any) -> dict[str, Any]:
    async with http.post(f"{pod.url}/v1/documents", json=body, headers=auth(tenant)) as response:
        assert response.status in (200, 201), await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def search(
    http: aiohttp.ClientSession, pod: Pod, tenant: str, query: str, **more: Any
) -> list[dict[str, Any]]:
    body = {"query": query, **more}
    async with http.post(f"{pod.url}/v1/search", json=body, headers=auth(tenant)) as response:
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
        results: list[dict[str, Any]] = answer["results"]
        return results


def ask(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "default", "messages": [{"role": "user", "content": question}], **more}


async def chat(
    http: aiohttp.ClientSession, pod: Pod, tenant: str, body: dict[str, Any]
) -> tuple[dict[str, Any], aiohttp.ClientResponse]:
    url = f"{pod.url}/v1/chat/completions"
    async with http.post(url, json=body, headers=auth(tenant)) as response:
        return await response.json(), response


async def stream(
    http: aiohttp.ClientSession, pod: Pod, tenant: str, body: dict[str, Any]
) -> list[Any]:
    """The data of all frames; `[DONE]` as a string."""
    url = f"{pod.url}/v1/chat/completions"
    body = {**body, "stream": True}
    async with http.post(url, json=body, headers=auth(tenant)) as response:
        assert response.status == 200, await response.text()
        assert response.headers["x-accel-buffering"] == "no"
        text = (await response.read()).decode()
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [entry if entry == "[DONE]" else json.loads(entry) for entry in data]


async def test_a_document_is_written_read_and_deleted(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    name = f"handbook-{uuid4()}"
    body = {"text": "# Travel\n\nTrains are booked by Ada.", "title": "Handbook"}
    written = await put(http, pod, "alpha", id=name, metadata={"a": [1, None]}, **body)
    assert written["status"] == "ready" and written["chunks"] == 1

    url = f"{pod.url}/v1/documents/{name}"
    async with http.get(url, headers=auth("alpha")) as response:
        assert (await response.json())["metadata"] == {"a": [1, None]}
    embedded = len(upstream.embedded)
    again = await put(http, pod, "alpha", id=name, metadata={"a": [1, None]}, **body)
    assert again["version"] == written["version"]
    assert len(upstream.embedded) == embedded

    async with http.delete(url, headers=auth("alpha")) as response:
        assert response.status == 200
    async with http.get(url, headers=auth("alpha")) as response:
        assert response.status == 404
    assert name not in {found["document_id"] for found in await search(http, pod, "alpha", "Ada")}


async def test_each_mode_finds_the_document_that_was_written(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    name = f"faq-{uuid4()}"
    text = "# Payments\n\n## Refunds\n\nA refund takes fourteen days."
    await put(http, pod, "alpha", id=name, text=text, title="FAQ")
    for mode in ("Hybrid", "Vector", "Keyword"):
        found = await search(http, pod, "alpha", "how long takes a refund", mode=mode, top_k=50)
        (best,) = [entry for entry in found if entry["document_id"] == name]
        assert best["heading"] == "Payments > Refunds"
        assert text[best["start"] : best["end"]] == best["text"]
        assert best["title"] == "FAQ"


async def test_a_tenant_never_sees_anothers_document(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    name = f"secret-{uuid4()}"
    await put(http, pod, "alpha", id=name, text="The launch code is periwinkle.")
    for mode in ("Hybrid", "Vector", "Keyword"):
        found = await search(http, pod, "beta", "launch code periwinkle", mode=mode, top_k=100)
        assert name not in {entry["document_id"] for entry in found}
    url = f"{pod.url}/v1/documents/{name}"
    for method in ("GET", "DELETE"):
        async with http.request(method, url, headers=auth("beta")) as response:
            assert response.status == 404
    answer, _ = await chat(http, pod, "beta", ask("What is the launch code?"))
    assert "periwinkle" not in json.dumps(answer)
    assert "periwinkle" not in json.dumps(upstream.asked)


async def test_a_plain_answer_has_sources_citations_and_annotations(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    name = f"zebra-{uuid4()}"
    url = "https://example.org/zebra"
    text = "Zebras sleep standing up."
    await put(http, pod, "alpha", id=name, text=text, title="Zebras", metadata={"url": url})
    upstream.pieces = ["Standing", " up [1] or so [99]."]
    body = ask(f"How do zebras sleep? {uuid4()}", model=CHAT_MODEL, rag={"top_k": 1})
    body["messages"].insert(0, {"role": "system", "content": "Speak like a pirate."})
    answer, response = await chat(http, pod, "alpha", body)
    message = answer["choices"][0]["message"]
    assert message["content"] == "Standing up [1] or so ."
    assert message["sources"][0]["document_id"] == name
    assert message["sources"][0]["index"] == 1
    (citation,) = message["citations"]
    assert citation["document_id"] == name
    assert message["content"][citation["start_index"] : citation["end_index"]] == "[1]"
    (annotation,) = message["annotations"]
    assert annotation["type"] == "url_citation"
    assert annotation["url_citation"]["url"] == url
    assert response.headers["x-ragtenancy-cache"] == "miss"
    assert answer["usage"]["completion_tokens"] == 2

    system = upstream.asked[-1]["messages"][0]["content"]
    assert system.index("Be brief.") < system.index(text) < system.index("Speak like a pirate.")
    assert "cache_salt" not in upstream.asked[-1]


async def test_a_stream_starts_with_sources_and_ends_with_citations(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    name = f"yak-{uuid4()}"
    await put(http, pod, "alpha", id=name, text="Yaks grunt and do not moo.")
    upstream.pieces = ["They", " grunt [", "1", "] and [", "7", "]", "!"]
    question = ask(f"Do yaks moo? {uuid4()}", stream_options={"include_usage": True})
    frames = await stream(http, pod, "alpha", question)
    assert frames[-1] == "[DONE]"
    first, *middle, last, usage = frames[:-1]
    assert first["choices"][0]["delta"]["role"] == "assistant"
    sources = first["choices"][0]["delta"]["sources"]
    assert name in {source["document_id"] for source in sources}
    text = "".join(frame["choices"][0]["delta"].get("content", "") for frame in [*middle, last])
    assert text == "They grunt [1] and !"
    delta = last["choices"][0]["delta"]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert [citation["index"] for citation in delta["citations"]] == [1]
    assert delta["annotations"][0]["url_citation"]["start_index"] == text.index("[1]")
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 7


async def test_a_changed_document_is_never_half_seen_while_queries_run(
    pod: Pod, http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    import asyncio

    name = f"switch-{uuid4()}"

    def text(version: int) -> str:
        return "\n\n".join(f"Quagga fact {at} edition{version} holds." for at in range(30))

    await put(http, pod, "beta", id=name, text=text(0))
    done = asyncio.Event()
    seen: list[set[str]] = []

    async def watch() -> None:
        while not done.is_set():
            found = await search(http, pod, "beta", "quagga fact edition", top_k=100)
            texts = [entry["text"] for entry in found if entry["document_id"] == name]
            seen.append({word for text in texts for word in text.split() if "edition" in word})

    watcher = asyncio.create_task(watch())
    for version in range(1, 6):
        await put(http, pod, "beta", id=name, text=text(version))
    done.set()
    await watcher
    assert len(seen) > 5
    assert all(len(editions) == 1 for editions in seen), seen


async def test_two_writers_of_one_document_leave_one_whole_document(
    pods: list[Pod], http: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    import asyncio

    name = f"race-{uuid4()}"

    async def write(at: int) -> int:
        body = {"id": name, "text": f"Okapi writer{at} was here."}
        url = f"{pods[at % 2].url}/v1/documents"
        async with http.post(url, json=body, headers=auth("beta")) as response:
            return response.status

    statuses = await asyncio.gather(*(write(at) for at in range(8)))
    assert set(statuses) <= {200, 201, 409}
    assert 201 in statuses
    found = await search(http, pods[0], "beta", "okapi writer", top_k=100)
    assert len([entry for entry in found if entry["document_id"] == name]) == 1


async def test_models_lists_the_model_and_its_alias(pod: Pod, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{pod.url}/v1/models", headers=auth("alpha")) as response:
        listed = await response.json()
    assert [model["id"] for model in listed["data"]] == [CHAT_MODEL, "default"]
