"""Objects without their secrets, for people who may see the rest. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ragtenancy_operator.names import ANNOTATION_KEY_SHA256

LEFT_OUT: Final = "(left out)"
_NAME: Final = re.compile(r"PASS|TOKEN|KEY|SECRET|CREDENTIAL|AUTH", re.IGNORECASE)
_OPTION: Final = re.compile(
    r"^--?([\w.]+[-_.])*(key|token|pass|password|requirepass|secret|credentials?)(?P<value>=.*)?$",
    re.IGNORECASE | re.DOTALL,
)
_LOGIN: Final = re.compile(r"(?<=//)[^/@\s]+(?=@)")
"""User and password of a URL."""
_SECRET_ANNOTATIONS: Final = frozenset(
    # kubectl keeps the whole manifest there, as one text
    {ANNOTATION_KEY_SHA256, "kubectl.kubernetes.io/last-applied-configuration"}
)


def redacted(value: Any) -> Any:
    """The same value with everything left out that is secret, or may be.

    That are: a Secret's data, hashes of keys, values of variables, annotations and options whose
    name speaks of a password, token or key, and users and passwords in URLs.
    """
    if isinstance(value, Mapping):
        return {name: _entry(value, name, held) for name, held in value.items()}
    if isinstance(value, str):
        return _LOGIN.sub(LEFT_OUT, value)
    if isinstance(value, Sequence):
        return [redacted(item) for item in value]
    return value


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and _NAME.search(name) is not None


def _entry(parent: Mapping[str, Any], name: str, held: Any) -> Any:
    if name == "sha256" or (name == "value" and _is_secret(parent.get("name"))):
        return LEFT_OUT
    if name in ("data", "stringData") and parent.get("kind") == "Secret":
        return dict.fromkeys(held or (), LEFT_OUT)
    if name in ("annotations", "podAnnotations") and isinstance(held, Mapping):
        return {
            key: LEFT_OUT if key in _SECRET_ANNOTATIONS or _is_secret(key) else redacted(text)
            for key, text in held.items()
        }
    if name in ("args", "command") and isinstance(held, Sequence) and not isinstance(held, str):
        return _options(held)
    return redacted(held)


def _options(words: Sequence[Any]) -> list[Any]:
    """A command line; the value of an option may be the word that follows it."""
    result: list[Any] = []
    follows = False
    for word in words:
        found = _OPTION.match(word) if isinstance(word, str) else None
        if follows:
            result.append(LEFT_OUT)
        elif found and found["value"]:
            result.append(f"{word[: -len(found['value'])]}={LEFT_OUT}")
        else:
            result.append(redacted(word))
        follows = not follows and found is not None and found["value"] is None
    return result
