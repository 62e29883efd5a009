"""The life of a tenant's keys: rotation, expiry, keys of its own, and no key for two tenants."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ragtenancy_api.meta import parse_timestamp
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.store import Manifest
from tests.integration.operator.life import binding_of, call, platform, poke, put_secret
from tests.integration.operator.test_operator import writes
from tests.integration.operator.test_tenants import ask, key_of, ready, reason
from tests.integration.operator.world import HOME, World, condition, tenant, until


def keys(*entries: Any) -> dict[str, Any]:
    return {"spec": {"apiKeys": [{"name": "default", **entry} for entry in entries]}}


async def changed(api: Kube, namespace: str, secret: str, old: str) -> str:
    """The key in a Secret, once it is another."""

    async def check() -> str | None:
        """the Secret holds another key"""
        found = await key_of(api, namespace, secret)
        return found if found != old else None

    return await until(check)


async def answers(world: World, wanted: dict[str, int]) -> None:
    """Wait until requests with these keys are answered so."""

    async def check() -> bool:
        return {key: await ask(world, key) for key in wanted} == wanted

    check.__doc__ = f"the answers are {list(wanted.values())}"
    await until(check)


async def test_a_rotated_key_works_beside_the_old_one_until_the_overlap_ends(
    world: World, api: Kube, team: str
) -> None:
    made = await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    old = await key_of(api, team, "acme-default-rag")
    secret = await api.get("Secret", team, "acme-default-rag")
    await api.merge("RAGTenant", team, "acme", keys({"rotation": "2", "overlap": "1h"}))
    new = await changed(api, team, "acme-default-rag", old)
    await answers(world, {old: 200, new: 200})
    status = (await ready(api, team, "acme"))["status"]["apiKeys"]
    assert len(status) == 2
    assert [("expiresAt" in entry) for entry in status] == [False, True]
    assert all(parse_timestamp(entry["createdAt"]) for entry in status)
    after = await api.get("Secret", team, "acme-default-rag")
    assert after["metadata"]["uid"] == secret["metadata"]["uid"]
    # a second one ends by its own overlap, and the first one keeps its end
    end = {k["sha256"]: k["expiresAt"] for k in (await binding_of(api, made))["keys"][1:]}
    await api.merge("RAGTenant", team, "acme", keys({"rotation": "3", "overlap": "1s"}))
    newest = await changed(api, team, "acme-default-rag", new)
    await answers(world, {old: 200, new: 401, newest: 200})

    async def dropped() -> bool:
        """the key whose overlap ended is out of the binding"""
        held = (await binding_of(api, made))["keys"]
        return len(held) == 2 and {k["sha256"]: k["expiresAt"] for k in held[1:]} == end

    await until(dropped)


async def test_the_platforms_changes_leave_the_key_as_it_is(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    key = await key_of(api, team, "acme-default-rag")

    async def url(wanted: str) -> None:
        async def there() -> bool:
            found = await api.get("RAGTenant", team, "acme")
            return bool(found["status"]["url"] == wanted)

        there.__doc__ = f"the tenant's URL is {wanted}"
        await until(there)

    async with platform(api, {"api": {"publicURL": "https://rag.example.org"}}):
        await url("https://rag.example.org/v1")
        assert await key_of(api, team, "acme-default-rag") == key
    await url("http://main-api.rag.svc/v1")
    assert await key_of(api, team, "acme-default-rag") == key
    assert await ask(world, key) == 200


async def test_a_reader_stays_a_reader_and_a_role_changes_at_once(
    world: World, api: Kube, team: str
) -> None:
    await api.create(tenant(team, "acme", **keys({"role": "Reader"})["spec"]))
    await ready(api, team, "acme")
    key = await key_of(api, team, "acme-default-rag")
    document = {"id": "d", "text": "anything"}
    assert (await call(world, key, "POST", "documents", document))[0] == 403
    assert await ask(world, key) == 200
    await api.merge("RAGTenant", team, "acme", keys({"role": "Writer"}))
    await ready(api, team, "acme")
    assert (await call(world, key, "POST", "documents", document))[0] == 201


async def test_an_expired_key_is_refused_and_said_and_comes_back_with_a_later_end(
    world: World, api: Kube, team: str
) -> None:
    end = (datetime.now(UTC) + timedelta(seconds=4)).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = await api.create(tenant(team, "acme", **keys({"expiresAt": end})["spec"]))
    secret = "acme-default-rag"
    await until(lambda: api.find("Secret", team, secret))
    key = await key_of(api, team, secret)
    said = await reason(api, made, "CredentialsReady", "KeyExpired")
    assert end in said["message"]
    assert await ask(world, key) == 401
    assert (await binding_of(api, made))["keys"] == []
    later = {"expiresAt": "2099-01-01T00:00:00Z"}
    await api.merge("RAGTenant", team, "acme", keys(later))
    await ready(api, team, "acme")
    assert await ask(world, key) == 200
    # with another key that works it is only said
    await api.merge("RAGTenant", team, "acme", keys({"expiresAt": end}, {"name": "ci"}))
    await ready(api, team, "acme")
    found = await api.get("RAGTenant", team, "acme")
    assert end in condition(found, "CredentialsReady")["message"]
    assert await ask(world, await key_of(api, team, "acme-ci-rag")) == 200


async def test_a_moment_that_is_none_is_said_with_its_path(
    world: World, api: Kube, team: str
) -> None:
    bad = keys({"expiresAt": "2027-99-01T00:00:00Z"})["spec"]
    made = await api.create(tenant(team, "acme", **bad))
    said = await reason(api, made, "CredentialsReady", "ExpiryInvalid")
    assert "spec.apiKeys[0].expiresAt" in said["message"]


OWN = {"secretRef": {"name": "vault", "key": "token"}}


async def test_a_key_of_ones_own_is_taken_followed_and_revoked(
    world: World, api: Kube, team: str
) -> None:
    both = keys(OWN, {"name": "issued"})["spec"]
    made = await api.create(tenant(team, "acme", **both))
    said = await reason(api, made, "CredentialsReady", "SecretNotFound")
    assert "spec.apiKeys[0].secretRef: Secret vault" in said["message"]
    issued = await key_of(api, team, "acme-issued-rag")
    await answers(world, {issued: 200})  # the other one goes on
    first, second = secrets.token_hex(32), secrets.token_hex(32)
    await put_secret(api, team, "vault", "too-short")
    await poke(api, made)
    said = await reason(api, made, "CredentialsReady", "KeyTooWeak")
    assert "too-short" not in said["message"]
    await put_secret(api, team, "vault", first + "\n")
    await poke(api, made)
    await ready(api, team, "acme")
    assert await ask(world, first) == 200
    await put_secret(api, team, "vault", second)
    await poke(api, made)
    await answers(world, {first: 401, second: 200, issued: 200})
    await api.delete(await api.get("Secret", team, "vault"))
    await poke(api, made)
    await answers(world, {second: 401, issued: 200})


async def test_a_secret_that_no_watch_tells_of_is_read_again(
    world: World, api: Kube, team: str
) -> None:
    first, second = secrets.token_hex(32), secrets.token_hex(32)
    await put_secret(api, team, "vault", first)
    await api.create(tenant(team, "acme", **keys(OWN)["spec"]))
    await ready(api, team, "acme")
    await put_secret(api, team, "vault", second)

    async def followed() -> bool:
        """the new key is taken and the old one refused"""
        return (await ask(world, first), await ask(world, second)) == (401, 200)

    await until(followed, 45)


async def test_a_key_is_one_tenants_and_who_has_it_first_keeps_it(
    world: World, api: Kube, team: str
) -> None:
    key = secrets.token_hex(32)
    await put_secret(api, team, "vault", key)
    await api.create(tenant(team, "victim", **keys(OWN)["spec"]))
    victim = await ready(api, team, "victim")
    thief = await api.create(tenant(team, "thief", **keys(OWN)["spec"]))
    said = await reason(api, thief, "CredentialsReady", "DuplicateKey")
    assert "victim" not in said["message"]
    assert (await binding_of(api, thief))["keys"] == []
    assert await ask(world, key) == 200
    # one and the same under two names of one tenant
    both = keys(OWN, {"name": "again", **OWN})
    await api.merge("RAGTenant", team, "victim", both)
    said = await reason(api, victim, "CredentialsReady", "DuplicateKey")
    assert "spec.apiKeys[1]" in said["message"]
    assert await ask(world, key) == 200
    # it is free when its owner is gone
    await api.delete(victim)
    await until(lambda: _no_binding(api, victim))
    await poke(api, thief)
    await ready(api, team, "thief")
    assert await ask(world, key) == 200


async def _no_binding(api: Kube, made: Manifest) -> bool:
    """the binding is gone"""
    return await api.find("RAGBinding", HOME, made["metadata"]["uid"]) is None


async def test_one_key_brought_by_many_at_once_is_one_tenants(
    world: World, api: Kube, team: str
) -> None:
    key = secrets.token_hex(32)
    await put_secret(api, team, "vault", key)
    many = [tenant(team, f"t{number}", **keys(OWN)["spec"]) for number in range(8)]
    made = await asyncio.gather(*(api.create(each) for each in many))

    async def settled() -> bool:
        """every tenant is bound"""
        return all([await api.find("RAGBinding", HOME, m["metadata"]["uid"]) for m in made])

    await until(settled)
    held = [(await binding_of(api, each))["keys"] for each in made]
    assert sum(map(bool, held)) == 1
    await answers(world, {key: 200})


async def test_where_tokens_alone_are_taken_there_are_no_keys(
    world: World, api: Kube, team: str
) -> None:
    made = await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    old = await key_of(api, team, "acme-default-rag")
    jwt = {"issuer": "https://issuer.example.org", "audience": "rag"}
    auth = {"apiKeys": {"enabled": False}, "jwt": jwt}
    async with platform(api, {"api": {"auth": auth}}):
        said = await reason(api, made, "CredentialsReady", "JWTOnly")
        assert said["status"] == "True"
        assert (await binding_of(api, made))["keys"] == []

        async def removed() -> bool:
            """the key's Secret is gone"""
            return await api.find("Secret", team, "acme-default-rag") is None

        await until(removed)
        assert await ask(world, old) == 401
    await reason(api, made, "CredentialsReady", "Issued")
    new = await key_of(api, team, "acme-default-rag")
    assert new != old
    await answers(world, {new: 200, old: 401})


@pytest.mark.parametrize("after", [1, 2, 4, 7, 11])
async def test_killed_during_a_rotation_no_key_is_issued_twice_and_each_has_its_overlap(
    world: World, api: Kube, team: str, after: int
) -> None:
    names = [f"t{number}" for number in range(4)]
    made = [await api.create(tenant(team, name)) for name in names]
    for name in names:
        await ready(api, team, name)
    old = {name: await key_of(api, team, f"{name}-default-rag") for name in names}
    start = await writes(world.kube)
    patch = keys({"rotation": "2", "overlap": "1h"})
    await asyncio.gather(*(api.merge("RAGTenant", team, name, patch) for name in names))

    async def written() -> bool:
        """the operator has written enough"""
        return await writes(world.kube) - start - len(names) >= after

    await until(written)
    world.operator.kill()
    seen = {name: await key_of(api, team, f"{name}-default-rag") for name in names}
    world.operator.start()
    for name, each in zip(names, made, strict=True):
        await ready(api, team, name, 30)
        new = await changed(api, team, f"{name}-default-rag", old[name])
        assert new == seen[name] or seen[name] == old[name]
        assert len((await binding_of(api, each))["keys"]) == 2
        await answers(world, {old[name]: 200, new: 200})


async def test_killed_after_the_secret_and_before_the_binding_the_new_key_is_bound_not_replaced(
    world: World, api: Kube, team: str
) -> None:
    """That very moment, made again: the binding as it was, and the Secret as it had become."""
    made = await api.create(tenant(team, "acme"))
    await ready(api, team, "acme")
    old = await key_of(api, team, "acme-default-rag")
    before = (await binding_of(api, made))["keys"]
    await api.merge("RAGTenant", team, "acme", keys({"rotation": "2", "overlap": "1h"}))
    new = await changed(api, team, "acme-default-rag", old)
    await ready(api, team, "acme")
    world.operator.kill()
    await api.merge("RAGBinding", HOME, made["metadata"]["uid"], {"spec": {"keys": before}})
    await answers(world, {old: 200, new: 401})
    # and the next rotation is asked for before the operator is back
    await api.merge("RAGTenant", team, "acme", keys({"rotation": "3", "overlap": "1h"}))
    world.operator.start()
    newest = await changed(api, team, "acme-default-rag", new)
    await answers(world, {old: 200, new: 200, newest: 200})
    held = (await binding_of(api, made))["keys"]
    assert [("expiresAt" in key) for key in held] == [False, True, True]
