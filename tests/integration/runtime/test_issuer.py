"""Tokens are verified with the keys that a real server publishes, and fetched seldom."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ragtenancy_api.api import JWTAuth
from ragtenancy_runtime.adapters.issuer import (
    KEEP_S,
    MAX_TOKEN_BYTES,
    RETRY_S,
    UNKNOWN_S,
    IssuedTokens,
)
from ragtenancy_runtime.adapters.openai import session
from ragtenancy_runtime.errors import Unauthenticated, Unavailable
from tests.fakes.issuer import AUDIENCE, SHARED, FakeIssuer, new_key, segment


@dataclass
class Clock:
    """Time as the test has it."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class World:
    """An issuer, and a pod's view of it."""

    issuer: FakeIssuer
    clock: Clock
    tokens: IssuedTokens

    def trusted(self, **more: Any) -> JWTAuth:
        return JWTAuth(issuer=self.issuer.url, audience=AUDIENCE, **more)

    async def says(self, token: str, **more: Any) -> str | None:
        """The tenant that a token names; None: it is refused."""
        try:
            return await self.tokens.tenant_claim(self.trusted(**more), token)
        except Unauthenticated:
            return None


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    fake = FakeIssuer()
    fake.rotate("one")
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
async def world(issuer: FakeIssuer) -> AsyncIterator[World]:
    clock = Clock()
    async with session(None) as http:
        yield World(issuer, clock, IssuedTokens(http, clock))


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES512", "EdDSA"])
async def test_a_valid_token_names_its_tenant(world: World, algorithm: str) -> None:
    world.issuer.rotate("one", algorithm)
    token = world.issuer.token("one", tenant="team/a")
    assert await world.says(token) == "team/a"
    assert await world.says(token, jwks_url=f"{world.issuer.url}/keys") == "team/a"
    claim: dict[str, Any] = {"https://example.com/tenant": "team/b"}
    namespaced = world.issuer.token("one", **claim)
    assert await world.says(namespaced, tenant_claim="https://example.com/tenant") == "team/b"


async def test_whatever_is_wrong_with_a_token_it_is_refused(world: World) -> None:
    issuer = world.issuer
    now = issuer.claims()["iat"]
    good = issuer.token("one", tenant="team/a")
    head, body, signature = good.split(".")
    issuer.keys["other"] = ("RS256", new_key("RS256"))
    foreign = issuer.token("other", headers={"kid": "one"}, tenant="team/a")
    del issuer.keys["other"]
    wrong = {
        "expired": issuer.token("one", tenant="team/a", exp=now - 60),
        "without an end": issuer.token("one", tenant="team/a", exp=None),
        "not yet": issuer.token("one", tenant="team/a", nbf=now + 600),
        "of another issuer": issuer.token("one", tenant="team/a", iss="https://evil.example"),
        "without an issuer": issuer.token("one", tenant="team/a", iss=None),
        "for another audience": issuer.token("one", tenant="team/a", aud="another"),
        "without an audience": issuer.token("one", tenant="team/a", aud=None),
        "without a tenant": issuer.token("one"),
        "of many tenants": issuer.token("one", tenant=["team/a", "team/b"]),
        "signed by another": foreign,
        "unsigned": issuer.forged("one", "none", tenant="team/a"),
        "signed with the public key": issuer.forged(
            "one", "HS256", issuer.public("one"), tenant="team/a"
        ),
        "by the shared key": issuer.forged("shared", "HS256", SHARED, tenant="team/a"),
        "changed": f"{head}.{segment(issuer.claims(tenant='team/b'))}.{signature}",
        "cut": f"{head}.{body}.",
        "with extensions": issuer.token("one", headers={"crit": ["x"], "x": 1}, tenant="team/a"),
        "long": issuer.token("one", tenant="team/a", filler="x" * MAX_TOKEN_BYTES),
        "of no key": f"{segment({'alg': 'RS256', 'kid': ['one']})}.{body}.{signature}",
        "nested": f"{segment({}) + 'A' * 4000}.{body}.{signature}",
        "empty": "..",
        "not base64": "ü.é.ß",
    }
    for name, token in wrong.items():
        assert await world.says(token) is None, name
    assert await world.says(good) == "team/a"
    assert await world.says(issuer.token("one", tenant="team/a", exp=now - 5)) == "team/a"


async def test_a_key_of_another_kind_than_the_token_says_is_refused(world: World) -> None:
    world.issuer.rotate("one", "ES256")
    world.issuer.keys["two"] = ("RS256", new_key("RS256"))
    confused = world.issuer.token("two", headers={"kid": "one"}, tenant="team/a")
    assert await world.says(confused) is None


async def test_a_rotation_is_followed_at_once_by_all_who_come(world: World) -> None:
    assert await world.says(world.issuer.token("one", tenant="team/a")) == "team/a"
    old = world.issuer.token("one", tenant="team/a")
    world.issuer.rotate("two")
    token = world.issuer.token("two", tenant="team/a")
    assert set(await asyncio.gather(*(world.says(token) for _ in range(20)))) == {"team/a"}
    assert await world.says(old) is None
    assert world.issuer.fetches == 2


async def test_unknown_keys_make_no_flood_of_fetches(world: World) -> None:
    good = world.issuer.token("one", tenant="team/a")
    tokens = [world.issuer.token("one", headers={"kid": f"no{at}"}) for at in range(40)]
    for _ in range(2):
        await asyncio.gather(*(world.says(token) for token in tokens))
    assert world.issuer.fetches == 2, "the first, and one for all unknown ones"
    world.clock.seconds += UNKNOWN_S
    assert await world.says(tokens[0]) is None
    assert await world.says(good) == "team/a"
    assert world.issuer.fetches == 3


async def test_known_keys_are_used_while_the_issuer_is_away(world: World) -> None:
    token = world.issuer.token("one", tenant="team/a")
    assert await world.says(token) == "team/a"
    for fault in ("500", "garbage", "foreign", "slow"):
        world.issuer.fault = fault
        world.clock.seconds += KEEP_S
        assert await world.says(token) == "team/a", fault
    world.issuer.stop()
    try:
        world.clock.seconds += KEEP_S
        assert await world.says(token) == "team/a"
        with pytest.raises(Unavailable):
            await world.says(world.issuer.token("one", headers={"kid": "new"}))
    finally:
        world.issuer.start()


async def test_kept_keys_are_fetched_again_in_time(world: World) -> None:
    old = world.issuer.token("one", tenant="team/a")
    assert await world.says(old) == "team/a"
    world.issuer.rotate("two")
    assert await world.says(old) == "team/a", "the issuer took it back: known within KEEP_S"
    world.clock.seconds += KEEP_S
    await world.says(old)
    async with asyncio.timeout(10):
        while await world.says(old) is not None:
            await asyncio.sleep(0.01)


async def test_an_issuer_that_never_answered_is_unavailable_until_it_does(world: World) -> None:
    token = world.issuer.token("one", tenant="team/a")
    world.issuer.fault = "500"
    for _ in range(5):
        with pytest.raises(Unavailable):
            await world.says(token)
    assert world.issuer.fetches == 1
    world.issuer.fault = ""
    world.clock.seconds += RETRY_S
    assert await world.says(token) == "team/a"


async def test_a_changed_issuer_is_asked_from_then_on(world: World) -> None:
    token = world.issuer.token("one", tenant="team/a")
    assert await world.says(token) == "team/a"
    other = FakeIssuer()
    other.rotate("one")
    other.start()
    try:
        trusted = JWTAuth(issuer=other.url, audience=AUDIENCE)
        with pytest.raises(Unauthenticated):
            await world.tokens.tenant_claim(trusted, token)
        theirs = other.token("one", tenant="team/b")
        assert await world.tokens.tenant_claim(trusted, theirs) == "team/b"
    finally:
        other.stop()
