"""The builders: what every pod must have, and what each component's settings do."""

from typing import Any

import pytest

from ragtenancy_operator.children import api, redis, secrets, vllm, weaviate
from ragtenancy_operator.children.base import quantity
from ragtenancy_operator.deployment import plan
from ragtenancy_operator.names import Component
from ragtenancy_operator.settings import Settings
from ragtenancy_operator.store import Manifest
from tests.unit.builders import context, deployment_spec

EXTERNAL: dict[str, Any] = {
    "vectorStore": {
        "weaviate": {"external": {"httpUrl": "http://w:8080", "grpcUrl": "grpc://w:50051"}}
    },
    "embedding": {"model": "m", "dimensions": 8, "external": {"url": "https://e/v1"}},
    "generation": {
        "model": "m",
        "maxModelLen": 2048,
        "external": {"url": "https://g/v1", "apiKeySecretRef": {"name": "own", "key": "k"}},
    },
    "state": {"redis": {"external": {"urlSecretRef": {"name": "own", "key": "s"}}}},
    "cache": {"redis": {"external": {"urlSecretRef": {"name": "own", "key": "c"}}}},
}


def manifests(spec: dict[str, Any] | None = None) -> list[Manifest]:
    return [m for built in plan.wanted(context(spec)).values() for m in built]


def templates(spec: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    return {
        m["metadata"]["name"]: m["spec"]["template"]
        for m in manifests(spec)
        if m["kind"] in ("Deployment", "StatefulSet")
    }


def container(name: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = templates(spec)[name]["spec"]["containers"][0]
    return found


def environment(name: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in container(name, spec)["env"]}


@pytest.mark.parametrize("name", sorted(templates()))
def test_every_pod_fits_pod_security_restricted(name: str) -> None:
    pod = templates()[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in pod["containers"]:
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert "hostNetwork" not in pod


@pytest.mark.parametrize("name", sorted(templates()))
def test_every_mount_has_a_volume_and_every_pod_its_probes(name: str) -> None:
    template = templates()[name]
    claims = {"data"} if name in ("main-weaviate", "main-state") else set()
    volumes = {volume["name"] for volume in template["spec"]["volumes"]} | claims
    (main,) = template["spec"]["containers"]
    assert {mount["name"] for mount in main["volumeMounts"]} <= volumes
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= main.keys()


def test_only_the_api_is_given_a_service_account_token() -> None:
    tokens = {n for n, t in templates().items() if t["spec"]["automountServiceAccountToken"]}
    assert tokens == {"main-api"}


def test_every_object_is_owned_labelled_and_in_the_deployments_namespace() -> None:
    for manifest in manifests():
        metadata = manifest["metadata"]
        assert metadata["namespace"] == "rag"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "ragtenancy"
        assert metadata["labels"]["ragtenancy.io/deployment"] == "main"
        (owner,) = metadata["ownerReferences"]
        assert owner["kind"] == "RAGDeployment"
        assert owner["controller"] is True


def test_the_longest_name_of_a_child_is_a_dns_label() -> None:
    longest = max((m["metadata"]["name"] for m in manifests()), key=len)
    # main has 4 characters, a RAGDeployment's name at most 40; a pod adds 17 to a Deployment's
    assert len(longest) - 4 + 40 <= 63


def test_a_services_selector_finds_the_pods_of_its_component() -> None:
    labels = {n: t["metadata"]["labels"] for n, t in templates().items()}
    for manifest in manifests():
        if manifest["kind"] == "Service":
            wanted = manifest["spec"]["selector"].items()
            assert [n for n, have in labels.items() if wanted <= have.items()] == [
                manifest["metadata"]["name"].removesuffix("-headless")
            ]


def test_weaviate_is_given_all_words_of_the_images_command() -> None:
    """Kubernetes args replace the image's own (facts of semitechnologies/weaviate:1.38)."""
    args = container("main-weaviate")["args"]
    assert args == ["--host", "0.0.0.0", "--port", "8080", "--scheme", "http"]


def test_no_image_gets_a_command_and_no_secret_stands_in_a_manifest() -> None:
    made = secrets.generate(context(), "main-state-credentials")
    password = made["data"]["password"]
    for name, template in templates().items():
        assert "command" not in template["spec"]["containers"][0], name
        assert password not in str(template)


def test_weaviate_takes_no_anonymous_requests() -> None:
    variables = environment("main-weaviate")
    assert variables["AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED"] == "false"
    assert variables["AUTHENTICATION_APIKEY_ALLOWED_KEYS"]["secretKeyRef"]["name"] == (
        "main-weaviate-credentials"
    )


def test_the_two_redis_differ_in_what_they_may_forget() -> None:
    state, cache = container("main-state")["args"], container("main-cache")["args"]
    assert state[-6:] == [
        "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    assert cache[-2:] == ["--maxmemory-policy", "allkeys-lru"]
    assert cache[cache.index("--maxmemory") + 1] == str(256 * 2**20)


@pytest.mark.parametrize(("gpus", "parallel"), [(0, None), (1, None), (4, "4")])
def test_gpus_are_asked_for_and_split_over(gpus: int, parallel: str | None) -> None:
    spec = deployment_spec(
        generation={"model": "org/chat", "maxModelLen": 2048, "vllm": {"gpus": gpus}}
    )
    main = container("main-generation", spec)
    limits = main.get("resources", {}).get("limits", {})
    assert limits.get("nvidia.com/gpu", 0) == gpus
    flag = "--tensor-parallel-size"
    args = main["args"]
    assert (args[args.index(flag) + 1] if flag in args else None) == parallel


def test_the_model_is_the_first_argument_and_the_users_come_last() -> None:
    spec = deployment_spec(
        generation={"model": "org/chat", "maxModelLen": 2048, "vllm": {"args": ["--dtype", "half"]}}
    )
    args = container("main-generation", spec)["args"]
    assert args[0] == "org/chat"
    assert args[-2:] == ["--dtype", "half"]


def test_a_hub_token_and_the_servers_key_come_from_secrets() -> None:
    vllm_ = {"tokenSecretRef": {"name": "hub", "key": "token"}}
    spec = deployment_spec(generation={"model": "m", "maxModelLen": 2048, "vllm": vllm_})
    variables = environment("main-generation", spec)
    assert variables["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert variables["VLLM_API_KEY"]["secretKeyRef"]["name"] == "main-generation-credentials"


def test_the_users_environment_wins() -> None:
    vllm_ = {"env": [{"name": "VLLM_NO_USAGE_STATS", "value": "0"}]}
    spec = deployment_spec(generation={"model": "m", "maxModelLen": 2048, "vllm": vllm_})
    assert environment("main-generation", spec)["VLLM_NO_USAGE_STATS"] == "0"


def test_external_parts_make_no_objects_but_the_apis() -> None:
    built = plan.wanted(context(EXTERNAL))
    assert {component for component, made in built.items() if made} == {Component.API}
    assert set(secrets.wanted(context(EXTERNAL))) == {"main-cache-salt"}


def test_the_api_is_told_where_everything_is() -> None:
    variables = environment("main-api", EXTERNAL)
    assert variables["RAGTENANCY_WEAVIATE_GRPC_URL"] == "grpc://w:50051"
    assert variables["RAGTENANCY_EMBEDDING_URL"] == "https://e/v1"
    assert "RAGTENANCY_EMBEDDING_MODEL_CACHE" not in variables
    sources = api.sources(context(EXTERNAL))
    assert (sources["generation-api-key"].name, sources["generation-api-key"].key) == ("own", "k")
    assert "embedding-api-key" not in sources
    assert "weaviate-api-key" not in sources


def test_the_api_is_told_where_its_traces_go() -> None:
    assert "RAGTENANCY_OTLP_ENDPOINT" not in environment("main-api")
    tracing = {"otlpEndpoint": "http://collector:4318", "sampleRatio": 0.25}
    variables = environment("main-api", deployment_spec(observability={"tracing": tracing}))
    assert variables["RAGTENANCY_OTLP_ENDPOINT"] == "http://collector:4318"
    assert float(variables["RAGTENANCY_TRACE_SAMPLE_RATIO"]) == 0.25


def test_pod_settings_reach_every_component() -> None:
    settings = {
        "resources": {"requests": {"cpu": "100m"}},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "pull"}],
        "podAnnotations": {"note": "x"},
        "podLabels": {"team": "rag"},
    }
    spec = deployment_spec(
        vectorStore={"weaviate": {"managed": settings}},
        embedding={"model": "m", "dimensions": 8, "vllm": settings},
        generation={"model": "m", "maxModelLen": 2048, "vllm": settings},
        state={"redis": {"managed": settings}},
        cache={"redis": {"managed": settings}},
        api=settings,
    )
    for name, template in templates(spec).items():
        pod = template["spec"]
        assert pod["nodeSelector"] == {"disk": "fast"}, name
        assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}], name
        assert pod["priorityClassName"] == "high", name
        assert pod["runtimeClassName"] == "nvidia", name
        assert pod["imagePullSecrets"] == [{"name": "pull"}], name
        assert pod["containers"][0]["resources"]["requests"]["cpu"] == "100m", name
        assert template["metadata"]["annotations"]["note"] == "x", name
        assert template["metadata"]["labels"]["team"] == "rag", name


def test_a_users_label_cannot_take_the_selectors_place() -> None:
    spec = deployment_spec(api={"podLabels": {"app.kubernetes.io/component": "weaviate"}})
    labels = templates(spec)["main-api"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "api"


def test_new_credentials_roll_the_pods_that_use_them() -> None:
    before = context()
    after = type(before)(before.deployment, before.images, {"weaviate": "new", "api": "new"})

    def stamp(which: Any) -> Any:
        template = weaviate.build(which)[-1]["spec"]["template"]
        return template["metadata"]["annotations"].get("ragtenancy.io/credentials")

    assert stamp(before) is None
    assert stamp(after) == "new"


def test_a_recorded_default_image_outlives_a_new_operator() -> None:
    recorded = context(None, images={"weaviate": "weaviate:old"})
    (image,) = {
        m["spec"]["template"]["spec"]["containers"][0]["image"]
        for m in weaviate.build(recorded)
        if m["kind"] == "StatefulSet"
    }
    assert image == "weaviate:old"


def test_the_apis_image_follows_the_operators() -> None:
    recorded = context(None, images={"api": "runtime:old"})
    assert recorded.images["api"] == Settings().images["api"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("256Mi", 256 * 2**20),
        ("1.5Gi", 3 * 2**29),
        ("1000", 1000),
        (2, 2),
        ("1000m", 1),
        ("2k", 2000),
    ],
)
def test_quantities(text: str | int, number: int) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "Mi", "1.2.3", "1Zi", "-1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity(text)


def test_builders_are_pure() -> None:
    spec = deployment_spec()
    assert [manifests(spec), vllm.build(context(spec), Component.EMBEDDING)] == [
        manifests(spec),
        vllm.build(context(spec), Component.EMBEDDING),
    ]
    assert redis.build_state(context(spec)) == redis.build_state(context(spec))
