import pytest

from ragtenancy_runtime.errors import (
    InvalidRequest,
    RateLimited,
    RateLimits,
    Unauthenticated,
    Unavailable,
    Window,
)
from ragtenancy_runtime.http.chat import question_of
from ragtenancy_runtime.http.errors import duration, response_of
from ragtenancy_runtime.http.openapi import build_document
from ragtenancy_runtime.http.payloads import ChatRequest, parse


def chat(fields: str) -> ChatRequest:
    return parse(ChatRequest, f'{{"model": "m", {fields}}}'.encode())


USER = '"messages": [{"role": "user", "content": "hi"}]'


def test_text_parts_become_one_text() -> None:
    parts = '[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]'
    request = chat(f'"messages": [{{"role": "developer", "content": {parts}}}]')
    assert question_of(request).messages == [{"role": "system", "content": "ab"}]


def test_both_names_of_the_longest_answer_count() -> None:
    question = question_of(chat(f'{USER}, "max_tokens": 5, "max_completion_tokens": 3'))
    assert (question.max_tokens, question.max_tokens_field) == (3, "max_completion_tokens")
    assert question_of(chat(USER)).max_tokens is None


def test_only_listed_fields_are_forwarded() -> None:
    question = question_of(chat(f'{USER}, "top_p": 0.5, "user": "u", "seed": 1'))
    assert question.options == {"top_p": 0.5, "seed": 1}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (f'{USER}, "chat_template": "x"', "chat_template"),
        (f'{USER}, "ignore_eos": true', "ignore_eos"),
        (f'{USER}, "temperature": "hot"', "temperature"),
        ('"messages": "hi"', "messages"),
        ('"messages": [{"role": "user", "content": 5}]', "messages[0].content"),
        (
            '"messages": [{"role": "user", "content": [{"type": "text"}]}]',
            "messages[0].content[0].text",
        ),
        ('"messages": [{"role": "tool", "content": "x"}]', "messages[0].tool_call_id"),
    ],
)  # fmt: skip
def test_an_error_names_the_field(fields: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        question_of(chat(fields))
    assert caught.value.param == param


def test_a_denial_says_when_to_come_back() -> None:
    limits = RateLimits(Window(60, 0, 12.5), Window(1000, 20, 0.25))
    headers = response_of(RateLimited("tokens", 1.2, limits)).headers
    assert headers["retry-after"] == "2"
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-tokens"] == "20"
    assert headers["x-ratelimit-reset-requests"] == "12.5s"
    assert headers["x-ratelimit-reset-tokens"] == "250ms"


def test_an_absence_never_says_where_the_server_is() -> None:
    error = Unavailable("chat model")
    error.__cause__ = ConnectionError("10.0.0.1 refused")
    response = response_of(error)
    assert response.status_code == 503 and response.headers["retry-after"] == "1"
    assert b"10.0.0.1" not in response.body


def test_errors_have_openais_shape() -> None:
    response = response_of(Unauthenticated())
    assert response.status_code == 401
    assert response.body == (
        b'{"error": {"message": "Incorrect API key provided.", "type": "invalid_request_error", '
        b'"param": null, "code": "invalid_api_key"}}'
    )


def test_durations_read_as_openais() -> None:
    assert [duration(x) for x in (0, 0.0123, 1.5, 59.9, 360)] == [
        "0ms",
        "13ms",
        "1.5s",
        "59.9s",
        "6m0s",
    ]


def test_the_openapi_document_has_every_body() -> None:
    schemas = build_document("1")["components"]["schemas"]
    assert {"ChatRequest", "DocumentRequest", "SearchRequest", "ChatMessage"} <= schemas.keys()
