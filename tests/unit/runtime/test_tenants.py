import hashlib
from typing import Any

import pytest

from ragtenancy_api.binding import RAGBinding
from ragtenancy_runtime.errors import Unauthenticated, Unavailable
from ragtenancy_runtime.tenants import Directory
from tests.fakes.manifests import binding_manifest, key_of, uid_of


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
    try:
        return directory.authenticate(key).tenant.name
    except Unauthenticated:
        return None


def test_a_key_is_its_tenants() -> None:
    directory = Directory()
    directory.apply(binding("a"))
    directory.apply(binding("b"))
    assert who(directory, key_of("a")) == "a"
    assert directory.authenticate(key_of("b")).key_id == "key-b"
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


def test_a_list_forgets_what_is_not_in_it() -> None:
    directory = Directory()
    directory.apply(binding("a"))
    directory.replace([binding("b"), binding("c")])
    assert [who(directory, key_of(name)) for name in "abc"] == [None, "b", "c"]


def test_without_a_deployment_nothing_is_served() -> None:
    with pytest.raises(Unavailable):
        _ = Directory().deployment
