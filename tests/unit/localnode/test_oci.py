"""Images made from the same content are the same, and hold what they should."""

import io
import json
import tarfile
from pathlib import Path

from tests.e2e.localnode.oci import File, Image, folder, tree, write_archive, write_layer


def _layer_files(root: Path) -> Path:
    root.mkdir()
    (root / "program").write_text("#!/bin/sh\n")
    (root / "program").chmod(0o755)
    (root / "etc").mkdir()
    (root / "etc" / "config").write_text("a = 1\n")
    return root


def _write(out: Path, source: Path) -> str:
    out.mkdir()
    content = [*tree(source, "opt"), folder("data", owner=999)]
    return write_layer(out, content).digest


def test_same_content_gives_the_same_digest_whenever_it_was_written(tmp_path: Path) -> None:
    first = _write(tmp_path / "1", _layer_files(tmp_path / "a"))
    source = _layer_files(tmp_path / "b")
    for path in source.rglob("*"):
        path.touch()
    assert _write(tmp_path / "2", source) == first


def test_a_changed_file_gives_another_digest(tmp_path: Path) -> None:
    source = _layer_files(tmp_path / "a")
    first = _write(tmp_path / "1", source)
    (source / "program").write_text("#!/bin/sh\nexit 1\n")
    assert _write(tmp_path / "2", source) != first


def test_a_layer_keeps_modes_and_owners(tmp_path: Path) -> None:
    _write(tmp_path / "1", _layer_files(tmp_path / "a"))
    with tarfile.open(tmp_path / "1" / "layer.tar") as layer:
        members = {member.name: member for member in layer.getmembers()}
    assert members["opt/program"].mode == 0o755
    assert members["opt/etc/config"].isfile()
    assert (members["data"].uid, members["data"].isdir()) == (999, True)


def _names(archive: io.BytesIO) -> list[str]:
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        return tar.getnames()


def test_an_archive_holds_shared_layers_once_and_present_ones_never(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = write_layer(tmp_path / "base", [File("base", b"base")])
    (tmp_path / "top").mkdir()
    top = write_layer(tmp_path / "top", [File("top", b"top")])
    images = [Image("example/a:1", (base,), ("/a",)), Image("example/b:1", (base, top), ("/b",))]

    whole, thin = io.BytesIO(), io.BytesIO()
    write_archive(whole, images)
    write_archive(thin, images, present={f"sha256:{base.digest}"})

    assert _names(whole).count(f"blobs/sha256/{base.digest}") == 1
    assert f"blobs/sha256/{base.digest}" not in _names(thin)
    assert f"blobs/sha256/{top.digest}" in _names(thin)


def test_an_archive_names_its_images_as_containerd_reads_them(tmp_path: Path) -> None:
    layer = write_layer(tmp_path, [File("f", b"")])
    archive = io.BytesIO()
    write_archive(archive, [Image("docker.io/library/redis:8.0.2", (layer,))])
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        index = tar.extractfile("index.json")
        assert index
        [manifest] = json.load(index)["manifests"]
    assert manifest["annotations"]["io.containerd.image.name"] == "docker.io/library/redis:8.0.2"


def test_an_image_is_identified_by_what_it_runs(tmp_path: Path) -> None:
    layer = write_layer(tmp_path, [File("f", b"")])
    assert Image("a:1", (layer,), ("/a",)).digest != Image("a:1", (layer,), ("/b",)).digest
