import json
from typing import Any

import pytest

from ragtenancy_runtime.errors import UpstreamFailed
from ragtenancy_runtime.http import sse
from ragtenancy_runtime.prompt import Source
from ragtenancy_runtime.relay import Answer

SOURCE = Source("doc", "chunk", 0.5, "Title", "", "text", 0, 4, "/v1/documents/doc")


def answer(sources: list[Source] | None = None, **more: Any) -> Answer:
    return Answer("id", "model", 1, sources, **more)


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return json.dumps({"choices": [choice], **more}).encode()


def load(data: bytes | None) -> dict[str, Any]:
    assert data is not None
    loaded: dict[str, Any] = json.loads(data)
    return loaded


def test_a_token_keeps_its_text_and_loses_the_servers_own_fields() -> None:
    text = 'a "quote" \\ \n é \u2028'
    out = load(answer().feed(chunk({"content": text}, usage={"completion_tokens": 3})))
    assert out == {
        "id": "chatcmpl-id",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "model",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }


def test_tool_calls_and_logprobs_pass_through() -> None:
    one = answer([SOURCE], marked=False)
    call = {"tool_calls": [{"index": 0, "id": "x"}]}
    assert load(one.feed(chunk(call)))["choices"][0]["delta"] == call
    raw = {
        "index": 0,
        "delta": {"content": "[7]"},
        "finish_reason": None,
        "logprobs": {"content": []},
    }
    out = load(one.feed(json.dumps({"choices": [raw]}).encode()))
    assert out["choices"] == [raw]


def test_each_of_several_choices_has_its_own_markers() -> None:
    one = answer([SOURCE])
    assert (
        load(one.feed(chunk({"content": "a[1"}, index=1)))["choices"][0]["delta"]["content"] == "a"
    )
    assert load(one.feed(chunk({"content": "b[2]"})))["choices"][0]["delta"]["content"] == "b"
    last = load(one.feed(chunk({"content": "]"}, "stop", index=1)))["choices"][0]
    assert last["delta"]["content"] == "[1]"
    assert last["delta"]["citations"][0]["start_index"] == 1
    assert load(one.feed(chunk({}, "stop")))["choices"][0]["delta"]["citations"] == []


def test_what_is_held_back_comes_with_the_last_chunk() -> None:
    one = answer([SOURCE])
    assert one.feed(chunk({"content": "["})) is None
    last = load(one.feed(chunk({}, "length")))["choices"][0]
    assert last["delta"]["content"] == "[" and last["finish_reason"] == "length"
    assert one.text == "["


def test_completion_tokens_are_counted_by_the_server_or_bounded_by_bytes() -> None:
    one = answer()
    one.feed(chunk({"content": "héllo"}))
    assert one.completion_tokens == 6
    one.feed(chunk({"content": "x"}, usage={"completion_tokens": 2}))
    assert one.completion_tokens == 2
    one.feed(chunk({"content": "y"}, index=1, usage={"completion_tokens": 5}))
    assert one.completion_tokens == 7
    one.feed(json.dumps({"choices": [], "usage": {"completion_tokens": 8}}).encode())
    assert one.completion_tokens == 8


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"error": {"message": "x"}}', b'{"choices": [{}]}', b"null", b'"x"']
)
def test_what_is_no_chunk_is_a_failure(data: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        answer().feed(data)


def test_a_frame_is_one_line() -> None:
    frames = sse.frames([b'{"a":1}', b"[DONE]"])
    assert frames == b'data: {"a":1}\n\ndata: [DONE]\n\n'
