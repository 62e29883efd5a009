"""The ways to the API, and what is scraped of it and of the others."""

from typing import Any

import pytest

from ragtenancy_operator import names
from ragtenancy_operator.children import api
from ragtenancy_operator.deployment import plan
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest
from tests.unit.builders import context, deployment_spec
from tests.unit.operator.test_children import EXTERNAL

PARENT = {"name": "gateway", "namespace": "edge", "sectionName": "https"}


def made(kind: str, spec: dict[str, Any]) -> dict[str, Manifest]:
    return {
        manifest["metadata"]["name"]: manifest
        for manifests in plan.wanted(context(spec)).values()
        for manifest in manifests
        if manifest["kind"] == kind
    }


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://main-api.rag.svc/v1"),
        ({"ingress": {"host": "rag.example.com"}}, "http://rag.example.com/v1"),
        (
            {"ingress": {"host": "rag.example.com"}, "tls": {"secretName": "tls"}},
            "https://rag.example.com/v1",
        ),
        (
            {"ingress": {"host": "*.example.com"}, "publicURL": "https://rag.example.com/"},
            "https://rag.example.com/v1",
        ),
        (
            {"httpRoute": {"parentRefs": [PARENT]}, "publicURL": "https://rag.example.com:8443"},
            "https://rag.example.com:8443/v1",
        ),
    ],
)
def test_the_url_that_tenants_get(settings: dict[str, Any], url: str) -> None:
    assert api.url(context(deployment_spec(api=settings))) == url


def test_an_ingress_leads_to_the_apis_service() -> None:
    settings: dict[str, Any] = {
        "ingress": {
            "host": "rag.example.com",
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
        },
        "tls": {"secretName": "rag-tls"},
    }
    spec = deployment_spec(api=settings)
    (ingress,) = made("Ingress", spec).values()
    assert ingress["metadata"]["annotations"] == settings["ingress"]["annotations"]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["rag.example.com"], "secretName": "rag-tls"}]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"], path["pathType"]) == ("rag.example.com", "/", "Prefix")
    service = made("Service", spec)[path["backend"]["service"]["name"]]
    assert path["backend"]["service"]["port"]["name"] in {
        port["name"] for port in service["spec"]["ports"]
    }


def test_without_a_certificate_an_ingress_has_no_tls() -> None:
    (ingress,) = made("Ingress", deployment_spec(api={"ingress": {"host": "a.b"}})).values()
    assert not {"tls", "ingressClassName"} & ingress["spec"].keys()
    assert "annotations" not in ingress["metadata"]


def test_a_route_leads_to_the_apis_service_and_lets_answers_stream() -> None:
    settings = {
        "publicURL": "https://rag.example.com",
        "httpRoute": {"parentRefs": [PARENT, {"name": "inner"}], "hostnames": ["rag.example.com"]},
    }
    spec = deployment_spec(api=settings)
    (route,) = made("HTTPRoute", spec).values()
    assert route["spec"]["parentRefs"] == [PARENT, {"name": "inner"}]
    assert route["spec"]["hostnames"] == ["rag.example.com"]
    (rule,) = route["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    service = made("Service", spec)[backend["name"]]
    assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
    assert rule["timeouts"] == {"request": "0s"}


def test_inside_the_cluster_there_is_neither() -> None:
    assert made("Ingress", deployment_spec()) == made("HTTPRoute", deployment_spec()) == {}


def selected(monitor: Manifest, services: dict[str, Manifest]) -> list[Manifest]:
    """The Services that a ServiceMonitor finds."""
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    return [s for s in services.values() if wanted <= s["metadata"]["labels"].items()]


@pytest.mark.parametrize(
    ("component", "port"),
    [
        (Component.API, 9090),
        (Component.WEAVIATE, 2112),
        (Component.EMBEDDING, 8000),
        (Component.GENERATION, 8000),
    ],
)
def test_metrics_are_scraped_once_from_every_pod(component: str, port: int) -> None:
    settings = {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}}
    spec = deployment_spec(observability={"serviceMonitor": settings})
    monitor = made("ServiceMonitor", spec)[f"main-{component}"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["interval"] == "1m"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (service,) = selected(monitor, made("Service", spec))
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == names.selector("main", component)
    (found,) = service["spec"]["ports"]
    assert (found["name"], found["targetPort"]) == (endpoint["port"], port)


def test_the_internal_port_is_in_no_service_that_clients_use() -> None:
    spec = deployment_spec(observability={"serviceMonitor": {"enabled": True}})
    for name, service in made("Service", spec).items():
        if not name.endswith("-metrics"):
            assert 9090 not in {port["targetPort"] for port in service["spec"]["ports"]}, name


def test_what_somebody_else_runs_is_not_scraped() -> None:
    spec = EXTERNAL | {"observability": {"serviceMonitor": {"enabled": True}}}
    assert made("ServiceMonitor", spec).keys() == {"main-api"}


def test_nobody_scrapes_unless_asked_to() -> None:
    assert made("ServiceMonitor", deployment_spec()) == {}
    assert not any(name.endswith("-metrics") for name in made("Service", deployment_spec()))
