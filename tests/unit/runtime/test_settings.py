import subprocess
import sys
from pathlib import Path

import pytest

from ragtenancy_api import wiring
from ragtenancy_runtime.settings import SettingsError, read_settings

ENVIRONMENT = {
    wiring.ENV_DEPLOYMENT: "main",
    wiring.ENV_NAMESPACE: "rag",
    wiring.ENV_WEAVIATE_HTTP_URL: "http://w:8080",
    wiring.ENV_WEAVIATE_GRPC_URL: "grpc://w:50051",
    wiring.ENV_EMBEDDING_URL: "http://e/v1/",
    wiring.ENV_GENERATION_URL: "http://g/v1",
}


def credentials(home: Path, *names: str) -> dict[str, str]:
    for name in names:
        (home / name).write_text(f"{name}-secret\n")
    return {**ENVIRONMENT, wiring.ENV_CREDENTIALS: str(home)}


REQUIRED = (
    wiring.CREDENTIAL_STATE_REDIS,
    wiring.CREDENTIAL_CACHE_REDIS,
    wiring.CREDENTIAL_CACHE_SALT,
)


def test_keys_that_are_not_there_are_not_sent_and_none_is_shown(tmp_path: Path) -> None:
    environ = credentials(tmp_path, *REQUIRED, wiring.CREDENTIAL_GENERATION)
    settings = read_settings(environ)
    assert settings.credentials.generation == "generation-api-key-secret"
    assert settings.credentials.embedding is None
    assert settings.embedding_url == "http://e/v1"
    assert settings.embedding_model_cache is None
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_missing_variable_is_named(tmp_path: Path, name: str) -> None:
    environ = credentials(tmp_path, *REQUIRED)
    del environ[name]
    with pytest.raises(SettingsError, match=name):
        read_settings(environ)


def test_a_missing_credential_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=wiring.CREDENTIAL_CACHE_SALT):
        read_settings(credentials(tmp_path, *REQUIRED[:2]))


def test_nobody_collects_traces_unless_somebody_says_so(tmp_path: Path) -> None:
    environ = credentials(tmp_path, *REQUIRED)
    assert read_settings(environ).otlp_endpoint is None
    told = {wiring.ENV_OTLP_ENDPOINT: "http://c:4318", wiring.ENV_TRACE_SAMPLE_RATIO: "0.25"}
    settings = read_settings({**environ, **told})
    assert (settings.otlp_endpoint, settings.trace_sample_ratio) == ("http://c:4318", 0.25)


def test_the_exporter_of_traces_is_not_in_memory_where_nobody_collects() -> None:
    program = (
        "import sys, ragtenancy_runtime.__main__\nsys.exit('opentelemetry.exporter' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
