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
