"""What a person learns from a running operator: its log, its metrics and its debug pages."""

import asyncio
import base64
import json
import re
from typing import Any
from urllib.error import HTTPError

import pytest

from ragtenancy_operator.kube import Kube
from tests.integration.operator.test_tenants import ready, reason
from tests.integration.operator.world import HOME, World, deployment, tenant, until

_METRICS = {
    # of controller-runtime and of client-go, with their labels
    "controller_runtime_active_workers": ("gauge", {"controller"}),
    "controller_runtime_max_concurrent_reconciles": ("gauge", {"controller"}),
    "controller_runtime_reconcile_errors_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_panics_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_time_seconds": ("histogram", {"controller"}),
    "controller_runtime_reconcile_total": ("counter", {"controller", "result"}),
    "leader_election_master_status": ("gauge", {"name"}),
    "rest_client_requests_total": ("counter", {"code", "method", "host"}),
    "workqueue_adds_total": ("counter", {"name", "controller"}),
    "workqueue_depth": ("gauge", {"name", "controller"}),
    "workqueue_longest_running_processor_seconds": ("gauge", {"name", "controller"}),
    "workqueue_queue_duration_seconds": ("histogram", {"name", "controller"}),
    "workqueue_retries_total": ("counter", {"name", "controller"}),
    "workqueue_unfinished_work_seconds": ("gauge", {"name", "controller"}),
    "workqueue_work_duration_seconds": ("histogram", {"name", "controller"}),
}


async def page(world: World, path: str) -> dict[str, Any]:
    """A debug page."""
    text = await asyncio.to_thread(world.operator.read, f"/debug/{path}")
    read: dict[str, Any] = json.loads(text)
    return read


def log(world: World) -> list[dict[str, Any]]:
    """The lines of the operator's log: every one is JSON."""
    assert world.operator.process is not None
    return [json.loads(line) for line in world.operator.process.log.read_text().splitlines()]


async def test_metrics_have_controller_runtimes_names_types_and_labels(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    text = world.operator.metrics()
    found = {}
    for name in _METRICS:
        kind = re.search(rf"^# TYPE {name} (\w+)$", text, re.MULTILINE)
        series = re.findall(rf"^{name}(?:_bucket|_sum|_count)?\{{(.*)\}} ", text, re.MULTILINE)
        labels = {label for one in series for label in re.findall(r'(\w+)="', one)} - {"le"}
        found[name] = (kind and kind[1], labels)
    assert found == _METRICS
    assert 'controller_runtime_max_concurrent_reconciles{controller="ragtenant"} 16.0' in text


async def test_each_reconcile_is_one_line_with_key_cause_result_and_duration(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    key = f"RAGTenant/{team}/acme"
    mine = [line for line in log(world) if line.get("key") == key]
    assert all({"cause", "result", "seconds", "writes"} <= line.keys() for line in mine)
    causes = {cause for line in mine for cause in line["cause"].split("; ")}
    assert {f"event ADDED {key}", f"event ADDED Secret/{team}/acme-default-rag"} <= causes
    assert mine[0]["level"] == "info"


async def test_what_was_there_at_the_start_and_needs_nothing_is_no_line_at_info(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    world.operator.stop()
    world.operator.start()
    key = f"RAGTenant/{team}/acme"

    async def looked_at() -> bool:
        """the new process has looked at the tenant"""
        return any(line.get("key") == key for line in log(world))

    await until(looked_at)
    lines = [line for line in log(world) if line.get("key") == key]
    assert "listed" in lines[0]["cause"]
    assert {(line["level"], line["writes"]) for line in lines} == {("debug", 0)}


async def test_a_tenants_page_shows_what_is_there_and_no_secret(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    secret = await api.get("Secret", team, "acme-default-rag")

    async def settled() -> bool:
        """nothing waits, and nothing is to be changed"""
        found = await page(world, f"tenants/{team}/acme")
        queue = found["queue"]
        quiet = not queue["waiting"] and queue["running"] is None
        return quiet and found["planned"]["differences"] == {}

    await until(settled)
    found = await page(world, f"tenants/{team}/acme")
    assert found["last"]["result"] == "success"
    assert found["queue"]["failures"] == 0
    observed, planned = found["observed"], found["planned"]
    assert observed["object"]["spec"] == made["spec"]
    assert observed["deployment"]["name"] == "main"
    assert observed["binding"]["spec"]["tenantRef"]["name"] == "acme"
    assert [child["name"] for child in observed["children"]] == ["acme-default-rag"]
    assert [pod["ready"] for pod in observed["pods"]] == [True]
    assert {child["kind"] for child in planned["children"]} == {"Secret", "RAGBinding"}
    binding = await api.get("RAGBinding", HOME, made["metadata"]["uid"])
    text = json.dumps(found)
    for key in binding["spec"]["keys"]:
        assert key["sha256"] not in text
    for value in secret["data"].values():
        assert value not in text
    assert base64.b64decode(secret["data"]["OPENAI_API_KEY"]).decode() not in text
    for credential in (world.state.password, world.weaviate.api_key):
        assert credential not in text


async def test_a_deployments_page_shows_what_is_planned_and_no_secret(
    world: World, api: Kube, team: str
) -> None:
    await api.create(world.external_secret(team))
    env = [{"name": "MY_TOKEN", "value": "hush-hush"}, {"name": "MODE", "value": "quick"}]
    blocked = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "main-api", "namespace": team},
        "spec": {"ports": [{"port": 1234}], "selector": {"theirs": "yes"}},
    }
    service = await api.create(blocked)
    api_settings = {"replicas": 1, "env": env}
    made = await api.create(
        deployment(team, world.spec(state={"redis": {"managed": {}}}, api=api_settings))
    )
    await reason(api, made, "APIReady", "Conflict")
    found = await page(world, f"deployments/{team}/main")
    text = json.dumps(found)
    assert "hush-hush" not in text
    secret = await api.get("Secret", team, "main-state-credentials")
    for value in secret["data"].values():
        assert value not in text
        assert base64.b64decode(value).decode() not in text
    planned = {(c["kind"], c["metadata"]["name"]): c for c in found["planned"]["children"]}
    (container,) = planned["Deployment", "main-api"]["spec"]["template"]["spec"]["containers"]
    said = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (said["MODE"], said["MY_TOKEN"]) == ("quick", "(left out)")
    assert found["planned"]["differences"][f"Service/{team}/main-api"] == "to be created"
    assert "StatefulSet" in {child["kind"] for child in found["observed"]["children"]}
    # it would be tried again for ever
    await api.delete(service)
    await api.delete(made)

    async def gone() -> bool:
        """the deployment is gone"""
        return await api.find("RAGDeployment", team, "main") is None

    await until(gone)


@pytest.mark.parametrize("path", ["tenants/nowhere/nobody", "deployments/rag/other", "pods/a/b"])
async def test_a_page_of_what_is_not_there_is_404(world: World, path: str) -> None:
    with pytest.raises(HTTPError, match="404"):
        await page(world, path)
