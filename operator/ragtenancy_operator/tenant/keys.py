"""A tenant's API keys: their Secrets, and which hashes of them work. Pure.

The binding is the truth about what works. A key's Secret says what was issued last: its key, for
which rotation, and when. What the binding holds beside that is what a rotation has left behind.
"""

import base64
import binascii
import hashlib
import re
import secrets as random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ragtenancy_api.binding import BoundKey
from ragtenancy_api.meta import API_VERSION, parse_duration, parse_timestamp
from ragtenancy_api.tenant import APIKey, RAGTenant
from ragtenancy_operator import names
from ragtenancy_operator.apply import stamped
from ragtenancy_operator.children import api
from ragtenancy_operator.children.base import Context, owned_by
from ragtenancy_operator.store import Manifest, annotations_of
from ragtenancy_operator.tenant.observe import Observed

MOST_HASHES: Final = 4
"""Hashes of one key that may work at once. With 16 keys they are the 64 that a binding can hold."""
_SHORTEST_KEY: Final = 32
_VISIBLE: Final = re.compile(rf"[!-~]{{{_SHORTEST_KEY},}}")
_LONGEST_ROTATION: Final = 64


class Problem(Exception):
    """Why a key does not work. The tenant's other keys go on.

    Attributes:
        reason: One CamelCase word for CredentialsReady.
        message: The field's path, what is wrong and what to do about it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def secret_name(tenant: RAGTenant, key: APIKey) -> str:
    """Name of the Secret that holds a key."""
    if key.secret_ref is not None:
        return key.secret_ref.name
    return key.secret_name or names.key_secret(tenant.metadata.name, key.name)


def key_id(sha256: str) -> str:
    """Identifier of a key in logs: the start of its hash."""
    return f"key-{sha256[:12]}"


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def key_secret(observed: Observed, context: Context, key: APIKey) -> Manifest:
    """The Secret of a key, without the key: what can be mended again and again."""
    tenant = observed.tenant
    metadata = tenant.metadata
    data = {
        names.ENTRY_BASE_URL: api.url(context),
        names.ENTRY_MODEL: context.deployment.generation.model,
        names.ENTRY_TENANT: f"{metadata.namespace}/{metadata.name}",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(tenant, key),
            "namespace": metadata.namespace,
            "labels": {
                names.LABEL_MANAGED_BY: names.MANAGER,
                names.LABEL_PART_OF: names.MANAGER,
                names.LABEL_TENANT: metadata.name,
                names.LABEL_TENANT_UID: metadata.uid,
                names.LABEL_KEY: key.name,
            },
            "ownerReferences": owned_by(
                {
                    "apiVersion": API_VERSION,
                    "kind": "RAGTenant",
                    "name": metadata.name,
                    "uid": metadata.uid,
                }
            ),
        },
        "type": "Opaque",
        "data": {entry: _encoded(value) for entry, value in data.items()},
    }


def new_key_secret(
    observed: Observed, context: Context, key: APIKey, now: datetime, after: str | None = None
) -> Manifest:
    """The Secret of a key with a fresh key of 256 random bits.

    Args:
        observed: The tenant.
        context: Its deployment.
        key: The key.
        now: When it is issued.
        after: When the key was issued that it replaces: the new one is younger, whatever the clock
            says.
    """
    value = names.KEY_PREFIX + random.token_urlsafe(32)
    before = moment(after)
    at = now if before is None else max(now, _after(before, timedelta(microseconds=1)))
    # stamped as what will be mended: the next pass then has nothing to write
    manifest = stamped(key_secret(observed, context, key))
    manifest["metadata"]["annotations"] |= {
        names.ANNOTATION_KEY_SHA256: hashlib.sha256(value.encode()).hexdigest(),
        names.ANNOTATION_ISSUED_AT: written(at, "microseconds"),
    }
    if key.rotation is not None:
        manifest["metadata"]["annotations"][names.ANNOTATION_ROTATION] = key.rotation
    manifest["data"] = {**manifest["data"], names.ENTRY_API_KEY: _encoded(value)}
    return manifest


def intact(secret: Manifest) -> bool:
    """Whether a Secret, as the store keeps it, holds the key that was issued."""
    issued = annotations_of(secret).get(names.ANNOTATION_KEY_SHA256)
    return bool(issued) and (secret.get("data") or {}).get(names.ENTRY_API_KEY) == issued


def rotation_of(secret: Manifest) -> str | None:
    """The rotation that a Secret's key was issued for."""
    return annotations_of(secret).get(names.ANNOTATION_ROTATION)


def issued(key: APIKey, secret: Manifest) -> BoundKey:
    """The key that a Secret holds, as the binding should."""
    sha256 = annotations_of(secret)[names.ANNOTATION_KEY_SHA256]
    rotation = rotation_of(secret)
    # its owner can write anything there: what the binding cannot hold stays out of it
    at = moment(annotations_of(secret).get(names.ANNOTATION_ISSUED_AT))
    return BoundKey(
        id=key_id(sha256),
        name=key.name,
        sha256=sha256,
        role=key.role,
        rotation=rotation if rotation and len(rotation) <= _LONGEST_ROTATION else None,
        issued_at=written(at, "microseconds") if at else secret["metadata"]["creationTimestamp"],
        expires_at=key.expires_at,
    )


def brought(key: APIKey, path: str, secret: Manifest | None, namespace: str) -> BoundKey:
    """A key from a Secret that its owner keeps.

    Args:
        key: The key, with a secretRef.
        path: Its path in the spec.
        secret: The Secret as the API server holds it; None when it is not there.
        namespace: Where it is looked for.

    Raises:
        Problem: There is no key, or one that could be guessed.
    """
    reference = key.secret_ref
    if reference is None:
        raise ValueError(f"{path} has no secretRef")
    where = f"{path}.secretRef"
    if secret is None:
        raise Problem(
            "SecretNotFound",
            f"{where}: Secret {reference.name} is not in namespace {namespace}. Create it; it is "
            "looked for all the time",
        )
    encoded = (secret.get("data") or {}).get(reference.key)
    if encoded is None:
        raise Problem(
            "SecretEntryMissing",
            f"{where}: Secret {reference.name} has no entry {reference.key}",
        )
    try:
        # a file's last line break is no part of the key
        value = base64.b64decode(encoded).decode("ascii").strip()
    except (binascii.Error, ValueError):
        value = ""
    if not _VISIBLE.fullmatch(value):
        raise Problem(
            "KeyTooWeak",
            f"{where}: entry {reference.key} of Secret {reference.name} must be {_SHORTEST_KEY} or "
            "more visible ASCII characters: write 32 random bytes, as openssl rand -hex 32 does",
        )
    sha256 = hashlib.sha256(value.encode()).hexdigest()
    return BoundKey(
        id=key_id(sha256),
        name=key.name,
        sha256=sha256,
        role=key.role,
        expires_at=key.expires_at,
    )


def left_over(
    key: APIKey, current: BoundKey, held: Sequence[BoundKey], now: datetime
) -> list[BoundKey]:
    """Hashes of a key that work until their overlap ends, beside its current one.

    The end is computed in the pass that first sees the successor, and is in the binding from then
    on. The youngest hash of the binding was the current one until then: one that was issued for the
    same rotation was not rotated, but its Secret was deleted or edited, and it is revoked.

    Args:
        key: The key as the spec has it now.
        current: Its hash that is to work without such an end.
        held: All that the binding holds of it.
        now: The time.
    """
    if current.issued_at is None:
        return []  # one's own key is what its Secret says, and nothing else
    past = [k for k in held if k.sha256 != current.sha256 and k.issued_at is not None]
    youngest = max(held, key=lambda k: moment(k.issued_at) or _NEVER, default=None)
    result = []
    for old in past:
        ends = [moment(old.expires_at), moment(key.expires_at)]
        if old == youngest:
            if old.rotation == current.rotation:
                continue
            ends.append(_after(now, parse_duration(key.overlap)))
        known = [end for end in ends if end is not None]
        end = min(known, default=now)
        if end > now:
            same = end == moment(old.expires_at)
            text = old.expires_at if same else written(end)
            result.append(old.model_copy(update={"expires_at": text, "role": key.role}))
    return result


_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def moment(text: str | None) -> datetime | None:
    """A moment in UTC; None when there is none, or the text is none."""
    try:
        at = parse_timestamp(text) if text else None
        return at.astimezone(UTC) if at and at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def written(at: datetime, precision: str = "seconds") -> str:
    """A moment as RFC 3339 writes it."""
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _after(at: datetime, duration: timedelta) -> datetime:
    try:
        return at + duration
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def by_name(held: Sequence[BoundKey]) -> Mapping[str, list[BoundKey]]:
    """A binding's keys by the name of the key in the spec."""
    result: dict[str, list[BoundKey]] = {}
    for key in held:
        result.setdefault(key.name, []).append(key)
    return result
