"""Where pods go, how many there are, how they are replaced, and how they end."""

from typing import Any

import pytest

from ragtenancy_operator.deployment import plan
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest
from tests.unit.builders import context, deployment_spec

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
SHARED = {"modelCache": {"persistentVolumeClaim": {"accessMode": "ReadWriteMany"}}}
COMPONENTS = (
    Component.WEAVIATE,
    Component.STATE,
    Component.CACHE,
    Component.EMBEDDING,
    Component.GENERATION,
    Component.API,
)


def with_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """A spec with the same settings for every component."""
    return deployment_spec(
        vectorStore={"weaviate": {"managed": settings}},
        embedding={"model": "m", "dimensions": 8, "vllm": {**SHARED, **settings}},
        generation={"model": "m", "maxModelLen": 2048, "vllm": {**SHARED, **settings}},
        state={"redis": {"managed": settings}},
        cache={"redis": {"managed": settings}},
        api=settings,
    )


def generation(**vllm: Any) -> dict[str, Any]:
    return deployment_spec(generation={"model": "org/chat", "maxModelLen": 2048, "vllm": vllm})


def made(kind: str, component: str, spec: dict[str, Any]) -> Manifest | None:
    found = [m for m in plan.wanted(context(spec))[component] if m["kind"] == kind]
    assert len(found) <= 1
    return found[0] if found else None


def workload(component: str, spec: dict[str, Any]) -> dict[str, Any]:
    found = made("Deployment", component, spec) or made("StatefulSet", component, spec)
    assert found is not None
    body: dict[str, Any] = found["spec"]
    return body


def pod(component: str, spec: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = workload(component, spec)["template"]["spec"]
    return body


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_big_settings_reach_the_pod_as_they_are(component: str) -> None:
    affinity = {"nodeAffinity": {"anything": ["goes"]}}
    spread = [{"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    volume = {"name": "extra", "configMap": {"name": "theirs"}}
    mounts = [
        {"name": "extra", "mountPath": "/extra"},
        {"name": "extra", "mountPath": "/again", "subPath": "x"},
    ]
    settings = {
        "affinity": affinity,
        "topologySpreadConstraints": spread,
        "extraVolumes": [volume],
        "extraVolumeMounts": mounts,
    }
    body = pod(component, with_settings(settings))
    assert body["affinity"] == affinity
    assert body["topologySpreadConstraints"] == spread
    assert body["volumes"][-1] == volume
    assert body["containers"][0]["volumeMounts"][-2:] == mounts
    bare = pod(component, with_settings({}))
    assert bare["containers"][0]["volumeMounts"] == body["containers"][0]["volumeMounts"][:-2]


@pytest.mark.parametrize("component", [Component.WEAVIATE, Component.GENERATION, Component.API])
def test_pods_of_a_component_prefer_different_nodes_and_zones(component: str) -> None:
    body = pod(component, with_settings({}))
    (term,) = body["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    labels = workload(component, with_settings({}))["selector"]
    assert term["podAffinityTerm"] == {"labelSelector": labels, "topologyKey": HOST}
    (spread,) = body["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (ZONE, "ScheduleAnyway")
    assert spread["labelSelector"] == labels


@pytest.mark.parametrize("component", [Component.STATE, Component.CACHE])
def test_what_has_one_pod_is_not_spread(component: str) -> None:
    assert not {"affinity", "topologySpreadConstraints"} & pod(component, with_settings({})).keys()


def test_pods_that_share_a_volume_of_one_node_are_near_each_other() -> None:
    spec = generation(**SHARED) | {"embedding": {"model": "m", "dimensions": 8, "vllm": {}}}
    for component in (Component.EMBEDDING, Component.API):
        body = pod(component, spec)
        assert body["affinity"].keys() == {"podAffinity"}
        (term,) = body["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        (among,) = term["podAffinityTerm"]["labelSelector"]["matchExpressions"]
        assert among["values"] == ["embedding", "embedding-download", "api"]
        assert "topologySpreadConstraints" not in body
    assert pod(Component.GENERATION, spec)["affinity"].keys() == {"podAntiAffinity"}


def test_empty_settings_switch_the_defaults_off() -> None:
    body = pod(Component.API, with_settings({"affinity": {}, "topologySpreadConstraints": []}))
    assert not {"affinity", "topologySpreadConstraints"} & body.keys()


def test_a_second_pod_does_not_roll_the_first() -> None:
    one, two = (pod(Component.GENERATION, generation(replicas=n)) for n in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    ("component", "spec", "there"),
    [
        (Component.API, deployment_spec(), True),
        (Component.API, deployment_spec(api={"replicas": 1}), False),
        (Component.API, deployment_spec(api={"replicas": 0}), False),
        (Component.API, deployment_spec(api={"autoscaling": {"maxReplicas": 4}}), True),
        (
            Component.API,
            deployment_spec(api={"autoscaling": {"minReplicas": 1, "maxReplicas": 1}}),
            False,
        ),
        (Component.GENERATION, generation(), False),
        (Component.GENERATION, generation(replicas=2), True),
        (Component.GENERATION, generation(autoscaling={"mode": "External"}), True),
        (Component.WEAVIATE, deployment_spec(), False),
        (
            Component.WEAVIATE,
            deployment_spec(vectorStore={"weaviate": {"managed": {"replicas": 3}}}),
            True,
        ),
        (Component.STATE, deployment_spec(), False),
        (Component.CACHE, deployment_spec(), False),
    ],
)
def test_several_pods_have_a_disruption_budget(
    component: str, spec: dict[str, Any], there: bool
) -> None:
    budget = made("PodDisruptionBudget", component, spec)
    assert (budget is not None) is there
    if budget is not None:
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"] == workload(component, spec)["selector"]


def test_an_autoscaler_has_the_apis_replicas() -> None:
    scaling = {"minReplicas": 3, "maxReplicas": 9, "targetCPU": 55}
    spec = deployment_spec(api={"autoscaling": scaling})
    assert "replicas" not in workload(Component.API, spec)
    scaler = made("HorizontalPodAutoscaler", Component.API, spec)
    assert scaler is not None
    assert scaler["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "main-api"},
        "minReplicas": 3,
        "maxReplicas": 9,
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 55},
                },
            }
        ],
    }
    assert made("HorizontalPodAutoscaler", Component.API, deployment_spec()) is None


@pytest.mark.parametrize("component", [Component.EMBEDDING, Component.GENERATION])
def test_somebody_else_has_a_models_replicas(component: str) -> None:
    vllm = {"autoscaling": {"mode": "External"}}
    spec = deployment_spec(
        embedding={"model": "m", "dimensions": 8, "vllm": vllm},
        generation={"model": "m", "maxModelLen": 2048, "vllm": vllm},
    )
    assert "replicas" not in workload(component, spec)
    assert workload(component, deployment_spec())["replicas"] == 1


@pytest.mark.parametrize(
    ("gpus", "tensor", "flags"),
    [
        (0, None, {}),
        (1, None, {}),
        (4, None, {"--tensor-parallel-size": "4"}),
        (4, 4, {"--tensor-parallel-size": "4"}),
        (4, 2, {"--tensor-parallel-size": "2", "--pipeline-parallel-size": "2"}),
        (4, 1, {"--pipeline-parallel-size": "4"}),
    ],
)
def test_gpus_are_split_over_layers_and_stages(
    gpus: int, tensor: int | None, flags: dict[str, str]
) -> None:
    vllm: dict[str, Any] = {"gpus": gpus}
    if tensor is not None:
        vllm["tensorParallelSize"] = tensor
    main = pod(Component.GENERATION, generation(**vllm))["containers"][0]
    given = dict(zip(main["args"], main["args"][1:], strict=False))
    names = ("--tensor-parallel-size", "--pipeline-parallel-size")
    assert {name: given[name] for name in names if name in given} == flags
    limits = main.get("resources", {}).get("limits", {})
    assert limits == ({"nvidia.com/gpu": gpus} if gpus else {})


@pytest.mark.parametrize(
    ("vllm", "strategy"),
    [
        ({}, {"type": "Recreate"}),
        ({"replicas": 1}, {"type": "Recreate"}),
        (
            {"replicas": 2},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        ),
        (
            {"autoscaling": {"mode": "External"}},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        ),
        (
            {"updateStrategy": "Surge"},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        ),
    ],
)
def test_how_a_models_pods_are_replaced(vllm: dict[str, Any], strategy: dict[str, Any]) -> None:
    assert workload(Component.GENERATION, generation(**vllm))["strategy"] == strategy


def test_no_pod_tolerates_or_needs_what_nobody_asked_for() -> None:
    for component in COMPONENTS:
        body = pod(component, deployment_spec())
        assert not {"tolerations", "runtimeClassName", "nodeSelector"} & body.keys(), component


@pytest.mark.parametrize(
    "component", [Component.WEAVIATE, Component.EMBEDDING, Component.GENERATION]
)
def test_a_server_that_stops_at_once_leaves_its_service_first(component: str) -> None:
    body = pod(component, deployment_spec())
    sleep = body["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep > 0
    assert body["terminationGracePeriodSeconds"] > sleep


def test_vllm_ends_the_answers_that_are_on_their_way_within_its_grace_period() -> None:
    body = pod(Component.GENERATION, deployment_spec())
    args = body["containers"][0]["args"]
    drain = int(args[args.index("--shutdown-timeout") + 1])
    sleep = body["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain >= 600
    assert sleep + drain < body["terminationGracePeriodSeconds"]
