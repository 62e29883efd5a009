import hashlib
from typing import Any

import pytest

from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.meta import parse_timestamp
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.tenants import Directory
from tests.fakes.manifests import binding_manifest, key_of, uid_of

NOW = parse_timestamp("2026-06-01T12:00:00Z").timestamp()


def binding(name: str, *, keys: tuple[str, ...] = (), **metadata: Any) -> RAGBinding:
    manifest = binding_manifest(name)
    manifest["metadata"] |= metadata
    if keys:
        manifest["spec"]["keys"] = [
            {"id": f"k{at}", "name": "n", "sha256": hashlib.sha256(key.encode()).hexdigest()}
            for at, key in enumerate(keys)
        ]
    return RAGBinding.model_validate(manifest)


def who(directory: Directory, key: str) -> str | None:
    identity = directory.by_key(key, NOW)
    return None if identity is None else identity.tenant.name


def test_a_key_is_its_tenants() -> None:
    directory = Directory()
    directory.apply(binding("a"))
    directory.apply(binding("b"))
    assert who(directory, key_of("a")) == "a"
    assert who(directory, key_of("b")) == "b"
    for wrong in ("", "x", key_of("a") + " ", key_of("a").upper()):
        assert who(directory, wrong) is None


def test_a_hash_that_is_claimed_twice_is_nobodys_until_one_is_left() -> None:
    directory = Directory()
    directory.apply(binding("a", keys=("same", "own")))
    directory.apply(binding("b", keys=("same",)))
    assert who(directory, "same") is None
    assert who(directory, "own") == "a"
    directory.remove(uid_of("a"))
    assert who(directory, "same") == "b"


def test_a_hash_twice_in_one_binding_is_nobodys() -> None:
    directory = Directory()
    directory.apply(binding("a", keys=("same", "same")))
    assert who(directory, "same") is None


def test_a_new_state_takes_the_place_of_the_old_one() -> None:
    directory = Directory()
    directory.apply(binding("a", keys=("old",)))
    directory.apply(binding("a", keys=("new",)))
    assert who(directory, "old") is None and who(directory, "new") == "a"
    assert len(directory) == 1


def test_a_tenant_that_is_being_removed_does_not_authenticate() -> None:
    directory = Directory()
    directory.apply(binding("a"))
    directory.apply(binding("a", deletionTimestamp="2026-01-01T00:00:00Z"))
    assert who(directory, key_of("a")) is None
    releasing = binding_manifest("b") | {"status": {"phase": "Releasing"}}
    directory.apply(RAGBinding.model_validate(releasing))
    assert who(directory, key_of("b")) is None


def test_a_shared_key_is_logged_once_without_the_key_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory = Directory()
    for _ in range(3):
        directory.apply(binding("a", keys=("same", "own")))
        directory.apply(binding("b", keys=("same",)))
    assert directory.shared_keys == 1
    (record,) = caplog.records
    assert uid_of("a") in record.getMessage() and uid_of("b") in record.getMessage()
    assert hashlib.sha256(b"same").hexdigest() not in record.getMessage()
    directory.replace([binding("a", keys=("same",))])
    assert directory.shared_keys == 0


def test_a_key_is_unknown_from_its_end_on() -> None:
    def until(moment: str) -> RAGBinding:
        manifest = binding_manifest("a")
        manifest["spec"]["keys"][0]["expiresAt"] = moment
        return RAGBinding.model_validate(manifest)

    directory = Directory()
    for moment, served in (
        ("2026-06-01T12:00:01Z", True),
        ("2026-06-01T14:00:00.5+02:00", True),
        ("2026-06-01T12:00:00Z", False),
        ("2025-06-01T12:00:00Z", False),
        ("2026-13-45T12:00:00Z", False),
    ):
        directory.apply(until(moment))
        assert (who(directory, key_of("a")) == "a") is served, moment


def test_a_tenant_is_found_by_name_while_one_binding_alone_serves_it() -> None:
    def of_uid(uid: str, **status: Any) -> RAGBinding:
        manifest = binding_manifest("a")
        manifest["metadata"]["name"] = manifest["spec"]["tenantRef"]["uid"] = uid_of(uid)
        manifest["spec"]["keys"] = []
        return RAGBinding.model_validate(manifest | {"status": status})

    def found() -> str | None:
        tenant = directory.by_name("team", "a")
        return None if tenant is None else tenant.uid

    directory = Directory()
    directory.apply(of_uid("old"))
    assert found() == uid_of("old")
    directory.apply(of_uid("old", phase="Released"))
    assert found() is None
    directory.apply(of_uid("new"))
    assert found() == uid_of("new")
    directory.apply(of_uid("old"))
    assert found() is None, "two that say they are it: neither is trusted"
    directory.remove(uid_of("old"))
    assert found() == uid_of("new")
    assert directory.by_name("other", "a") is None


def test_a_list_forgets_what_is_not_in_it() -> None:
    directory = Directory()
    directory.apply(binding("a"))
    directory.replace([binding("b"), binding("c")])
    assert [who(directory, key_of(name)) for name in "abc"] == [None, "b", "c"]


def test_without_a_deployment_nothing_is_served() -> None:
    with pytest.raises(Unavailable):
        _ = Directory().deployment


def test_a_tenant_of_a_shared_shard_without_an_owner_is_not_served() -> None:
    manifest = binding_manifest("a", owner=uid_of("a"))
    directory = Directory()
    directory.apply(RAGBinding.model_validate(manifest))
    assert who(directory, key_of("a")) == "a"
    del manifest["spec"]["placement"]["owner"]
    directory.apply(RAGBinding.model_validate(manifest))
    assert who(directory, key_of("a")) is None and len(directory) == 0
