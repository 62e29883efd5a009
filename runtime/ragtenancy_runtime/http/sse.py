"""Frames of server-sent events."""

from collections.abc import Iterable
from typing import Final

HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""No proxy may hold the frames back."""
HEARTBEAT: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"


def frames(chunks: Iterable[bytes]) -> bytes:
    """One frame for each chunk, which is JSON and so has no line breaks."""
    return b"".join([b"data: " + chunk + b"\n\n" for chunk in chunks])
