"""What of a model is wanted, and what of it a Hugging Face cache holds.

The layout is the hub's own (`huggingface_hub`, "Understand caching"): ``hub/models--ORG--NAME``
with ``refs/main`` (a commit), ``snapshots/COMMIT/FILE`` (links) and ``blobs`` (contents).
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

_FORMATS: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
"""Formats of weights that vLLM reads, the one that it prefers first."""
_OTHER_WEIGHTS: Final = frozenset(
    {".h5", ".msgpack", ".ot", ".onnx", ".onnx_data", ".tflite", ".ckpt", ".mlmodel", ".nemo"}
)
_FOR_PEOPLE: Final = frozenset(
    {".md", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".mp4", ".pdf", ".gitattributes"}
)
_OTHER_FOLDERS: Final = frozenset({"onnx", "openvino", "coreml", "original"})
_SHARD: Final = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_TOKENIZERS: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "*.tiktoken",
)
_MARKER: Final = "ragtenancy.json"
"""In the model's folder: commit, files and sizes of a download that came to its end."""


def wanted(files: Iterable[str]) -> list[str]:
    """Those files of a repository that vLLM and the tokenizers read.

    Of weights that are there in several formats, vLLM's first choice, folder by folder.
    """
    weights: dict[PurePosixPath, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    chosen = []
    for name in files:
        path = PurePosixPath(name)
        suffix = path.suffix.lower() or path.name
        if suffix in _OTHER_WEIGHTS | _FOR_PEOPLE or _OTHER_FOLDERS & set(path.parts[:-1]):
            continue
        if suffix in _FORMATS:
            weights[path.parent][suffix].append(name)
        else:
            chosen.append(name)
    for by_format in weights.values():
        chosen += next(by_format[suffix] for suffix in _FORMATS if suffix in by_format)
    return sorted(chosen)


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder in a cache."""

    path: Path

    @classmethod
    def of(cls, home: Path, model: str) -> "ModelFolder":
        """The folder of a model; it need not exist."""
        return cls(home / "hub" / f"models--{model.replace('/', '--')}")

    def snapshot(self) -> Path:
        """Where the files lie that ``main`` stands for.

        Raises:
            OSError: Nothing of the model is there.
        """
        return self.snapshot_of((self.path / "refs" / "main").read_text().strip())

    def snapshot_of(self, commit: str) -> Path:
        """Where the files of a commit lie."""
        return self.path / "snapshots" / commit

    def missing(self, commit: str, sizes: Mapping[str, int]) -> dict[str, int]:
        """Those of the files that are not there whole, with their sizes."""
        snapshot = self.snapshot_of(commit)
        return {name: size for name, size in sizes.items() if _size(snapshot / name) != size}

    def arrived(self, commit: str, sizes: Mapping[str, int]) -> int:
        """Bytes of the files that are on the disk, those of unfinished files included."""
        missing = sum(self.missing(commit, sizes).values())
        whole = sum(sizes.values()) - missing
        # blocks, not the length: it may be set before the content comes
        partial = sum(_blocks(path) for path in self.unfinished())
        return whole + min(partial, missing)

    def unfinished(self) -> list[Path]:
        """Files that a download has begun. The hub's client does not go on with another's."""
        return list((self.path / "blobs").glob("*.incomplete"))

    def mark_complete(self, commit: str, sizes: Mapping[str, int]) -> None:
        """Note that a download has come to its end."""
        text = json.dumps({"commit": commit, "files": dict(sizes)})
        draft = self.path / f".{_MARKER}"
        draft.write_text(text)
        draft.rename(self.path / _MARKER)

    def marked_complete(self) -> bool:
        """Whether a download came to its end here, and everything is still there."""
        try:
            marker = json.loads((self.path / _MARKER).read_text())
            commit, sizes = marker["commit"], marker["files"]
            current = self.snapshot() == self.snapshot_of(commit)
        except (OSError, ValueError, KeyError):
            return False
        return current and not self.missing(commit, sizes)

    def looks_complete(self) -> bool:
        """Whether a cache that others filled holds a model that can be served.

        That are its configuration, a tokenizer, and every file of weights that its index or the
        numbers in the files' names tell of.
        """
        try:
            snapshot = self.snapshot()
        except OSError:
            return False
        names = {path.name for path in snapshot.glob("*") if path.is_file()}
        described = bool(names & {"config.json", "params.json"})
        tokenizer = any(path.is_file() for name in _TOKENIZERS for path in snapshot.glob(name))
        return described and tokenizer and _weights_complete(snapshot, names)


def _weights_complete(snapshot: Path, names: set[str]) -> bool:
    for suffix in _FORMATS:
        needed = {name for name in names if name.endswith(suffix)}
        for shard in filter(None, map(_SHARD.fullmatch, sorted(needed))):
            needed |= {
                f"{shard['stem']}-{number:05}-of-{shard['count']}{shard['suffix']}"
                for number in range(1, int(shard["count"]) + 1)
            }
        for index in (name for name in names if name.endswith(f"{suffix}.index.json")):
            try:
                needed |= set(json.loads((snapshot / index).read_text())["weight_map"].values())
            except (OSError, ValueError, KeyError):
                return False
        if needed:
            return all((snapshot / name).is_file() for name in needed)
    return False


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _blocks(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0  # finished, or given up, since it was listed
