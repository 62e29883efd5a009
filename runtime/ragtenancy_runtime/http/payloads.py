"""Request bodies, as OpenAI's clients send them. A field that is not here is refused."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ragtenancy_runtime.errors import InvalidRequest

DOCUMENT_ID_PATTERN = r"^[^\x00-\x1f\x7f/]{1,256}$"


class Body(BaseModel):
    """A request body: closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TextPart(Body):
    """One text part of a message's content."""

    type: Literal["text"]
    text: str


class FunctionCall(Body):
    """The function that a tool call names."""

    name: str = Field(max_length=256)
    arguments: str


class ToolCall(Body):
    """A tool call that the assistant made earlier in the conversation."""

    id: str = Field(max_length=256)
    type: Literal["function"]
    function: FunctionCall


class ChatMessage(Body):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=256)] | None = None
    name: str | None = Field(default=None, max_length=64)
    tool_calls: list[ToolCall] | None = Field(default=None, min_length=1, max_length=128)
    tool_call_id: str | None = Field(default=None, max_length=256)
    refusal: str | None = None
    annotations: list[Any] | None = None


class StreamOptions(Body):
    """How a stream reports."""

    include_usage: bool = False


class RagOptions(Body):
    """What one request may change of its tenant's retrieval and cache settings."""

    mode: Literal["Hybrid", "Vector", "Keyword", "None"] | None = None
    top_k: int | None = Field(default=None, ge=1, le=100)
    cache: Literal["on", "off"] | None = None


class ChatRequest(Body):
    """The body of `POST /v1/chat/completions`."""

    model: str = Field(max_length=256)
    messages: list[ChatMessage] = Field(min_length=1, max_length=2048)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int | None = Field(default=None, ge=1, le=8)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = Field(default=None, max_length=512)
    rag: RagOptions | None = None


class SearchRequest(Body):
    """The body of `POST /v1/search`."""

    query: str = Field(min_length=1, max_length=32_768)
    top_k: int | None = Field(default=None, ge=1, le=100)
    mode: Literal["Hybrid", "Vector", "Keyword"] | None = None


class DocumentRequest(Body):
    """The body of `POST /v1/documents`."""

    id: str | None = Field(default=None, pattern=DOCUMENT_ID_PATTERN)
    text: str = Field(min_length=1)
    title: str = Field(default="", max_length=1024)
    metadata: dict[str, Any] = Field(default_factory=dict, max_length=64)


AnyBody = TypeVar("AnyBody", bound=Body)


def param_of(location: tuple[int | str, ...]) -> str | None:
    """A place in the body, as OpenAI names it: `messages[0].content`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part[:1].isalpha() or "[" in part:
            continue  # pydantic's own name for a member of a union
        elif part in {"str", "list", "dict"} and path:
            continue
        else:
            path += f".{part}" if path else part
    return path or None


def explain(error: ErrorDetails) -> InvalidRequest:
    """An OpenAI error for the first thing that is wrong with a body."""
    param = param_of(error["loc"])
    match error["type"]:
        case "json_invalid":
            return InvalidRequest("The body is not valid JSON.", code="invalid_json")
        case "extra_forbidden":
            return InvalidRequest(
                f"Unrecognized request argument supplied: {param}",
                param=param,
                code="unknown_parameter",
            )
        case "missing":
            return InvalidRequest(
                f"Missing required parameter: '{param}'.",
                param=param,
                code="missing_required_parameter",
            )
    return InvalidRequest(
        f"Invalid value{f' for {param!r}' if param else ''}: {error['msg']}.",
        param=param,
        code="invalid_value",
    )


def _most_telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """Of a union's errors the deepest is about the member that was meant."""
    first = errors[0]
    same = [error for error in errors if error["loc"][:3] == first["loc"][:3]]
    return max(same, key=lambda error: len(error["loc"]))


def parse(model: type[AnyBody], data: bytes) -> AnyBody:
    """Read a body.

    Raises:
        InvalidRequest: It is not JSON, or not such a body; `param` names the field.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise explain(_most_telling(details)) from None
