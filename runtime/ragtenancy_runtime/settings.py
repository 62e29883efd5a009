"""What a pod is told when it starts: environment variables and credential files.

The names are those of `ragtenancy_api.wiring`, which the operator writes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from ragtenancy_api import wiring

ENV_DRAIN_SECONDS = "RAGTENANCY_DRAIN_SECONDS"
"""How long a pod that was told to stop still takes requests, so that no Service sends it one that
it would refuse. Its termination grace period must be longer than this and the longest answer."""


class SettingsError(Exception):
    """The environment is incomplete; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets, read from files; never shown by repr."""

    state_redis: str = field(repr=False)
    cache_redis: str = field(repr=False)
    cache_salt: bytes = field(repr=False)
    weaviate: str | None = field(default=None, repr=False)
    embedding: str | None = field(default=None, repr=False)
    generation: str | None = field(default=None, repr=False)
    weaviate_ca: Path | None = None
    embedding_ca: Path | None = None
    generation_ca: Path | None = None
    """CAs (PEM) that the server's certificate is verified by; the public ones when absent."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a pod needs to know beside the watched objects."""

    deployment: str
    namespace: str
    weaviate_http_url: str
    weaviate_grpc_url: str
    embedding_url: str
    generation_url: str
    credentials: Credentials
    embedding_model_cache: Path | None = None
    generation_model_cache: Path | None = None
    tenants: Path | None = None
    """Directory of YAML files with the RAGDeployment and its RAGBindings, instead of a watch."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod listens on its own address
    api_port: int = wiring.API_PORT
    internal_port: int = wiring.INTERNAL_PORT
    drain_seconds: float = 5.0
    otlp_endpoint: str | None = None
    trace_sample_ratio: float = 1.0


def read_credentials(directory: Path) -> Credentials:
    """Read the CREDENTIAL_* files of a directory.

    Raises:
        SettingsError: A file that must be there is not.
    """

    def optional(name: str) -> str | None:
        path = directory / name
        return path.read_text().strip() if path.is_file() else None

    def required(name: str) -> str:
        value = optional(name)
        if not value:
            raise SettingsError(f"credential file {directory / name} is missing or empty")
        return value

    def authority(name: str) -> Path | None:
        path = directory / name
        return path if path.is_file() else None

    def redis(name: str, ca: str) -> str:
        """A Redis's URL, whose query is where redis-py takes the CA from."""
        url, path = required(name), authority(ca)
        if path is None:
            return url
        return f"{url}{'&' if urlsplit(url).query else '?'}ssl_ca_certs={quote(str(path))}"

    return Credentials(
        state_redis=redis(wiring.CREDENTIAL_STATE_REDIS, wiring.CA_STATE_REDIS),
        cache_redis=redis(wiring.CREDENTIAL_CACHE_REDIS, wiring.CA_CACHE_REDIS),
        cache_salt=required(wiring.CREDENTIAL_CACHE_SALT).encode(),
        weaviate=optional(wiring.CREDENTIAL_WEAVIATE),
        embedding=optional(wiring.CREDENTIAL_EMBEDDING),
        generation=optional(wiring.CREDENTIAL_GENERATION),
        weaviate_ca=authority(wiring.CA_WEAVIATE),
        embedding_ca=authority(wiring.CA_EMBEDDING),
        generation_ca=authority(wiring.CA_GENERATION),
    )


def read_settings(environ: Mapping[str, str] = os.environ, tenants: Path | None = None) -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: A variable or credential file that must be there is not.
    """

    def required(name: str) -> str:
        value = environ.get(name)
        if not value:
            raise SettingsError(f"environment variable {name} is not set")
        return value

    def directory(name: str) -> Path | None:
        value = environ.get(name)
        return Path(value) if value else None

    return Settings(
        deployment=required(wiring.ENV_DEPLOYMENT),
        namespace=required(wiring.ENV_NAMESPACE),
        weaviate_http_url=required(wiring.ENV_WEAVIATE_HTTP_URL),
        weaviate_grpc_url=required(wiring.ENV_WEAVIATE_GRPC_URL),
        embedding_url=required(wiring.ENV_EMBEDDING_URL).rstrip("/"),
        generation_url=required(wiring.ENV_GENERATION_URL).rstrip("/"),
        credentials=read_credentials(Path(required(wiring.ENV_CREDENTIALS))),
        embedding_model_cache=directory(wiring.ENV_EMBEDDING_MODEL_CACHE),
        generation_model_cache=directory(wiring.ENV_GENERATION_MODEL_CACHE),
        tenants=tenants,
        drain_seconds=float(environ.get(ENV_DRAIN_SECONDS, "5")),
        otlp_endpoint=environ.get(wiring.ENV_OTLP_ENDPOINT) or None,
        trace_sample_ratio=float(environ.get(wiring.ENV_TRACE_SAMPLE_RATIO, "1")),
    )
