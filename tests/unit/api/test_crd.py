"""The CRDs that the models generate."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ragtenancy_api.crd import definitions, files

Schema = dict[str, Any]
LIMIT = 200 * 1024


def schemas() -> Iterator[tuple[str, Schema]]:
    for crd in definitions():
        (version,) = crd["spec"]["versions"]
        yield crd["spec"]["names"]["kind"], version["schema"]["openAPIV3Schema"]


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def nodes() -> list[Any]:
    return [
        pytest.param(path, node, id=path)
        for kind, schema in schemas()
        for path, node in walk(schema, kind)
    ]


def test_generated_files_are_fresh() -> None:
    assert [path for path, text in files().items() if path.read_text("utf-8") != text] == []


def test_every_crd_is_smaller_than_200_kib() -> None:
    sizes = {crd["metadata"]["name"]: len(yaml.safe_dump(crd)) for crd in definitions()}
    assert {name: size for name, size in sizes.items() if size > LIMIT} == {}


def test_every_schema_is_structural_and_only_kubernetes_own_types_are_open() -> None:
    forbidden = {"$ref", "anyOf", "oneOf", "allOf", "title"}
    open_types = {"affinity", "topologySpreadConstraints", "extraVolumes", "extraVolumeMounts"}
    for kind, schema in schemas():
        for path, node in walk(schema, kind):
            assert not forbidden & node.keys(), path
            if "x-kubernetes-preserve-unknown-fields" in node:
                assert path.rpartition(".")[2].removesuffix("[]") in open_types, path
            assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_every_field_says_what_it_means() -> None:
    silent = [
        path
        for kind, schema in schemas()
        for path, node in walk(schema["properties"]["spec"], f"{kind}.spec")
        if "description" not in node and not path.endswith(("[]", "{}"))
    ]
    assert silent == []


def test_members_of_a_union_have_no_default() -> None:
    """A default would set both members of a union of which exactly one may be set."""
    for kind, schema in schemas():
        for path, node in walk(schema, kind):
            for validation in node.get("x-kubernetes-validations", ()):
                if "set exactly one of" in validation["message"]:
                    members = (
                        validation["message"].removeprefix("set exactly one of ").split(" and ")
                    )
                    for member in members:
                        assert "default" not in node["properties"][member], f"{path}.{member}"


def test_what_a_transition_rule_reads_is_bounded() -> None:
    """The API server refuses a rule whose worst case costs too much: bounds keep it cheap."""
    for kind, schema in schemas():
        for path, node in walk(schema, kind):
            if "x-kubernetes-validations" not in node or path == kind:
                continue
            for inner, child in walk(node, path):
                if child.get("type") == "array":
                    assert "maxItems" in child, inner
                if child.get("type") == "object" and "additionalProperties" in child:
                    assert "maxProperties" in child, inner
                if child.get("type") == "string" and "enum" not in child:
                    assert "maxLength" in child, inner


def test_statuses_fill_nothing_in() -> None:
    for kind, schema in schemas():
        for path, node in walk(schema["properties"]["status"], f"{kind}.status"):
            assert "default" not in node, path
