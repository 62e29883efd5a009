"""The download of a model: the real client in a process of its own, against a hub on loopback."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest

from ragtenancy_api.wiring import DOWNLOAD_PATH, DownloadFailure, DownloadProgress
from ragtenancy_runtime.download.cache import ModelFolder
from tests.e2e.product.team import until
from tests.fakes.hub import COMMIT, TOKEN, FakeHub, Repo, tiny_model
from tests.integration.servers import Process, free_ports

MODEL = "org/model"
MB = 1_000_000


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub with one model."""
    fake = FakeHub({MODEL: Repo(tiny_model())}).start()
    yield fake
    fake.stop()


@dataclass
class Downloader:
    """Runs `python -m ragtenancy_runtime.download`."""

    home: Path
    endpoint: str
    started: list[Process] = field(default_factory=list)
    port: int = 0

    @property
    def folder(self) -> ModelFolder:
        return ModelFolder.of(self.home / "cache", MODEL)

    @property
    def termination_log(self) -> Path:
        return self.home / "termination-log"

    def start(self, model: str = MODEL, patience: float = 20, **variables: str) -> Process:
        self.port = free_ports(1)[0]
        self.termination_log.write_text("")
        (self.home / "cache").mkdir(exist_ok=True)
        command = [
            sys.executable, "-m", "ragtenancy_runtime.download", model, "--host", "127.0.0.1",
            "--internal-port", str(self.port), "--patience", str(patience),
            "--termination-log", str(self.termination_log),
        ]  # fmt: skip
        environment = {
            **os.environ,
            "HF_HOME": str(self.home / "cache"),
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **variables,
        }
        process = Process(command, self.home / "log", environment)
        self.started.append(process)
        return process

    def run(self, model: str = MODEL, patience: float = 20, **variables: str) -> int:
        return self.start(model, patience, **variables).wait(40)

    def progress(self) -> DownloadProgress | None:
        """What it says; None while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{DOWNLOAD_PATH}", timeout=2) as answer:
                return DownloadProgress.model_validate_json(answer.read())
        except OSError:
            return None

    def failure(self) -> DownloadFailure:
        return DownloadFailure.model_validate_json(self.termination_log.read_text())

    def has(self, name: str) -> bytes:
        """A file of the model, as others read it."""
        return (self.folder.snapshot() / name).read_bytes()


@pytest.fixture
def downloader(tmp_path: Path, hub: FakeHub) -> Iterator[Downloader]:
    """A downloader with an empty cache."""
    made = Downloader(tmp_path, hub.url)
    yield made
    for process in made.started:
        process.stop()


def test_a_model_is_downloaded_once_and_only_what_vllm_reads(
    hub: FakeHub, downloader: Downloader
) -> None:
    files = hub.repos[MODEL].files
    files |= {"pytorch_model.bin": b"again", "onnx/model.onnx": b"again", "README.md": b"text"}
    assert downloader.run() == 0
    names = {path.name for path in downloader.folder.snapshot().iterdir()}
    assert names == set(tiny_model())
    assert downloader.has("model-00001-of-00001.safetensors") == b"\1" * 1000
    asked = len(hub.asked)
    assert downloader.run() == 0
    assert len(hub.asked) == asked


def test_a_marked_download_that_lost_a_file_fetches_it_again(
    hub: FakeHub, downloader: Downloader
) -> None:
    assert downloader.run() == 0
    lost = downloader.folder.snapshot() / "model-00001-of-00001.safetensors"
    lost.resolve().unlink()
    lost.unlink()
    assert downloader.run() == 0
    assert downloader.has(lost.name) == b"\1" * 1000
    assert hub.sent[lost.name] == 2000


def test_progress_is_visible_and_a_kill_keeps_what_was_whole(
    hub: FakeHub, downloader: Downloader
) -> None:
    quick, slow = (f"model-0000{at}-of-00002.safetensors" for at in (1, 2))
    hub.repos[MODEL] = Repo(tiny_model(24 * MB, shards=2), stop_after={slow: 16 * MB})
    hub.gate.clear()
    first = downloader.start()

    def half_way() -> DownloadProgress | None:
        found = downloader.progress()
        return found if found and found.done > 30 * MB else None

    seen = until(half_way, 30, "half of it")
    assert seen.total is not None
    assert seen.done < 48 * MB < seen.total
    assert not (downloader.folder.snapshot() / slow).exists()
    first.kill()
    assert downloader.folder.unfinished()
    hub.sent.clear()
    hub.gate.set()
    assert downloader.run() == 0
    assert downloader.has(slow) == b"\2" * 24 * MB
    assert quick not in hub.sent
    assert not downloader.folder.unfinished()


def test_sigterm_ends_it_and_leaves_nothing_half_done(hub: FakeHub, downloader: Downloader) -> None:
    slow = "model-00001-of-00001.safetensors"
    hub.repos[MODEL] = Repo(tiny_model(24 * MB), stop_after={slow: 16 * MB})
    hub.gate.clear()
    process = downloader.start()
    until(downloader.folder.unfinished, 30, "a file that is begun")
    process.terminate()
    assert process.wait(10) == 128 + 15
    assert not downloader.folder.unfinished()
    assert not downloader.folder.marked_complete()


def test_a_model_that_is_not_there_is_named(downloader: Downloader) -> None:
    assert downloader.run("org/nothing") == 1
    assert downloader.failure().reason == "ModelNotFound"
    assert "org/nothing" in downloader.failure().message
    assert downloader.run("org/nothing", HF_TOKEN=TOKEN) == 1
    assert downloader.failure().reason == "ModelNotFound"
    assert downloader.run("a/b/c") == 1
    assert downloader.failure().reason == "ModelNotFound"


def test_a_gated_model_wants_a_token_that_is_accepted(hub: FakeHub, downloader: Downloader) -> None:
    hub.repos[MODEL].gated = True
    assert downloader.run() == 1
    assert downloader.failure().reason == "TokenMissing"
    assert "tokenSecretRef" in downloader.failure().message
    assert downloader.run(HF_TOKEN="hf_somebody-elses") == 1
    assert downloader.failure().reason == "TokenMissing"
    log = (downloader.home / "log").read_text()
    assert "hf_somebody-elses" not in log + downloader.failure().message
    assert downloader.run(HF_TOKEN=TOKEN) == 0
    assert TOKEN not in (downloader.home / "log").read_text()


def test_a_model_that_does_not_fit_is_not_begun(hub: FakeHub, downloader: Downloader) -> None:
    name = "model-00001-of-00001.safetensors"
    hub.repos[MODEL].claims[name] = 10**16
    assert downloader.run() == 1
    assert downloader.failure().reason == "DiskFull"
    assert "10000.0 TB are to come" in downloader.failure().message
    assert name not in hub.sent


def test_a_hub_that_is_away_for_a_while_is_waited_for(hub: FakeHub, downloader: Downloader) -> None:
    hub.fault = 503
    process = downloader.start(patience=60)

    def troubled() -> str:
        found = downloader.progress()
        return found.trouble if found else ""

    assert "503" in until(troubled, 30, "the hub's status")
    hub.fault = 0
    assert process.wait(40) == 0
    assert downloader.folder.marked_complete()


def test_a_hub_that_stays_away_is_said(hub: FakeHub, downloader: Downloader) -> None:
    hub.stop()
    assert downloader.run(patience=2) == 1
    assert downloader.failure().reason == "Unreachable"


def prefill(downloader: Downloader, files: dict[str, bytes]) -> None:
    """A cache that somebody else has filled: no marker, no listing."""
    folder = downloader.folder
    snapshot = folder.snapshot_of(COMMIT)
    snapshot.mkdir(parents=True)
    (folder.path / "refs").mkdir()
    (folder.path / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)


def test_a_filled_cache_serves_while_the_hub_is_away(hub: FakeHub, downloader: Downloader) -> None:
    hub.stop()
    prefill(downloader, tiny_model(shards=2))
    assert downloader.run() == 0
    assert downloader.run(HF_HUB_OFFLINE="1") == 0


@pytest.mark.parametrize(
    "lacking", ["config.json", "tokenizer.json", "model-00002-of-00002.safetensors"]
)
def test_a_cache_that_lacks_a_file_does_not_serve(
    hub: FakeHub, downloader: Downloader, lacking: str
) -> None:
    hub.stop()
    prefill(downloader, {n: c for n, c in tiny_model(shards=2).items() if n != lacking})
    assert downloader.run(HF_HUB_OFFLINE="1") == 1
    assert downloader.failure().reason == "Unreachable"
    assert "HF_HUB_OFFLINE" in downloader.failure().message


def test_a_cut_off_download_is_not_taken_for_a_filled_cache(
    hub: FakeHub, downloader: Downloader
) -> None:
    # all that a filled cache must have comes; what this model needs beside it does not
    late = "2_Dense/model.safetensors"
    hub.repos[MODEL] = Repo(tiny_model(more={late: b"dense"}), stop_after={late: 0})
    hub.gate.clear()
    process = downloader.start()
    until(downloader.folder.looks_complete, 30, "the cache")
    process.kill()
    hub.stop()
    assert downloader.run(patience=1) == 1
    assert downloader.failure().reason == "Unreachable"
