"""Which hashes of a key work, and what its Secret is."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ragtenancy_api.binding import BoundKey
from ragtenancy_api.tenant import APIKey
from ragtenancy_operator.apply import contains, stamped
from ragtenancy_operator.store import annotations_of, kept
from ragtenancy_operator.tenant import keys
from ragtenancy_operator.tenant.credentials import Credentials
from ragtenancy_operator.tenant.keys import Problem
from tests.unit.builders import context
from tests.unit.operator.test_tenant_plan import observed

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def at(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def key(letter: str, issued: float | None = None, **more: Any) -> BoundKey:
    """A hash of the key default, issued so many hours from now."""
    sha256 = letter * 64
    given = None if issued is None else at(issued)
    return BoundKey(id=keys.key_id(sha256), name="default", sha256=sha256, issued_at=given, **more)


def asked(**more: Any) -> APIKey:
    return APIKey.model_validate({"name": "default", **more})


def ends(found: list[BoundKey]) -> dict[str, str | None]:
    return {each.sha256[0]: each.expires_at for each in found}


def test_the_key_before_a_rotation_works_until_the_overlap_ends() -> None:
    held = [key("a", -5, rotation="1")]
    found = keys.left_over(asked(overlap="2h"), key("b", 0, rotation="2"), held, NOW)
    assert ends(found) == {"a": at(2)}


def test_without_an_overlap_the_old_key_ends_at_once() -> None:
    held = [key("a", -5, rotation="1")]
    assert keys.left_over(asked(overlap="0s"), key("b", 0, rotation="2"), held, NOW) == []


def test_the_end_is_computed_once() -> None:
    held = [key("b", -1, rotation="2"), key("a", -5, rotation="1", expires_at=at(1))]
    found = keys.left_over(asked(overlap="48h"), held[0], held, NOW)
    assert ends(found) == {"a": at(1)}
    assert keys.left_over(asked(), held[0], held, NOW + timedelta(hours=1)) == []


def test_two_rotations_within_the_overlap_keep_both_ends() -> None:
    held = [key("b", -1, rotation="2"), key("a", -5, rotation="1", expires_at=at(9))]
    found = keys.left_over(asked(overlap="2h"), key("c", 0, rotation="3"), held, NOW)
    assert ends(found) == {"a": at(9), "b": at(2)}


def test_a_rotation_back_to_an_earlier_text_is_a_rotation() -> None:
    held = [key("b", -1, rotation="2"), key("a", -5, rotation="1", expires_at=at(9))]
    found = keys.left_over(asked(overlap="2h"), key("c", 0, rotation="1"), held, NOW)
    assert ends(found) == {"a": at(9), "b": at(2)}


def test_the_same_rotation_with_another_hash_revokes_at_once() -> None:
    held = [key("b", -1, rotation="2"), key("a", -5, rotation="1", expires_at=at(9))]
    found = keys.left_over(asked(), key("c", 0, rotation="2"), held, NOW)
    assert ends(found) == {"a": at(9)}


def test_nothing_is_left_of_a_key_that_its_owner_brought() -> None:
    held = [key("a", -5, rotation="1")]
    assert keys.left_over(asked(), key("b"), held, NOW) == []
    assert keys.left_over(asked(rotation="1"), key("b", 0, rotation="1"), [key("a")], NOW) == []


def test_an_old_key_ends_with_the_key_itself_and_has_its_role() -> None:
    held = [key("a", -5, rotation="1")]
    spec = asked(role="Reader", expiresAt=at(1))
    (old,) = keys.left_over(spec, key("b", 0, rotation="2"), held, NOW)
    assert (old.expires_at, old.role) == (at(1), "Reader")


def test_an_overlap_of_any_length_has_an_end() -> None:
    held = [key("a", -5, rotation="1")]
    found = keys.left_over(asked(overlap="9999999999999h"), key("b", 0, rotation="2"), held, NOW)
    assert keys.moment(found[0].expires_at) is not None


def test_a_new_key_has_256_bits_a_prefix_and_its_hash_beside_it() -> None:
    tenant = observed()
    (spec,) = tenant.tenant.spec.api_keys
    made = [keys.new_key_secret(tenant, context(), spec, NOW) for _ in range(2)]
    values = [base64.b64decode(m["data"]["OPENAI_API_KEY"]).decode() for m in made]
    assert values[0] != values[1]
    for manifest, value in zip(made, values, strict=True):
        assert value.startswith("rtk_")
        assert len(base64.urlsafe_b64decode(value.removeprefix("rtk_") + "=")) == 32
        sha256 = annotations_of(manifest)["ragtenancy.io/key-sha256"]
        assert sha256 == hashlib.sha256(value.encode()).hexdigest()
        assert keys.intact(kept(manifest))


def test_a_key_just_created_needs_no_second_write() -> None:
    tenant = observed()
    (spec,) = tenant.tenant.spec.api_keys
    created = keys.new_key_secret(tenant, context(), spec, NOW)
    assert contains(created, stamped(keys.key_secret(tenant, context(), spec)))


def test_a_successor_is_younger_whatever_the_clock_says() -> None:
    tenant = observed(apiKeys=[{"name": "default", "rotation": "2"}])
    (spec,) = tenant.tenant.spec.api_keys
    made = kept(keys.new_key_secret(tenant, context(), spec, NOW, after=at(3)))
    issued = keys.issued(spec, made)
    assert (keys.moment(issued.issued_at) or NOW) > NOW + timedelta(hours=3)
    assert issued.rotation == "2"


def test_nonsense_in_a_secrets_annotations_is_no_reason_to_fail() -> None:
    tenant = observed()
    (spec,) = tenant.tenant.spec.api_keys
    made = keys.new_key_secret(tenant, context(), spec, NOW)
    made["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    made["metadata"]["annotations"] |= {
        "ragtenancy.io/rotation": "x" * 500,
        "ragtenancy.io/issued-at": "yesterday",
    }
    issued = keys.issued(spec, made)
    assert (issued.issued_at, issued.rotation) == ("2026-01-01T00:00:00Z", None)
    far = keys.new_key_secret(tenant, context(), spec, NOW, after="9999-12-31T23:59:59.999999Z")
    assert keys.issued(spec, far).issued_at


def test_the_secret_is_all_an_openai_client_needs() -> None:
    tenant = observed()
    (spec,) = tenant.tenant.spec.api_keys
    data = keys.new_key_secret(tenant, context(), spec, NOW)["data"]
    assert {name: base64.b64decode(value).decode() for name, value in data.items()} == {
        "OPENAI_API_KEY": base64.b64decode(data["OPENAI_API_KEY"]).decode(),
        "OPENAI_BASE_URL": "http://main-api.rag.svc/v1",
        "OPENAI_MODEL": "org/chat",
        "RAGTENANCY_TENANT": "team-acme/acme",
    }


OWN = {"secretRef": {"name": "vault", "key": "token"}}


def brought(data: dict[str, bytes] | None) -> BoundKey:
    encoded = {name: base64.b64encode(value).decode() for name, value in (data or {}).items()}
    secret = None if data is None else {"data": encoded}
    return keys.brought(asked(**OWN), "spec.apiKeys[3]", secret, "team")


def test_ones_own_key_is_hashed_without_the_files_last_line_break() -> None:
    value = b"k" * 32
    assert brought({"token": value + b"\n"}).sha256 == hashlib.sha256(value).hexdigest()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "SecretNotFound"),
        ({"other": b"k" * 32}, "SecretEntryMissing"),
        ({"token": b"k" * 31}, "KeyTooWeak"),
        ({"token": b"k" * 31 + b" " + b"k"}, "KeyTooWeak"),
        ({"token": "schlüssel".encode() * 8}, "KeyTooWeak"),
        ({"token": b"\xff" * 64}, "KeyTooWeak"),
        ({"token": b"\0" * 64}, "KeyTooWeak"),
    ],
)
def test_ones_own_key_is_refused_with_the_path_and_without_the_value(
    data: dict[str, bytes] | None, reason: str
) -> None:
    with pytest.raises(Problem) as caught:
        brought(data)
    assert caught.value.reason == reason
    assert caught.value.message.startswith("spec.apiKeys[3].secretRef: ")
    assert "kkk" not in caught.value.message


def test_a_tenant_whose_keys_have_all_ended_has_no_credentials() -> None:
    verdict = Credentials(expired=[key("a", -5, expires_at=at(-1))]).verdict()
    assert (verdict.status, verdict.reason) == ("False", "KeyExpired")
    assert at(-1) in verdict.message


def test_one_that_has_ended_is_said_while_others_work() -> None:
    verdict = Credentials([key("b", -5)], [key("a", -5, expires_at=at(-1))]).verdict()
    assert verdict.true
    assert at(-1) in verdict.message
