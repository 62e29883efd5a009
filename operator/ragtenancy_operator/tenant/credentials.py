"""Having a tenant's API keys: their Secrets made, rotated and mended, and which hashes work.

Between any two writes the pass may stop. A new key is in its Secret before its hash is in the
binding, so none works that nobody was given. The Secret says for which rotation it was issued, so
none is issued twice. And a Secret's key is replaced only when the binding holds its hash, so that
the overlap is known of every key that was given.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ragtenancy_api.binding import BoundKey
from ragtenancy_api.tenant import APIKey
from ragtenancy_operator import names
from ragtenancy_operator.apply import stamped
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.conditions import Verdict, no, yes
from ragtenancy_operator.errors import Refused, Retry
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Manifest, kept, labels_of
from ragtenancy_operator.tenant import keys, limits
from ragtenancy_operator.tenant.keys import Problem
from ragtenancy_operator.tenant.observe import Observed

_REREAD_SECONDS: Final = 30.0
"""How often a Secret is read that no watch tells of, and a hash that somebody else has."""
_SOON_SECONDS: Final = 0.1


@dataclass
class Credentials:
    """What one pass found out about a tenant's keys.

    Attributes:
        working: What the binding is to hold.
        expired: Keys that have ended.
        problems: Why keys do not work.
        notes: What else there is to say.
        refusal: What only a person can take out of the way; the other keys work all the same.
        again: In how many seconds to look again.
        enabled: Whether the deployment takes keys at all.
    """

    working: list[BoundKey] = field(default_factory=list)
    expired: list[BoundKey] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refusal: Refused | None = None
    again: float | None = None
    enabled: bool = True

    def look_again(self, after: float) -> None:
        """Have the tenant looked at in so many seconds, if not before."""
        self.again = after if self.again is None else min(self.again, after)

    def verdict(self) -> Verdict:
        """The condition CredentialsReady."""
        if not self.enabled:
            text = "the RAGDeployment takes no API keys: come with a token of its issuer"
            return yes("CredentialsReady", "JWTOnly", text)
        ended = [f"key {key.name} ended at {key.expires_at}" for key in self.expired]
        said = "; ".join([*map(str, self.problems), *ended, *self.notes])
        if self.problems:
            return no("CredentialsReady", self.problems[0].reason, said)
        if self.expired and not self.working:
            advice = "Set a later expiresAt, or take it out"
            return no("CredentialsReady", "KeyExpired", f"{said}. {advice}")
        count = len({key.name for key in self.working})
        text = f"{count} keys work" if count != 1 else "1 key works"
        return yes("CredentialsReady", "Issued", f"{text}; {said}" if said else text)


@dataclass(frozen=True)
class _Asked:
    """One key of a tenant.

    Attributes:
        observed: The tenant.
        context: Its deployment.
        key: The key, as the spec has it.
        path: Where in the spec.
        held: What the binding holds of it.
    """

    observed: Observed
    context: Context
    key: APIKey
    path: str
    held: Sequence[BoundKey]

    @property
    def secret_name(self) -> str:
        """Name of its Secret."""
        return keys.secret_name(self.observed.tenant, self.key)

    def check_number(self) -> None:
        """Refuse a key that is new, beyond the number of keys that are allowed.

        Raises:
            Problem: It is one of too many.
        """
        most = self.context.deployment.spec.tenants.limits
        if not self.held and limits.too_many_keys(self.observed.tenant.spec, most):
            text = f"{self.path}: beyond the number of keys that are allowed"
            raise Problem("LimitExceeded", text)


class KeyMaker:
    """Makes the Secrets of keys, and says what the bindings are to hold of them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # hashes that a pass is about to bind: no other pass binds them meanwhile
        self._binding: dict[str, str] = {}

    @contextmanager
    def reserved(self, uid: str) -> Iterator[None]:
        """Keep what :meth:`gather` found for the tenant from all others until it is bound."""
        try:
            yield
        finally:
            self._binding = {k: v for k, v in self._binding.items() if v != uid}

    async def gather(self, observed: Observed, context: Context) -> Credentials:
        """Have a Secret for every key; what works of them, and what does not."""
        found = Credentials(enabled=context.deployment.spec.api.auth.api_keys.enabled)
        if not found.enabled:
            return found
        held = keys.by_name(observed.binding.spec.keys if observed.binding else [])
        now = datetime.now(UTC)
        current: list[tuple[_Asked, BoundKey]] = []
        for index, key in enumerate(observed.tenant.spec.api_keys):
            path = f"spec.apiKeys[{index}]"
            asked = _Asked(observed, context, key, path, held.get(key.name, ()))
            try:
                current.append((asked, await self._current(asked, found)))
            except Problem as problem:
                found.problems.append(problem)
            except Refused as refusal:
                found.refusal = found.refusal or refusal
        # from here to the reservation nothing is awaited: two tenants cannot both come through
        for asked, bound in current:
            self._sort(asked, bound, found, now)
        for asked, bound in current:
            for old in keys.left_over(asked.key, bound, asked.held, now):
                if self._free(observed, old.sha256, found):
                    found.working.append(old)
        ends = [keys.moment(key.expires_at) for key in found.working]
        for end in filter(None, ends):
            found.look_again((end - now).total_seconds() + _SOON_SECONDS)
        if found.problems or any(k.secret_ref for k in observed.tenant.spec.api_keys):
            found.look_again(_REREAD_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311 - jitter
        self._binding |= dict.fromkeys(
            (key.sha256 for key in found.working), observed.tenant.metadata.uid
        )
        return found

    def _sort(self, asked: _Asked, bound: BoundKey, found: Credentials, now: datetime) -> None:
        """Put a current key where it belongs: it works, has ended, or must not work."""
        path, expires_at = asked.path, asked.key.expires_at
        end = keys.moment(expires_at)
        if expires_at is not None and end is None:
            text = f"{path}.expiresAt: {expires_at} is no moment, such as 2027-01-31T00:00:00Z"
            found.problems.append(Problem("ExpiryInvalid", text))
        elif not self._free(asked.observed, bound.sha256, found):
            found.problems.append(
                Problem(
                    "DuplicateKey",
                    f"{path}: this key is in use already. Each key is one tenant's, under one "
                    f"name: put another one into Secret {asked.secret_name}",
                )
            )
        elif end is not None and end <= now:
            found.expired.append(bound)
        else:
            found.working.append(bound)

    def _free(self, observed: Observed, sha256: str, found: Credentials) -> bool:
        """Whether a hash is nobody else's; who has it first keeps it."""
        if any(key.sha256 == sha256 for key in found.working):
            return False
        uid = observed.tenant.metadata.uid
        if self._binding.get(sha256, uid) != uid:
            return False
        holders = [
            (binding["metadata"].get("creationTimestamp", ""), binding["metadata"]["name"])
            for binding in self._services.store.bindings_with(sha256)
            if not binding["metadata"].get("deletionTimestamp")
        ]
        others = [holder for holder in holders if holder[1] != uid]
        return not others or (len(others) < len(holders) and min(holders)[1] == uid)

    async def _current(self, asked: _Asked, found: Credentials) -> BoundKey:
        """The key as it is in its Secret, which is made, mended or rotated."""
        tenant, key, name = asked.observed.tenant, asked.key, asked.secret_name
        namespace = tenant.metadata.namespace
        if key.secret_ref is not None:
            asked.check_number()
            # never from the store, which holds what carries our label
            brought = await self._services.kube.find("Secret", namespace, name)
            return keys.brought(key, asked.path, brought, namespace)
        secret = self._services.store.get("Secret", namespace, name)
        if secret is None:
            asked.check_number()
            secret = await self._issue(asked)
        elif labels_of(secret).get(names.LABEL_TENANT_UID) != tenant.metadata.uid:
            raise Refused(
                "Conflict",
                f"Secret {name} exists and is not this tenant's; it is left as it is. Rename or "
                "delete it, or set apiKeys[].secretName",
            )
        elif not keys.intact(secret):
            # what it holds is no key of ours, and the old one is lost
            await self._services.applier.delete(secret)
            secret = await self._issue(asked)
            text = f"Secret {name} was edited; its key is revoked and a new one is issued"
            await self._services.events.post(asked.observed.raw, "Warning", "KeyReplaced", text)
        if keys.rotation_of(secret) != key.rotation:
            secret = await self._rotate(asked, secret, found)
        # never by apply, which would take the key out of it
        wanted = stamped(keys.key_secret(asked.observed, asked.context, key))
        if self._services.applier.differs(secret, wanted):
            secret = await self._patch(secret, wanted)
        return keys.issued(key, secret)

    async def _issue(self, asked: _Asked) -> Manifest:
        after = max((k.issued_at for k in asked.held if k.issued_at), default=None)
        manifest = keys.new_key_secret(
            asked.observed, asked.context, asked.key, datetime.now(UTC), after
        )
        secret = kept(await self._services.applier.create(manifest))
        if not keys.intact(secret):
            raise Retry(f"Secret {asked.secret_name} was edited, and has not gone yet")
        text = f"key {asked.key.name} is in Secret {asked.secret_name}"
        await self._services.events.post(asked.observed.raw, "Normal", "KeyIssued", text)
        return secret

    async def _rotate(self, asked: _Asked, secret: Manifest, found: Credentials) -> Manifest:
        key, before = asked.key, keys.issued(asked.key, secret)
        if not any(k.sha256 == before.sha256 and k.issued_at for k in asked.held):
            # a key is replaced only once it is bound, or it would have no overlap
            found.look_again(_SOON_SECONDS)
            return secret
        if len(asked.held) >= keys.MOST_HASHES:
            found.notes.append(
                f"key {key.name} is not rotated yet: {keys.MOST_HASHES} keys of that name still "
                "work. The next is issued when the overlap of one ends"
            )
            return secret
        manifest = keys.new_key_secret(
            asked.observed, asked.context, key, datetime.now(UTC), before.issued_at
        )
        rotated = await self._patch(secret, manifest)
        text = (
            f"Secret {asked.secret_name} holds a new key for rotation {key.rotation}; the one "
            f"before works for {key.overlap} more"
        )
        await self._services.events.post(asked.observed.raw, "Normal", "KeyRotated", text)
        return rotated

    async def _patch(self, secret: Manifest, wanted: Manifest) -> Manifest:
        """Merge into a Secret, unless it has changed since it was seen."""
        metadata, target = secret["metadata"], wanted["metadata"]
        annotations = target["annotations"]
        if names.ANNOTATION_KEY_SHA256 in annotations:
            # a new key: what was said of the old one goes
            annotations = {names.ANNOTATION_ROTATION: None, **annotations}
        patch = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "uid": metadata["uid"],
                "labels": target["labels"],
                "annotations": annotations,
                "ownerReferences": target["ownerReferences"],
            },
            "data": wanted["data"],
        }
        patched = await self._services.kube.merge(
            "Secret", metadata["namespace"], metadata["name"], patch
        )
        self._services.store.put(patched)
        return kept(patched)

    async def remove_stray(self, observed: Observed, credentials: Credentials) -> None:
        """Delete the Secrets of keys that are no more; their hashes are out of the binding."""
        wanted = {
            keys.secret_name(observed.tenant, key)
            for key in observed.tenant.spec.api_keys
            if credentials.enabled and key.secret_ref is None
        }
        for secret in observed.secrets:
            if secret["metadata"]["name"] not in wanted:
                await self._services.applier.delete(secret)
