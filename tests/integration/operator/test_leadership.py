"""Two operator processes and one Lease: one works, the other takes over, nothing is done twice."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from ragtenancy_operator.kube import Kube
from ragtenancy_operator.names import LEASE
from tests.integration.operator.test_tenants import ready
from tests.integration.operator.world import (
    HOME,
    SYSTEM,
    USER,
    OperatorProcess,
    World,
    condition,
    tenant,
    until,
)

_LEASE_SECONDS = 10
"""As the chart's."""
_TAKEOVER_SECONDS = 15
_END_SECONDS = 10
_WRITES = {"create", "update", "patch", "delete"}


@pytest.fixture
def pair(world: World, tmp_path: Path) -> Iterator[tuple[OperatorProcess, OperatorProcess]]:
    """One process that leads and one that follows, with the chart's Lease."""
    world.operator.stop()
    first, second = (
        OperatorProcess(world.operator.kubeconfig, tmp_path, name, _LEASE_SECONDS)
        for name in ("first", "second")
    )
    try:
        first.start()
        second.follow()
        yield first, second
    finally:
        first.stop()
        second.stop()
        world.operator.start()


async def holder(api: Kube) -> str:
    """Who holds the Lease."""
    lease = await api.get("Lease", SYSTEM, LEASE)
    return str(lease["spec"].get("holderIdentity", ""))


async def versions(api: Kube, team: str, names: list[str]) -> dict[str, str]:
    """The resourceVersion of tenants, of what belongs to them, and of the deployment's children."""
    found = {}
    for name in names:
        made = await api.get("RAGTenant", team, name)
        uid = made["metadata"]["uid"]
        found[name] = made
        found[f"{name}: Secret"] = await api.get("Secret", team, f"{name}-default-rag")
        found[f"{name}: RAGBinding"] = await api.get("RAGBinding", HOME, uid)
    for kind in ("Deployment", "Service", "Role", "RoleBinding"):
        found[kind] = await api.get(kind, HOME, "main-api")
    return {name: obj["metadata"]["resourceVersion"] for name, obj in found.items()}


async def test_the_second_takes_over_in_15_s_and_nothing_is_done_twice(
    world: World, api: Kube, team: str, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    settled, started = [f"settled{n}" for n in range(4)], [f"started{n}" for n in range(6)]
    for name in settled:
        await api.create(tenant(team, name))
    for name in settled:
        await ready(api, team, name)
    before = await versions(api, team, settled)
    seen = sum(1 for _ in world.kube.audited(USER))

    await asyncio.gather(*(api.create(tenant(team, name)) for name in started))

    async def issuing() -> bool:
        """the first has made a key"""
        return any([await api.find("Secret", team, f"{n}-default-rag") for n in started])

    await until(issuing)
    first.kill()
    await api.create(tenant(team, "later"))

    async def taken_over() -> bool:
        """the second holds the Lease, and a tenant that is made after the kill is Ready"""
        made = await api.get("RAGTenant", team, "later")
        is_ready = condition(made, "Ready").get("status") == "True"
        return is_ready and await holder(api) == second.identity and second.leading()

    await until(taken_over, _TAKEOVER_SECONDS)
    made = [await ready(api, team, name) for name in [*started, "later", *settled]]

    assert await versions(api, team, settled) == before
    bindings = [await api.get("RAGBinding", HOME, each["metadata"]["uid"]) for each in made]
    hashes = [key["sha256"] for binding in bindings for key in binding["spec"]["keys"]]
    assert len(set(hashes)) == len(hashes) == len(made)
    events = list(world.kube.audited(USER))[seen:]
    writes = [e for e in events if e["verb"] in _WRITES and "objectRef" in e]
    assert not [e for e in writes if e["objectRef"].get("name", "").startswith("settled")]
    issued = Counter(
        e["objectRef"]["name"]
        for e in writes
        if e["objectRef"]["resource"] == "secrets" and e["responseStatus"]["code"] == 201
    )
    assert issued == Counter(f"{name}-default-rag" for name in [*started, "later"])


async def test_a_leader_that_was_held_up_ends_when_it_goes_on(
    api: Kube, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    assert first.process is not None
    os.kill(first.process.pid, signal.SIGSTOP)

    async def taken_over() -> bool:
        """the second leads"""
        return second.leading()

    try:
        await until(taken_over, _TAKEOVER_SECONDS)
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert first.process.wait(_END_SECONDS) == 1
    assert await holder(api) == second.identity


async def test_a_follower_watches_answers_and_says_that_it_does_not_lead(
    api: Kube, team: str, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    first, second = pair
    await api.create(tenant(team, "acme"))
    made = await ready(api, team, "acme")
    path = f"/debug/tenants/{team}/acme"

    async def known() -> bool:
        """the follower has seen that the tenant is Ready"""
        try:
            page = json.loads(await asyncio.to_thread(second.read, path))
        except HTTPError:
            return False
        seen = page["observed"]["object"]["metadata"]["resourceVersion"]
        return bool(seen == made["metadata"]["resourceVersion"])

    await until(known)
    page = json.loads(await asyncio.to_thread(second.read, path))
    assert page["process"]["leads"] is False
    assert "another process leads" in page["process"]["note"]
    leads = json.loads(await asyncio.to_thread(first.read, path))
    assert leads["process"] == {"identity": first.identity, "leads": True}


async def test_a_lost_lease_ends_the_process(world: World, api: Kube) -> None:
    theirs = {"holderIdentity": "somebody", "leaseDurationSeconds": 1}
    await api.merge("Lease", SYSTEM, LEASE, {"spec": theirs})
    assert world.operator.process is not None
    try:
        assert world.operator.process.wait(_END_SECONDS) == 1
        assert await holder(api) == "somebody"
    finally:
        world.operator.start()
