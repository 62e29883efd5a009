"""The directory of tenants: which key belongs to whom, and what holds for them.

It holds what the last events said and nothing else; a source (a Kubernetes watch or a directory of
files) feeds it. Every change is one synchronous call, so a request sees it whole or not at all.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ragtenancy_api.binding import BoundKey, RAGBinding, Settings
from ragtenancy_api.deployment import RAGDeploymentSpec
from ragtenancy_api.meta import parse_timestamp
from ragtenancy_api.settings import Role
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.ports import Corpus

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant, as its binding says."""

    uid: str
    namespace: str
    name: str
    corpus: Corpus
    settings: Settings
    revision: str
    """Digest of the settings: answers made under others are not served from the cache."""
    suspended: bool = False
    """Whether every request of it is refused."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sent a request: a tenant, by one of its keys or by a token."""

    tenant: Tenant
    key_id: str
    role: Role
    expires_at: float = math.inf
    """Unix time from which on the key is unknown."""


def corpus_of(binding: RAGBinding) -> Corpus:
    """Where a tenant's documents are. What it took over may have another's uid as its owner.

    Raises:
        ValueError: It shares a Weaviate tenant, and nothing says which objects are its own.
    """
    placement = binding.spec.placement
    if placement.isolation == "Filter" and placement.owner is None:
        raise ValueError("isolation Filter without an owner")
    return Corpus(
        documents=placement.documents,
        chunks=placement.chunks,
        tenant=placement.tenant,
        owner=placement.owner or binding.spec.tenant_ref.uid,
        shared=placement.owner is not None,
    )


def tenant_of(binding: RAGBinding) -> Tenant:
    """The tenant that a binding describes.

    Raises:
        ValueError: It cannot be served safely.
    """
    ref = binding.spec.tenant_ref
    settings = binding.spec.settings
    canonical = json.dumps(settings.wire(), sort_keys=True).encode()
    return Tenant(
        uid=ref.uid,
        namespace=ref.namespace,
        name=ref.name,
        corpus=corpus_of(binding),
        settings=settings,
        revision=hashlib.sha256(canonical).hexdigest(),
        suspended=binding.spec.suspended,
    )


def identity_of(tenant: Tenant, key: BoundKey) -> Identity:
    """Who has a key. One whose end cannot be read has ended."""
    expires_at = math.inf
    if key.expires_at is not None:
        try:
            expires_at = parse_timestamp(key.expires_at).timestamp()
        except ValueError:
            _log.error("key %s: its end cannot be read, and it is not served", key.id)
            expires_at = -math.inf
    return Identity(tenant, key.id, key.role, expires_at)


def serves(binding: RAGBinding) -> bool:
    """Whether a binding has a tenant to serve: not once that is removed or released."""
    return binding.metadata.deletion_timestamp is None and binding.status.phase is None


@dataclass(slots=True)
class Directory:
    """Every tenant of the deployment, by key hash and by name, and the deployment itself."""

    _deployment: RAGDeploymentSpec | None = None
    _tenants: dict[str, Tenant] = field(default_factory=dict)
    """By the binding's name."""
    _hashes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Key hashes, by the binding's name."""
    _claims: dict[str, list[tuple[str, Identity]]] = field(default_factory=dict)
    """Bindings' names and who they say has it, by key hash."""
    _names: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Bindings' names, by the tenant's namespace and name."""
    _shared: set[str] = field(default_factory=set)

    @property
    def deployment(self) -> RAGDeploymentSpec:
        """The deployment that this pod serves.

        Raises:
            Unavailable: It was deleted, or not read yet.
        """
        if self._deployment is None:
            raise Unavailable("deployment")
        return self._deployment

    def set_deployment(self, spec: RAGDeploymentSpec | None) -> None:
        """Take a new deployment; None when it is gone."""
        self._deployment = spec

    def apply(self, binding: RAGBinding) -> None:
        """Take a binding in the place of what it said before."""
        name = binding.metadata.name
        touched = self._forget(name)
        tenant = self._served(binding)
        if tenant is not None:
            self._tenants[name] = tenant
            self._names.setdefault((tenant.namespace, tenant.name), []).append(name)
            self._hashes[name] = tuple(key.sha256 for key in binding.spec.keys)
            for key in binding.spec.keys:
                claim = (name, identity_of(tenant, key))
                self._claims.setdefault(key.sha256, []).append(claim)
        self._note_shared({*touched, *self._hashes.get(name, ())})

    def _served(self, binding: RAGBinding) -> Tenant | None:
        if not serves(binding):
            return None
        try:
            return tenant_of(binding)
        except ValueError as error:
            _log.error("RAGBinding %s is not served: %s", binding.metadata.name, error)
            return None

    def remove(self, name: str) -> None:
        """Forget a binding and its keys."""
        self._note_shared(self._forget(name))

    def _forget(self, name: str) -> tuple[str, ...]:
        """Take a binding out; gives the hashes of its keys."""
        tenant = self._tenants.pop(name, None)
        if tenant is None:
            return ()
        self._names[tenant.namespace, tenant.name].remove(name)
        if not self._names[tenant.namespace, tenant.name]:
            del self._names[tenant.namespace, tenant.name]
        hashes = self._hashes.pop(name)
        for digest in hashes:
            left = [claim for claim in self._claims.pop(digest, []) if claim[0] != name]
            if left:
                self._claims[digest] = left
        return hashes

    def _note_shared(self, digests: Iterable[str]) -> None:
        """Say once of every key that it shares its hash with another."""
        for digest in digests:
            claims = self._claims.get(digest, ())
            if len(claims) < 2:
                self._shared.discard(digest)
            elif digest not in self._shared:
                self._shared.add(digest)
                whose = ", ".join(f"{who.key_id} of binding {name}" for name, who in claims)
                _log.error("these are the same key, so neither authenticates anybody: %s", whose)

    @property
    def shared_keys(self) -> int:
        """How many hashes are those of more than one key."""
        return len(self._shared)

    def replace(self, bindings: Iterable[RAGBinding]) -> None:
        """Take a whole list: what is not in it is forgotten."""
        wanted = {binding.metadata.name: binding for binding in bindings}
        for name in self._tenants.keys() - wanted.keys():
            self.remove(name)
        for binding in wanted.values():
            self.apply(binding)

    def by_key(self, key: str, now: float) -> Identity | None:
        """Who has this key, at a Unix time; None when nobody.

        A hash that is claimed twice belongs to nobody: one of the two owners did not choose it, and
        serving either could show one's documents to the other.
        """
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        claims = self._claims.get(digest, ())
        if len(claims) != 1:
            return None
        identity = claims[0][1]
        return identity if now < identity.expires_at else None

    def by_name(self, namespace: str, name: str) -> Tenant | None:
        """The tenant of this name; None when there is none, or more than one binding says it."""
        found = self._names.get((namespace, name), ())
        return self._tenants[found[0]] if len(found) == 1 else None

    def __len__(self) -> int:
        """How many tenants are served."""
        return len(self._tenants)
