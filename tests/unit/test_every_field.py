"""Every field of both resources does something.

Each leaf of the schemas is changed, in a spec that sets it, and something that the operator makes
of the spec must change with it: a child, the binding that the API pods act on, whether tenants are
accepted. What is decided elsewhere, from the spec itself, stands in a table with the test that
proves it.
"""

import copy
import functools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ragtenancy_api.binding import BoundKey
from ragtenancy_api.crd import definitions
from ragtenancy_api.tenant import APIKey, RAGTenant
from ragtenancy_operator import names
from ragtenancy_operator.children import api, external, model_download, secrets, weaviate
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment import plan as deployment_plan
from ragtenancy_operator.names import Component
from ragtenancy_operator.tenant import keys
from ragtenancy_operator.tenant import plan as tenant_plan
from ragtenancy_operator.tenant.observe import Observed
from ragtenancy_operator.weaviate import vector_index
from tests.unit.builders import TENANT_UID, context

Spec = dict[str, Any]
Path_ = tuple[str | int, ...]
_ROOT = Path(__file__).resolve().parents[2]

_RUNTIME = "tests/integration/runtime"
_OPERATOR = "tests/integration/operator"
PROVEN_BY: dict[str, str] = {
    "RAGDeployment.spec.api.auth.apiKeys.enabled": f"{_RUNTIME}/test_access.py",
    "RAGDeployment.spec.api.auth.jwt.issuer": f"{_RUNTIME}/test_issuer.py",
    "RAGDeployment.spec.api.auth.jwt.audience": f"{_RUNTIME}/test_issuer.py",
    "RAGDeployment.spec.api.auth.jwt.jwksUrl": f"{_RUNTIME}/test_issuer.py",
    "RAGDeployment.spec.api.auth.jwt.tenantClaim": f"{_RUNTIME}/test_issuer.py",
    "RAGDeployment.spec.api.auth.jwt.role": f"{_RUNTIME}/test_access.py",
    "RAGDeployment.spec.deletionPolicy": f"{_OPERATOR}/test_deletion.py",
    "RAGDeployment.spec.embedding.dimensions": f"{_RUNTIME}/test_in_force.py",
    "RAGDeployment.spec.ingestion.chunking.overlap": f"{_RUNTIME}/test_in_force.py",
    "RAGDeployment.spec.ingestion.chunking.tokens": f"{_RUNTIME}/test_in_force.py",
    "RAGDeployment.spec.ingestion.maxDocumentBytes": f"{_RUNTIME}/test_in_force.py",
    "RAGDeployment.spec.vectorStore.maxActiveTenants": f"{_OPERATOR}/test_keeper.py",
    "RAGTenant.spec.restoreFrom.binding": f"{_OPERATOR}/test_tenants_retain.py",
}
"""What has its effect where no pure function shows it: the test that does."""

_OPEN = "x-kubernetes-preserve-unknown-fields"


def leaves(schema: Spec, path: Path_ = ()) -> Iterator[tuple[Path_, Spec]]:
    """Every leaf of a schema. Of a list and of a map, one item stands for all."""
    if schema.get(_OPEN) or isinstance(schema.get("additionalProperties"), dict):
        yield path, schema
    elif schema.get("type") == "array":
        yield from leaves(schema["items"], (*path, 0))
    elif "properties" in schema:
        for name, child in schema["properties"].items():
            yield from leaves(child, (*path, name))
    else:
        yield path, schema


def spec_schema(kind: str) -> Spec:
    for crd in definitions():
        if crd["spec"]["names"]["kind"] == kind:
            found: Spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
            return dict(found["spec"])
    raise LookupError(kind)


def shown(path: Path_) -> str:
    return ".".join("[]" if part == 0 else str(part) for part in path).replace(".[]", "[]")


def held(spec: Any, path: Path_) -> Any:
    """What a spec says at a path; KeyError when it says nothing."""
    for part in path:
        if isinstance(part, int):
            if not spec:
                raise KeyError(part)
            spec = spec[part]
        else:
            spec = spec[part]
    return spec


def put(spec: Spec, path: Path_, value: Any) -> Spec:
    changed = copy.deepcopy(spec)
    held(changed, path[:-1])[path[-1]] = value
    return changed


_UNITS = {"Gi": "Mi", "Mi": "Gi"}


def other(value: Any, schema: Spec) -> Any:  # noqa: PLR0911 - one return for each type
    """Another value of the same type."""
    if schema.get(_OPEN):
        return {**value, "changed": "yes"}
    if "enum" in schema:
        choices = [choice for choice in schema["enum"] if choice != value]
        return choices[0] if choices else None
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if value + 1 <= schema.get("maximum", value + 1) else value - 1
    if isinstance(value, float):
        return value / 2 + 0.1
    if isinstance(value, dict):
        return {
            **value,
            "changed": 3 if value and isinstance(next(iter(value.values())), int) else "3",
        }
    if schema.get("pattern", "").startswith("^([0-9]+h)"):
        return "7h" if value != "7h" else "8h"
    if schema.get("pattern", "").startswith("^[0-9]{4}-"):
        return value.replace("2030", "2031")
    if schema.get("pattern", "").startswith("^[0-9]+("):
        return value[:-2] + _UNITS[value[-2:]]
    return f"{value}x"


_POD: Spec = {
    "image": "registry.example.com/image:1",
    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
    "env": [{"name": "A", "value": "b"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [
        {
            "key": "a",
            "operator": "Equal",
            "value": "b",
            "effect": "NoExecute",
            "tolerationSeconds": 3,
        }
    ],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1}],
    "priorityClassName": "high",
    "runtimeClassName": "runc",
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "extraVolumes": [{"name": "extra", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
}
_STORAGE: Spec = {"size": "1Gi", "storageClassName": "fast", "retain": False}
_CACHE: Spec = {
    "persistentVolumeClaim": {
        "size": "1Gi",
        "storageClassName": "fast",
        "accessMode": "ReadWriteOnce",
    }
}
_VLLM: Spec = {
    **_POD,
    "replicas": 2,
    "gpus": 4,
    "tensorParallelSize": 2,
    "updateStrategy": "Recreate",
    "args": ["--one"],
    "modelCache": _CACHE,
    "tokenSecretRef": {"name": "hub", "key": "token"},
}
_TLS: Spec = {"caSecretRef": {"name": "ca", "key": "ca.crt"}}
_SELECTOR: Spec = {
    "matchLabels": {"team": "a"},
    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["one"]}],
}
_QUOTAS: Spec = {
    "requestsPerMinute": 50,
    "burst": 50,
    "tokensPerMinute": 50,
    "concurrentRequests": 50,
}
_SETTINGS: Spec = {
    "cache": {"exact": {"enabled": True, "ttl": "2h"}},
    "retrieval": {"mode": "Vector", "topK": 3, "maxContextTokens": 99},
    "generation": {"systemPrompt": "Be brief.", "temperature": 0.5, "maxTokens": 9},
    "idle": {"deactivateAfter": "2h"},
}

MANAGED: Spec = {
    "tenants": {
        "allowedNamespaces": {"from": "Selector", "selector": _SELECTOR},
        "defaults": {"quotas": _QUOTAS, **_SETTINGS},
        "limits": {
            "quotas": dict.fromkeys(_QUOTAS, 100),
            "isolations": ["Shard"],
            "maxKeys": 1,
        },
    },
    "vectorStore": {
        "weaviate": {"managed": {**_POD, "replicas": 3, "storage": _STORAGE}},
        "collection": {"index": "HNSW", "quantization": "RQ", "replicationFactor": 3},
        "maxActiveTenants": 10,
    },
    "embedding": {"model": "org/e", "dimensions": 8, "maxInputTokens": 512, "vllm": _VLLM},
    "generation": {"model": "org/g", "maxModelLen": 512, "vllm": _VLLM},
    "state": {"redis": {"managed": {**_POD, "storage": _STORAGE}}},
    "cache": {
        "redis": {"managed": {**_POD, "maxMemory": "64Mi"}},
        "exact": {"enabled": True, "ttl": "3h"},
    },
    "api": {
        **_POD,
        "replicas": 3,
        "publicURL": "https://rag.example.com",
        "ingress": {"host": "rag.example.com", "className": "nginx", "annotations": {"a": "b"}},
        "tls": {"secretName": "tls"},
        "auth": {
            "apiKeys": {"enabled": True},
            "jwt": {
                "issuer": "https://issuer.example.com",
                "audience": "rag",
                "jwksUrl": "https://issuer.example.com/keys",
                "tenantClaim": "tenant",
                "role": "Reader",
            },
        },
    },
    "ingestion": {"maxDocumentBytes": 9, "chunking": {"tokens": 99, "overlap": 9}},
    "observability": {
        "serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"a": "b"}},
        "tracing": {"otlpEndpoint": "http://collector:4318", "sampleRatio": 0.5},
    },
    "networkPolicy": {"enabled": True, "metricsFrom": _SELECTOR},
    "deletionPolicy": "Refuse",
}
_EXTERNAL: Spec = {
    "url": "https://models.example.com/v1",
    "apiKeySecretRef": {"name": "models", "key": "key"},
    "tls": _TLS,
}
_REDIS: Spec = {"urlSecretRef": {"name": "redis", "key": "url"}, "tls": _TLS}
ELSEWHERE: Spec = {
    "vectorStore": {
        "weaviate": {
            "external": {
                "httpUrl": "https://weaviate.example.com",
                "grpcUrl": "grpcs://weaviate.example.com:50051",
                "apiKeySecretRef": {"name": "weaviate", "key": "key"},
                "tls": _TLS,
            }
        }
    },
    "embedding": {"model": "org/e", "dimensions": 8, "external": _EXTERNAL},
    "generation": {"model": "org/g", "maxModelLen": 512, "external": _EXTERNAL},
    "state": {"redis": {"external": _REDIS}},
    "cache": {"redis": {"external": _REDIS}, "exact": {"enabled": True, "ttl": "3h"}},
    "api": {
        "publicURL": "https://rag.example.com",
        "resources": {"requests": {"cpu": "1"}},
        "autoscaling": {"minReplicas": 2, "maxReplicas": 5, "targetCPU": 50},
        "httpRoute": {
            "parentRefs": [{"name": "gateway", "namespace": "infra", "sectionName": "https"}],
            "hostnames": ["rag.example.com"],
        },
    },
}
_SCALED = {key: value for key, value in _VLLM.items() if key != "replicas"} | {
    "autoscaling": {"mode": "External"}
}
SCALED: Spec = {
    **MANAGED,
    "embedding": {**MANAGED["embedding"], "vllm": _SCALED},
    "generation": {**MANAGED["generation"], "vllm": _SCALED},
}

TENANT: Spec = {
    "deploymentRef": {"name": "main", "namespace": "rag"},
    "suspended": False,
    "isolation": "Shard",
    "quotas": _QUOTAS,
    **_SETTINGS,
    "apiKeys": [
        {
            "name": "app",
            "secretName": "app-key",
            "role": "Reader",
            "rotation": "1",
            "overlap": "2h",
            "expiresAt": "2030-01-01T00:00:00Z",
        }
    ],
    "deletionPolicy": "Delete",
    "restoreFrom": {"binding": "4c1f0d36-50a5-4b8e-8a6c-3f5d1e2c4b6a"},
}
BROUGHT: Spec = {
    **TENANT,
    "apiKeys": [{"name": "own", "secretRef": {"name": "vault", "key": "key"}}],
}


def tenant(spec: Spec, made: Context | None, namespace: str, labels: dict[str, str]) -> Observed:
    raw = {
        "apiVersion": "ragtenancy.io/v1alpha1",
        "kind": "RAGTenant",
        "metadata": {"name": "acme", "namespace": namespace, "uid": TENANT_UID, "generation": 1},
        "spec": spec,
    }
    return Observed(raw, RAGTenant.model_validate(raw), made, labels, None, [])


LABELS = {"team": "a", "tier": "one"}
_TWO_KEYS = [{"name": "one"}, {"name": "two"}]
PROBES: list[tuple[Spec, dict[str, str]]] = [
    ({}, LABELS),
    ({}, {"team": "a"}),
    ({}, {"team": "b", "tier": "one"}),
    ({}, {"team": "ax", "tier": "one"}),
    ({}, {"tier": "onex", "team": "a"}),
    ({"isolation": "Collection"}, LABELS),
    ({"apiKeys": _TWO_KEYS}, LABELS),
    *(({"quotas": {name: 101}}, LABELS) for name in _QUOTAS),
]
"""Tenants that a RAGDeployment is asked about, with the labels of their namespaces."""


def asked(made: Context, spec: Spec, labels: dict[str, str]) -> Any:
    whole = {"deploymentRef": {"name": "main", "namespace": "rag"}, **spec}
    probe = tenant(whole, made, "team", labels)
    return tenant_plan.accepted(probe), tenant_plan.settings(probe.tenant, made).wire()


def deployment_effects(spec: Spec) -> Any:
    """What the operator makes of a RAGDeployment's spec."""
    made = context(spec)
    models = (Component.EMBEDDING, Component.GENERATION)
    return {
        "children": deployment_plan.wanted(made),
        "downloads": [model_download.build(made, model, "uid-of-claim") for model in models],
        "secrets": secrets.wanted(made),
        "external": external.sources(made),
        "collection": vector_index(made.deployment.spec.vector_store.collection),
        "copies": weaviate.replication_factor(made),
        "url": api.url(made),
        "tenants": [asked(made, *probe) for probe in PROBES],
    }


NOW = datetime(2026, 1, 31, tzinfo=UTC)


def key_effects(key: APIKey, observed: Observed, made: Context) -> Any:
    """What becomes of one key: its Secret, its hash, and that of the key before a rotation."""
    if key.secret_ref is not None:
        said = []
        held_: list[Spec | None] = [None, {"data": {}}, {"data": {"key": "a" * 44}}]
        for secret in held_:
            try:
                said.append(str(keys.brought(key, "spec.apiKeys[0]", secret, "team")))
            except keys.Problem as problem:
                said.append(problem.message)
        return said
    fresh = keys.new_key_secret(observed, made, key, NOW)
    annotations = fresh["metadata"]["annotations"]
    current = BoundKey(
        id="key-b", name=key.name, sha256="b" * 64, rotation="2", issued_at="2026-01-30T00:00:00Z"
    )
    before = current.model_copy(update={"sha256": "a" * 64, "rotation": "1"})
    return [
        keys.key_secret(observed, made, key),
        annotations.get(names.ANNOTATION_ROTATION),
        keys.issued(key, fresh).model_copy(update={"sha256": "", "id": ""}),
        keys.left_over(key, current, [before], NOW),
    ]


def tenant_effects(spec: Spec) -> Any:
    """What the operator makes of a RAGTenant's spec."""
    made = context(UNLIMITED)
    there = spec["deploymentRef"] == {"name": made.name, "namespace": made.namespace}
    observed = tenant(spec, made if there else None, "team", LABELS)
    return {
        "accepted": tenant_plan.accepted(observed),
        "binding": tenant_plan.binding(observed, made, []),
        "keys": [key_effects(key, observed, made) for key in observed.tenant.spec.api_keys],
        "suspended": observed.tenant.spec.suspended,
    }


UNLIMITED: Spec = {
    **MANAGED,
    "tenants": {"allowedNamespaces": {"from": "Selector", "selector": _SELECTOR}},
}
KINDS: dict[str, tuple[list[Spec], Callable[[Spec], Any]]] = {
    "RAGDeployment": ([MANAGED, ELSEWHERE, SCALED], deployment_effects),
    "RAGTenant": ([TENANT, BROUGHT], tenant_effects),
}


@functools.cache
def of_base(kind: str, at: int) -> Any:
    bases, effects = KINDS[kind]
    return effects(bases[at])


def fields() -> Iterator[Any]:
    for kind in KINDS:
        for path, schema in leaves(spec_schema(kind)):
            name = f"{kind}.spec.{shown(path)}"
            yield pytest.param(kind, path, schema, id=name)


@pytest.mark.parametrize(("kind", "path", "schema"), fields())
def test_a_changed_field_changes_something(kind: str, path: Path_, schema: Spec) -> None:
    bases, effects = KINDS[kind]
    name = f"{kind}.spec.{shown(path)}"
    if name in PROVEN_BY:
        proof = (_ROOT / PROVEN_BY[name]).read_text("utf-8")
        words = {str(path[-1]), re.sub(r"(?<!^)(?=[A-Z])", "_", str(path[-1])).lower()}
        assert any(word in proof for word in words), f"{PROVEN_BY[name]} does not speak of {name}"
        return
    tried = 0
    for base in bases:
        try:
            value = held(base, path)
        except (KeyError, TypeError):
            continue
        tried += 1
        changed = other(value, schema)
        if changed is None:  # the only value there is: taken away instead
            spec = copy.deepcopy(base)
            del held(spec, path[:-2])[path[-2]]
        else:
            spec = put(base, path, changed)
        if effects(spec) != of_base(kind, bases.index(base)):
            return
    assert tried, f"no spec of this test sets {name}"
    pytest.fail(f"{name} was changed and nothing else did")
