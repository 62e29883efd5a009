"""A chat request's body, in the pipeline's terms."""

from typing import Any, Final

from ragtenancy_runtime.errors import InvalidRequest
from ragtenancy_runtime.http.payloads import ChatMessage, ChatRequest
from ragtenancy_runtime.plan import Question
from ragtenancy_runtime.ports import Message

_FORWARDED: Final = (
    "top_p",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
)


def message_of(message: ChatMessage, at: int) -> Message:
    """A message with its content as one string; `developer` is OpenAI's newer name of `system`.

    Raises:
        InvalidRequest: It has neither content nor tool calls.
    """
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    if content is None and not (message.role == "assistant" and message.tool_calls):
        raise InvalidRequest(
            f"Invalid value for 'messages[{at}].content': a string or text parts are needed.",
            param=f"messages[{at}].content",
            code="invalid_value",
        )
    if message.role == "tool" and message.tool_call_id is None:
        raise InvalidRequest(
            f"Missing required parameter: 'messages[{at}].tool_call_id'.",
            param=f"messages[{at}].tool_call_id",
            code="missing_required_parameter",
        )
    out: Message = {
        "role": "system" if message.role == "developer" else message.role,
        "content": content or "",
    }
    if message.name is not None:
        out["name"] = message.name
    if message.tool_calls is not None:
        out["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def question_of(request: ChatRequest) -> Question:
    """The question that a body asks.

    Raises:
        InvalidRequest: Fields that do not go together.
    """
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
            param="top_logprobs",
        )
    options: dict[str, Any] = {
        name: value for name in _FORWARDED if (value := getattr(request, name)) is not None
    }
    limits = [
        limit for limit in (request.max_completion_tokens, request.max_tokens) if limit is not None
    ]
    rag = request.rag
    return Question(
        messages=[message_of(message, at) for at, message in enumerate(request.messages)],
        options=options,
        max_tokens=min(limits, default=None),
        max_tokens_field="max_tokens"
        if request.max_completion_tokens is None
        else "max_completion_tokens",
        temperature=request.temperature,
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        mode=rag.mode if rag else None,
        top_k=rag.top_k if rag else None,
        use_cache=rag is None or rag.cache != "off",
    )
