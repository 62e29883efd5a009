"""How a model that the operator serves is doing, from its download to its vLLM. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from ragtenancy_api.wiring import DownloadFailure, DownloadProgress, amount
from ragtenancy_operator.children import model_download
from ragtenancy_operator.conditions import Verdict, no
from ragtenancy_operator.deployment import status
from ragtenancy_operator.deployment.status import Workload
from ragtenancy_operator.redact import LEFT_OUT, redacted
from ragtenancy_operator.store import Manifest

_LONGEST_LINE: Final = 300
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_+/=-]{32,}|(?<=Bearer )\S+")
"""Keys of ours have 43 such characters, tokens of the hub 37. A path that long goes too."""
_NO_GPU: Final = re.compile(r"Insufficient [\w.-]+/gpu\b")
STALLING_REASONS: Final = frozenset({"ModelNotFound", "TokenMissing", "DiskFull", "CacheReadOnly"})
"""What goes on only when a person mends it."""


@dataclass(frozen=True)
class ModelPart:
    """What there is of a model.

    Attributes:
        model: Its name.
        job: The Job of its download.
        downloaded: Whether the claim holds it.
        pods: The Job's pods.
        progress: What the pod that downloads said last.
        workload: Its vLLM, which may still be that of another model.
    """

    model: str
    job: Manifest | None
    downloaded: bool
    pods: Sequence[Manifest]
    progress: DownloadProgress | None
    workload: Workload


def verdict(kind: str, part: ModelPart) -> Verdict:
    """The condition of a model."""
    before = model_download.served(part.workload.obj)
    if before == part.model:
        return _serving(kind, part.workload)
    if part.downloaded:
        return no(kind, "Starting", f"{part.model} is downloaded, and its vLLM is made")
    found = _downloading(kind, part)
    if before is None:
        return found
    return no(kind, found.reason, f"{found.message}; vLLM keeps {before} until then")


def last_line(text: str) -> str:
    """The last line of a log that says something, fit to be shown."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    line = _CREDENTIAL.sub(LEFT_OUT, str(redacted(lines[-1])))
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


def _containers(pods: Sequence[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of the pod, and status, of each container."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses") or ():
            yield pod["metadata"]["name"], container


def _ended(container: dict[str, Any]) -> dict[str, Any] | None:
    """How a container ended that ended badly, now or the last time."""
    for state in ("state", "lastState"):
        ended: dict[str, Any] | None = (container.get(state) or {}).get("terminated")
        if ended and ended.get("exitCode"):
            return ended
    return None


def _unschedulable(kind: str, pods: Sequence[Manifest]) -> Verdict | None:
    trouble = status.pod_trouble(pods)
    if trouble is None or trouble[0] == "CrashLoopBackOff":
        return None
    reason, message = trouble
    if reason == "Unschedulable" and _NO_GPU.search(message):
        return no(kind, "InsufficientGPU", message)
    return no(kind, reason, message)


def _crash(kind: str, pods: Sequence[Manifest]) -> Verdict | None:
    for name, container in _containers(pods):
        ended = _ended(container)
        if ended is None or container.get("ready"):
            continue
        line = last_line(ended.get("message") or "")
        why = "" if ended.get("reason") in (None, "Error") else f" {ended['reason']},"
        code = f"{why} exit code {ended['exitCode']}"
        return no(kind, "CrashLooping", f"pod {name}:{code}{': ' if line else ''}{line}")
    return None


def _serving(kind: str, workload: Workload) -> Verdict:
    found = status.workload(kind, workload)
    if found.true or found.reason == "ScaledToZero":
        return found
    pods = [pod for pod in workload.pods if "deletionTimestamp" not in pod["metadata"]]
    return _unschedulable(kind, pods) or _crash(kind, pods) or no(kind, "Starting", found.message)


def _downloading(kind: str, part: ModelPart) -> Verdict:
    progress = part.progress
    if progress is not None and (progress.done or not _failure(part.pods)):
        return no(kind, "Downloading", _text(part.model, progress))
    if failure := _failure(part.pods):
        reason, message = failure.reason, last_line(failure.message)
        return no(kind, "DownloadFailed" if reason == "Failed" else reason, message)
    trouble = _unschedulable(kind, part.pods)
    if trouble and trouble.reason == "CreateContainerConfigError" and "ecret" in trouble.message:
        return no(
            kind,
            "TokenMissing",
            f"the model hub's token cannot be read; tokenSecretRef names it: {trouble.message}",
        )
    starting = no(kind, "Downloading", f"{part.model}: the download is starting")
    return trouble or _crash(kind, part.pods) or starting


def _failure(pods: Sequence[Manifest]) -> DownloadFailure | None:
    for _, container in _containers(pods):
        ended = _ended(container)
        try:
            if ended is not None:
                return DownloadFailure.model_validate_json(ended.get("message") or "")
        except ValidationError:
            continue  # it did not come to saying why
    return None


def _text(model: str, progress: DownloadProgress) -> str:
    if progress.total is None:
        text = f"{model}: the hub is asked for it"
    else:
        text = f"{model}: {amount(progress.done, progress.total)}"
    return f"{text}; waiting: {last_line(progress.trouble)}" if progress.trouble else text
