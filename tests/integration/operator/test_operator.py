"""The operator itself: idempotence, repair, conflicts, and kill -9."""

import asyncio
import re
from typing import Any

import pytest

from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.integration.operator.test_tenants import ask, key_of, ready, reason
from tests.integration.operator.world import (
    HOME,
    SYSTEM,
    World,
    condition,
    deployment,
    tenant,
    until,
)
from tests.integration.servers import KubeServer

_WRITES = re.compile(
    r'^apiserver_request_total\{(?=[^}]*verb="(?:POST|PUT|PATCH|APPLY|DELETE)")[^}]*\} (\d+)', re.M
)
_LEASES = re.compile(
    r'^apiserver_request_total\{(?=[^}]*resource="leases")'
    r'(?=[^}]*verb="(?:POST|PUT|PATCH|APPLY|DELETE)")[^}]*\} (\d+)',
    re.M,
)


async def writes(kube: KubeServer) -> int:
    """Writes that the API server has served, by its own metrics, those to Leases apart."""
    command = ("kubectl", "--kubeconfig", str(kube.kubeconfig), "get", "--raw", "/metrics")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    text = (await process.communicate())[0].decode()
    assert process.returncode == 0
    return sum(map(int, _WRITES.findall(text))) - sum(map(int, _LEASES.findall(text)))


def passes(world: World) -> int:
    """Reconciles that the operator process has done."""
    found = re.findall(
        r"^controller_runtime_reconcile_total\{[^}]*\} (\S+)", world.operator.metrics(), re.M
    )
    return int(sum(map(float, found)))


async def quiet(world: World) -> None:
    """Wait until the operator has done nothing for a second."""
    loop = asyncio.get_running_loop()
    last, since = passes(world), loop.time()

    async def still() -> bool:
        """the operator has nothing to do"""
        nonlocal last, since
        now = passes(world)
        if now != last:
            last, since = now, loop.time()
        return now > 0 and loop.time() - since > 1.5

    await until(still, 30)


async def test_a_second_pass_over_unchanged_objects_writes_nothing(
    world: World, api: Kube, team: str
) -> None:
    for name in ("one", "two"):
        await api.create(tenant(team, name))
    for name in ("one", "two"):
        await ready(api, team, name)
    await quiet(world)
    before = await writes(world.kube)
    # a new process knows nothing: it looks at every object again
    world.operator.stop()
    world.operator.start()
    await quiet(world)
    assert passes(world) >= 3
    assert await writes(world.kube) == before


async def test_told_to_stop_it_ends_and_gives_the_lease_back(world: World, api: Kube) -> None:
    """The next process then need not wait for the lease to run out."""
    world.operator.stop()
    lease = await api.get("Lease", SYSTEM, "ragtenancy-operator")
    assert lease["spec"].get("holderIdentity", "") == ""
    world.operator.start()


async def test_a_child_deleted_by_hand_is_back_in_five_seconds(world: World, api: Kube) -> None:
    children = [
        ("Service", "main-api"),
        ("Deployment", "main-api"),
        ("Role", "main-api"),
        ("NetworkPolicy", "main-api"),
    ]
    for kind, name in children:
        before = await api.get(kind, HOME, name)
        await api.delete(before)

        async def back(
            kind: str = kind, name: str = name, uid: str = before["metadata"]["uid"]
        ) -> bool:
            found = await api.find(kind, HOME, name)
            return found is not None and found["metadata"]["uid"] != uid

        back.__doc__ = f"{kind} {name} is back"
        await until(back, 5)
    await world.mark_available(api, HOME, "main-api")


async def test_a_child_edited_by_hand_is_mended_and_what_others_added_stays(
    world: World, api: Kube
) -> None:
    edit = {"metadata": {"annotations": {"theirs": "1"}}, "spec": {"replicas": 9}}
    await api.merge("Deployment", HOME, "main-api", edit)

    async def mended() -> bool:
        """replicas is 1 again"""
        found = await api.get("Deployment", HOME, "main-api")
        return bool(found["spec"]["replicas"] == 1)

    await until(mended, 5)
    found = await api.get("Deployment", HOME, "main-api")
    assert found["metadata"]["annotations"]["theirs"] == "1"
    await world.mark_available(api, HOME, "main-api")


async def test_a_setting_taken_out_of_the_spec_is_taken_out_of_the_child(
    world: World, api: Kube
) -> None:
    """Fields of a POST are owned by an Update: an apply alone would leave them."""

    async def environment() -> set[str]:
        found = await api.get("Deployment", HOME, "main-api")
        (container,) = found["spec"]["template"]["spec"]["containers"]
        return {variable["name"] for variable in container["env"]}

    extra = [{"name": "FIRST", "value": "1"}, {"name": "SECOND", "value": "2"}]
    for env, wanted in ((extra, {"FIRST", "SECOND"}), (extra[:1], {"FIRST"}), (None, set())):
        await api.merge("RAGDeployment", HOME, "main", {"spec": {"api": {"env": env}}})

        async def there(wanted: set[str] = wanted) -> bool:
            return await environment() & {"FIRST", "SECOND"} == wanted

        there.__doc__ = f"the API's environment has {wanted}"
        await until(there, 5)
    await world.mark_available(api, HOME, "main-api")


async def test_an_object_of_the_same_name_is_never_overwritten(
    world: World, api: Kube, team: str
) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "main-api", "namespace": team},
        "spec": {"ports": [{"port": 1234}], "selector": {"theirs": "yes"}},
    }
    before = await api.create(service)
    await api.create(world.external_secret(team))
    made = await api.create(deployment(team, world.spec()))
    said = await reason(api, made, "APIReady", "Conflict")
    assert "Service main-api" in said["message"]
    after = await api.get("Service", team, "main-api")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    found = await api.get("RAGDeployment", team, "main")
    assert condition(found, "Stalled")["reason"] == "Conflict"
    # it recovers by itself when the name is free
    await api.delete(before)
    await until(lambda: _is_ours(api, team), 10)


async def _is_ours(api: Kube, namespace: str) -> bool:
    """the Service is the operator's"""
    found = await api.find("Service", namespace, "main-api")
    return found is not None and bool(found["metadata"].get("ownerReferences"))


async def test_a_foreign_secret_in_a_credentials_place_is_a_condition(
    world: World, api: Kube, team: str
) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "main-state-credentials", "namespace": team},
        "stringData": {"password": "theirs"},
    }
    before = await api.create(foreign)
    await api.create(world.external_secret(team))
    managed = world.spec(state={"redis": {"managed": {}}})
    made = await api.create(deployment(team, managed))
    said = await reason(api, made, "StateReady", "Conflict")
    assert "Secret main-state-credentials" in said["message"]
    assert await api.find("StatefulSet", team, "main-state") is None
    after = await api.get("Secret", team, "main-state-credentials")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_a_missing_secret_is_named(world: World, api: Kube, team: str) -> None:
    made = await api.create(deployment(team, world.spec()))
    said = await reason(api, made, "StateReady", "SecretMissing")
    assert "Secret external" in said["message"]


async def test_a_wrong_password_is_said_without_showing_it(
    world: World, api: Kube, team: str
) -> None:
    secret = world.external_secret(team)
    secret["stringData"]["state"] = world.state.url.replace(world.state.password, "wr0ng-pass")
    await api.create(secret)
    made = await api.create(deployment(team, world.spec()))
    said = await reason(api, made, "StateReady", "CredentialsRefused")
    assert "wr0ng-pass" not in str(said)
    assert world.operator.process is not None
    assert "wr0ng-pass" not in world.operator.process.log.read_text()


async def test_a_deployment_goes_when_its_last_binding_is_gone(
    world: World, api: Kube, team: str
) -> None:
    await api.create(world.external_secret(team))
    made = await api.create(deployment(team, world.spec()))

    async def guarded() -> bool:
        """the finalizer is set"""
        found = await api.get("RAGDeployment", team, "main")
        return bool(found["metadata"].get("finalizers"))

    await until(guarded, 5)
    await api.delete(made)

    async def gone() -> bool:
        """the deployment is gone"""
        return await api.find("RAGDeployment", team, "main") is None

    await until(gone, 10)


@pytest.mark.parametrize("after", [1, 4, 9, 16, 25])
async def test_killed_during_creation_it_converges_and_issues_each_key_once(
    world: World, api: Kube, team: str, after: int
) -> None:
    """The operator is killed after so many writes, wherever it then is."""
    names = [f"t{number}" for number in range(6)]
    start = await writes(world.kube)
    await asyncio.gather(*(api.create(tenant(team, name)) for name in names))

    async def written() -> bool:
        """the operator has written enough"""
        return await writes(world.kube) - start - len(names) >= after

    await until(written)
    world.operator.kill()
    seen = {n: s for n in names if (s := await api.find("Secret", team, f"{n}-default-rag"))}
    world.operator.start()
    made: list[Manifest] = [await ready(api, team, name, 30) for name in names]
    for name, each in zip(names, made, strict=True):
        secret: dict[str, Any] = await api.get("Secret", team, f"{name}-default-rag")
        if name in seen:
            assert secret["data"]["OPENAI_API_KEY"] == seen[name]["data"]["OPENAI_API_KEY"]
        binding = await api.get("RAGBinding", HOME, each["metadata"]["uid"])
        assert len(binding["spec"]["keys"]) == 1
        assert await ask(world, await key_of(api, team, f"{name}-default-rag")) == 200
