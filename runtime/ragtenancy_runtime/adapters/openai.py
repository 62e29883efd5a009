"""OpenAI-compatible servers (vLLM or a provider), over aiohttp."""

import base64
import json
import ssl
import struct
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from ragtenancy_api.models import Embedding
from ragtenancy_runtime.errors import InvalidRequest, Unavailable, UpstreamFailed
from ragtenancy_runtime.ports import AnswerStream, Embeddings

CONNECT_S: Final = 2.0
"""A client must hear of an absent server within 5 s."""
SILENCE_S: Final = 300.0
"""Longest pause within an answer: prefill of a long prompt behind a full queue."""
EMBED_S: Final = 60.0
_MAX_ERROR_BYTES: Final = 65_536


def session(api_key: str | None, authority: Path | None = None) -> aiohttp.ClientSession:
    """A client for one server; it keeps its connections.

    Args:
        api_key: The server's key; None: it asks for none.
        authority: CAs (PEM) that alone are trusted; None: the public ones.
    """
    headers = {"content-type": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    return aiohttp.ClientSession(
        headers=headers,
        # vLLM closes what was idle for 5 s: a connection must not be taken up in that moment.
        connector=aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=4,
            ssl=True if authority is None else ssl.create_default_context(cafile=authority),
        ),
        timeout=aiohttp.ClientTimeout(
            total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=SILENCE_S
        ),
    )


async def _refusal(response: aiohttp.ClientResponse, service: str) -> Exception:
    """What a status other than 200 means to the client.

    A 400 or 422 is about the request, which is the client's: it is passed on. Everything else
    (keys, names, overload) is between us and the server.
    """
    if response.status in {400, 413, 422}:
        text = (await response.content.read(_MAX_ERROR_BYTES)).decode(errors="replace")
        return InvalidRequest(_message(text) or f"The {service} refuses the request.")
    retry_after = response.headers.get("retry-after", "")
    error = Unavailable(service, float(retry_after) if retry_after.isdigit() else 1.0)
    error.__cause__ = UpstreamFailed(f"status {response.status}")
    return error


def _message(text: str) -> str | None:
    """The message of an OpenAI error object, if this is one."""
    try:
        error = json.loads(text)["error"]
        message = error["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) else None


def decode_vector(value: list[float] | str) -> list[float]:
    """A vector as an embedding server writes it: numbers, or base64 of little-endian floats."""
    if isinstance(value, str):
        data = base64.b64decode(value)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return value


class OpenAIEmbedder:
    """An embedding server."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = f"{url}/embeddings"
        self._http = http
        self._timeout = aiohttp.ClientTimeout(
            total=EMBED_S, connect=CONNECT_S, sock_connect=CONNECT_S
        )

    async def embed(self, model: Embedding, texts: Sequence[str]) -> Embeddings:
        """Embed texts in one call."""
        body = json.dumps({"model": model.model, "input": list(texts), "encoding_format": "base64"})
        try:
            async with self._http.post(self._url, data=body, timeout=self._timeout) as response:
                if response.status != 200:
                    raise await _refusal(response, "embedding model")
                answer = await response.json(content_type=None)
            entries = sorted(answer["data"], key=lambda entry: entry["index"])
            vectors = [decode_vector(entry["embedding"]) for entry in entries]
            tokens = int(answer["usage"]["prompt_tokens"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("embedding model") from error
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise Unavailable("embedding model") from error
        if len(vectors) != len(texts):
            raise Unavailable("embedding model")
        found = {len(vector) for vector in vectors}
        if found != {model.dimensions}:
            said = f"vectors of {found} numbers; spec.embedding.dimensions is {model.dimensions}"
            raise Unavailable("embedding model") from UpstreamFailed(said)
        return Embeddings(vectors, tokens)


class OpenAIStream:
    """A streamed answer: cuts what arrives into the data of its events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def events(self) -> AsyncGenerator[list[bytes], None]:
        """The data of the events, in batches as they arrive."""
        rest = b""
        try:
            async for piece in self._response.content.iter_any():
                lines = (rest + piece).split(b"\n")
                rest = lines.pop()
                batch = [line[5:].strip() for line in lines if line.startswith(b"data:")]
                if batch:
                    yield batch
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamFailed(type(error).__name__) from error
        if rest.startswith(b"data:"):
            yield [rest[5:].strip()]

    def close(self) -> None:
        """Close the connection: a kept one would leave the server generating."""
        self._response.close()


class OpenAIGenerator:
    """A chat server."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = f"{url}/chat/completions"
        self._http = http

    async def complete(self, payload: bytes) -> dict[str, Any]:
        """A whole chat completion."""
        response = await self._post(payload)
        try:
            async with response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable("chat model") from error
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise Unavailable("chat model")
        return answer

    async def stream(self, payload: bytes) -> AnswerStream:
        """Start a streamed completion."""
        return OpenAIStream(await self._post(payload))

    async def _post(self, payload: bytes) -> aiohttp.ClientResponse:
        try:
            response = await self._http.post(self._url, data=payload)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("chat model") from error
        if response.status != 200:
            async with response:
                raise await _refusal(response, "chat model")
        return response
