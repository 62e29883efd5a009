"""Writes OCI images with the standard library: layers as tars, and an archive of whole images.

The same content always gives the same digests: times are zero, names sorted, owners as given.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class File:
    """A file, folder or link of a layer; `content` is bytes, or a file of the host."""

    path: str
    content: bytes | Path | None = None
    mode: int = 0o644
    owner: int = 0
    link: str = ""

    def _header(self) -> tarfile.TarInfo:
        header = tarfile.TarInfo(self.path.strip("/"))
        header.uid = header.gid = self.owner
        header.mode = self.mode
        if self.link:
            header.type, header.linkname = tarfile.SYMTYPE, self.link
        elif self.content is None:
            header.type = tarfile.DIRTYPE
        elif isinstance(self.content, bytes):
            header.size = len(self.content)
        else:
            header.size = self.content.stat().st_size
        return header

    def add_to(self, tar: tarfile.TarFile) -> None:
        """Append to a layer."""
        if isinstance(self.content, Path):
            with self.content.open("rb") as stream:
                tar.addfile(self._header(), stream)
        else:
            data = io.BytesIO(self.content) if self.content is not None else None
            tar.addfile(self._header(), data)


def folder(path: str, *, mode: int = 0o755, owner: int = 0) -> File:
    """A folder of a layer."""
    return File(path, None, mode, owner)


def tree(source: Path, prefix: str = "") -> Iterator[File | tuple[Path, str]]:
    """Everything below a folder of the host, owners and modes kept, to appear under `prefix`."""
    for name in sorted(entry.name for entry in source.iterdir()):
        yield source / name, f"{prefix.strip('/')}/{name}".lstrip("/")


@dataclass(frozen=True)
class Layer:
    """An uncompressed layer: its digest is its diff id too."""

    tar: Path
    digest: str

    @property
    def descriptor(self) -> dict[str, object]:
        return {
            "mediaType": _LAYER,
            "digest": f"sha256:{self.digest}",
            "size": self.tar.stat().st_size,
        }


class _HashingFile(io.RawIOBase):
    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self.hash.update(data)
        return self._raw.write(data)


def write_layer(out: Path, content: Iterable[File | tuple[Path, str]]) -> Layer:
    """Write `layer.tar` and its digest into the folder `out`."""

    def normal(header: tarfile.TarInfo) -> tarfile.TarInfo:
        header.mtime = 0
        header.uname = header.gname = ""
        return header

    path = out / "layer.tar"
    with path.open("wb") as raw:
        hashing = _HashingFile(raw)
        with tarfile.open(
            fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20
        ) as tar:
            for entry in content:
                if isinstance(entry, File):
                    entry.add_to(tar)
                else:
                    tar.add(entry[0], arcname=entry[1], filter=normal)
    (out / "digest").write_text(hashing.hash.hexdigest())
    return read_layer(out)


def read_layer(out: Path) -> Layer:
    """The layer that `write_layer` left in a folder."""
    return Layer(out / "layer.tar", (out / "digest").read_text())


@dataclass(frozen=True)
class Image:
    """An image: its full name, its layers from the bottom, and how it starts."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = "/"

    @property
    def config(self) -> bytes:
        return _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {
                    "Env": [PATH, *self.env],
                    "Entrypoint": list(self.entrypoint),
                    "Cmd": list(self.command),
                    "User": self.user,
                    "WorkingDir": self.workdir,
                },
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{layer.digest}" for layer in self.layers],
                },
            }
        )

    @property
    def manifest(self) -> bytes:
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {**_descriptor(self.config), "mediaType": _CONFIG},
                "layers": [layer.descriptor for layer in self.layers],
            }
        )

    @property
    def digest(self) -> str:
        """The manifest's digest: the image's identity."""
        return str(_descriptor(self.manifest)["digest"])


def write_archive(out: IO[bytes], images: Sequence[Image], present: Collection[str] = ()) -> None:
    """Stream images as one OCI archive; blobs whose digests are `present` are left out."""
    seen = set(present)

    with tarfile.open(fileobj=out, mode="w|", bufsize=1 << 20) as tar:

        def put(name: str, content: bytes | Path) -> None:
            File(name, content).add_to(tar)

        put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        put("index.json", _index(images))
        for image in images:
            for blob in (image.config, image.manifest):
                digest = str(_descriptor(blob)["digest"])
                if digest not in seen:
                    put(f"blobs/{digest.replace(':', '/')}", blob)
                seen.add(digest)
            for layer in image.layers:
                if f"sha256:{layer.digest}" not in seen:
                    put(f"blobs/sha256/{layer.digest}", layer.tar)
                seen.add(f"sha256:{layer.digest}")


def _index(images: Sequence[Image]) -> bytes:
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [
                {
                    **_descriptor(image.manifest),
                    "mediaType": _MANIFEST,
                    "platform": {"architecture": "amd64", "os": "linux"},
                    "annotations": {
                        "io.containerd.image.name": image.name,
                        "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
                    },
                }
                for image in images
            ],
        }
    )


def _descriptor(blob: bytes) -> dict[str, object]:
    return {"digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
