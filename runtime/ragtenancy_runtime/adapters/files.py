"""Tenants from a directory of YAML files, for development and benchmarks."""

from pathlib import Path

import yaml

from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_runtime.tenants import Directory


def load(folder: Path, directory: Directory) -> None:
    """Read every RAGDeployment and RAGBinding of a folder into the directory, once."""
    bindings: list[RAGBinding] = []
    for path in sorted(folder.glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest and manifest["kind"] == "RAGDeployment":
                directory.set_deployment(RAGDeployment.model_validate(manifest).spec)
            elif manifest and manifest["kind"] == "RAGBinding":
                bindings.append(RAGBinding.model_validate(manifest))
    directory.replace(bindings)
