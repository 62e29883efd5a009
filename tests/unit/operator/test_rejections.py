"""A rejected child is explained by the field of the spec that it comes from.

The texts are kube-apiserver's (1.37), as it answered them.
"""

from typing import Any

import pytest

from ragtenancy_operator.deployment import plan
from ragtenancy_operator.deployment.rejections import in_spec
from ragtenancy_operator.errors import Rejected
from ragtenancy_operator.names import Component
from tests.unit.builders import context, deployment_spec

SETTINGS: dict[str, Any] = {
    "extraVolumes": [{"name": "a"}, {"name": "b"}],
    "extraVolumeMounts": [{"name": "a", "mountPath": "/a"}],
}
SPEC = deployment_spec(
    vectorStore={"weaviate": {"managed": SETTINGS}},
    cache={"redis": {"managed": SETTINGS}},
    generation={"model": "m", "maxModelLen": 2048, "vllm": SETTINGS},
    api=SETTINGS,
)
POD = "spec.template.spec"
PATHS = {
    Component.WEAVIATE: "spec.vectorStore.weaviate.managed",
    Component.CACHE: "spec.cache.redis.managed",
    Component.GENERATION: "spec.generation.vllm",
    Component.API: "spec.api",
}


def workload_of(component: str) -> str:
    return "StatefulSet" if component == Component.WEAVIATE else "Deployment"


def explained(component: str, child: str, detail: str) -> str:
    made = context(SPEC)
    error = Rejected(child, detail)
    return in_spec(made, component, plan.wanted(made)[component], error).message


@pytest.mark.parametrize("component", sorted(PATHS))
@pytest.mark.parametrize(
    ("detail", "field"),
    [
        (
            f'strict decoding error: unknown field "{POD}.affinity.nodeAffinity.foo"',
            "affinity.nodeAffinity.foo",
        ),
        (
            f".{POD}.affinity.nodeAffinity.foo: field not declared in schema",
            "affinity.nodeAffinity.foo",
        ),
        (
            "json: cannot unmarshal string into Go struct field "
            f"Affinity.{POD}.affinity.nodeAffinity of type v1.NodeAffinity",
            "affinity.nodeAffinity",
        ),
        (
            f'Deployment.apps "d" is invalid: [{POD}.topologySpreadConstraints[0].maxSkew: '
            "Invalid value: 0: must be greater than zero]",
            "topologySpreadConstraints[0].maxSkew",
        ),
        (f'{POD}.nodeSelector: Invalid value: "a b"', "nodeSelector"),
        (
            f'{POD}.containers[0].resources.requests: Invalid value: "2": must be less',
            "resources.requests",
        ),
        (
            f'{POD}.volumes[name="b"].emptyDirr: field not declared',
            'extraVolumes[name="b"].emptyDirr',
        ),
        (f"Volume.{POD}.volumes.name of type string", "extraVolumes.name"),
        (
            f'{POD}.containers[name="x"].volumeMounts[mountPath="/a"].foo: field not declared',
            'extraVolumeMounts[mountPath="/a"].foo',
        ),
        ('spec.template.labels: Invalid value: "a b"', "podLabels"),
    ],
)
def test_the_field_of_a_pods_setting_is_named(component: str, detail: str, field: str) -> None:
    message = explained(component, f"{workload_of(component)}/rag/main-{component}", detail)
    assert message.startswith(f"{PATHS[component]}.{field}: ")
    assert detail in message


@pytest.mark.parametrize("component", sorted(PATHS))
def test_an_index_counts_in_the_settings_and_not_in_the_pod(component: str) -> None:
    made = context(SPEC)
    workload = plan.wanted(made)[component]
    (pod,) = [m["spec"]["template"]["spec"] for m in workload if "template" in m.get("spec", {})]
    last = len(pod["volumes"]) - 1
    detail = f"{POD}.volumes[{last}].name: Required value"
    assert ".extraVolumes[1].name: " in explained(
        component, f"{workload_of(component)}/rag/x", detail
    )
    mount = len(pod["containers"][0]["volumeMounts"]) - 1
    detail = f'{POD}.containers[0].volumeMounts[{mount}].name: Not found: "a"'
    assert ".extraVolumeMounts[0].name: " in explained(
        component, f"{workload_of(component)}/rag/x", detail
    )


@pytest.mark.parametrize(
    ("child", "detail", "field"),
    [
        ("Ingress/rag/main-api", 'spec.rules[0].host: Invalid value: "_"', "spec.api.ingress.host"),
        (
            "Ingress/rag/main-api",
            'metadata.annotations: Invalid value: "a b"',
            "spec.api.ingress.annotations",
        ),
        (
            "HTTPRoute/rag/main-api",
            "spec.parentRefs[0].sectionName: Invalid value",
            "spec.api.httpRoute.parentRefs[0].sectionName",
        ),
    ],
)
def test_the_field_of_a_way_in_is_named(child: str, detail: str, field: str) -> None:
    assert explained(Component.API, child, detail).startswith(f"{field}: ")


@pytest.mark.parametrize(
    "detail",
    [
        f"{POD}.volumes[0].name: Required value",
        "spec.selector: field is immutable",
        "no path at all",
    ],
)
def test_what_is_not_the_users_is_said_as_it_is(detail: str) -> None:
    message = explained(Component.API, "Deployment/rag/main-api", detail)
    assert message == f"the API server rejects Deployment/rag/main-api: {detail}"
