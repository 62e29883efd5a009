"""The OpenAPI document, from the same models that bodies are read with."""

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from ragtenancy_runtime.http.payloads import Body, ChatRequest, DocumentRequest, SearchRequest

_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_DOCUMENT: Final = {
    "type": "object",
    "required": ["id", "version", "status", "chunks", "bytes"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "document"},
        "version": {"type": "string"},
        "status": {"const": "ready"},
        "title": {"type": "string"},
        "metadata": {"type": "object"},
        "chunks": {"type": "integer"},
        "bytes": {"type": "integer"},
        "created_at": {"type": "integer"},
        "updated_at": {"type": "integer"},
    },
}
_OBJECT: Final = {"type": "object"}
_DOCUMENT_ID: Final = {
    "name": "document_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}
_WRONG: Final = {
    "400": "The request is wrong; `param` names the field.",
    "401": "No such API key.",
    "403": "The key's role does not allow it, or the tenant is suspended.",
    "404": "It is not there.",
    "409": "Another request is changing this document.",
    "413": "Too large.",
    "429": "A quota denies the request; see `retry-after`.",
    "503": "Something that the answer needs is away; see `retry-after`.",
}


def _content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {kind: {"schema": schema}}


def _operation(
    summary: str,
    body: type[Body] | None = None,
    answer: dict[str, Any] = _OBJECT,
    ok: tuple[str, ...] = ("200",),
    *,
    streams: bool = False,
    path: bool = False,
) -> dict[str, Any]:
    content = _content(answer)
    if streams:
        content |= _content({"type": "string"}, "text/event-stream")
    operation: dict[str, Any] = {
        "summary": summary,
        "security": [{"key": []}],
        "responses": {
            **{code: {"description": "The answer.", "content": content} for code in ok},
            **{
                code: {
                    "description": text,
                    "content": _content({"$ref": "#/components/schemas/Error"}),
                }
                for code, text in _WRONG.items()
            },
        },
    }
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        operation["requestBody"] = {"required": True, "content": _content(schema)}
    if path:
        operation["parameters"] = [_DOCUMENT_ID]
    return operation


def build_document(version: str) -> dict[str, Any]:
    """The whole document."""
    bodies: list[type[Body]] = [ChatRequest, DocumentRequest, SearchRequest]
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    document = {"$ref": "#/components/schemas/Document"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ragtenancy", "version": version},
        "paths": {
            "/v1/chat/completions": {
                "post": _operation("Answer from the documents", ChatRequest, streams=True)
            },
            "/v1/search": {"post": _operation("Find chunks of documents", SearchRequest)},
            "/v1/documents": {
                "post": _operation("Write a document", DocumentRequest, document, ("200", "201"))
            },
            "/v1/documents/{document_id}": {
                "get": _operation("Read a document's record", answer=document, path=True),
                "delete": _operation("Delete a document", path=True),
            },
            "/v1/models": {"get": _operation("List the models")},
            "/v1/usage": {"get": _operation("Read the usage ledger")},
        },
        "components": {
            "schemas": {**schemas["$defs"], "Error": _ERROR, "Document": _DOCUMENT},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
