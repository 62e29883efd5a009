"""What a debug page leaves out."""

from typing import Any

import pytest

from ragtenancy_operator.redact import LEFT_OUT, redacted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            {"kind": "Secret", "data": {"a": "c2VjcmV0"}, "stringData": {"b": "secret"}},
            {"kind": "Secret", "data": {"a": LEFT_OUT}, "stringData": {"b": LEFT_OUT}},
        ),
        ({"kind": "ConfigMap", "data": {"a": "b"}}, {"kind": "ConfigMap", "data": {"a": "b"}}),
        (
            {"keys": [{"id": "key-1", "sha256": "ab"}]},
            {"keys": [{"id": "key-1", "sha256": LEFT_OUT}]},
        ),
        (
            {
                "env": [
                    {"name": "HF_TOKEN", "value": "hf_x"},
                    {"name": "LOG_LEVEL", "value": "INFO"},
                ]
            },
            {
                "env": [
                    {"name": "HF_TOKEN", "value": LEFT_OUT},
                    {"name": "LOG_LEVEL", "value": "INFO"},
                ]
            },
        ),
        (
            {"annotations": {"ragtenancy.io/key-sha256": "ab", "theirs": "1", "db-password": "p"}},
            {
                "annotations": {
                    "ragtenancy.io/key-sha256": LEFT_OUT,
                    "theirs": "1",
                    "db-password": LEFT_OUT,
                }
            },
        ),
        (
            {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"spec":1}'}},
            {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": LEFT_OUT}},
        ),
        (
            {
                "args": [
                    "--api-key=x",
                    "--hf-token",
                    "y",
                    "--max-num-batched-tokens",
                    "8",
                    "--port=1",
                ]
            },
            {
                "args": [
                    f"--api-key={LEFT_OUT}",
                    "--hf-token",
                    LEFT_OUT,
                    "--max-num-batched-tokens",
                    "8",
                    "--port=1",
                ]
            },
        ),
        (
            {"url": "https://me:secret@host/v1", "other": "https://host/@v1"},
            {"url": f"https://{LEFT_OUT}@host/v1", "other": "https://host/@v1"},
        ),
        (
            # a reference is no secret: it says where one is
            {"valueFrom": {"secretKeyRef": {"name": "credentials", "key": "password"}}},
            {"valueFrom": {"secretKeyRef": {"name": "credentials", "key": "password"}}},
        ),
    ],
)
def test_secrets_are_left_out_and_the_rest_stays(value: Any, shown: Any) -> None:
    assert redacted(value) == shown
