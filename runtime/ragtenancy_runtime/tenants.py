"""The directory of tenants: which key belongs to whom, and what holds for them.

It holds what the last events said and nothing else; a source (a Kubernetes watch or a directory of
files) feeds it. Every change is one synchronous call, so a request sees it whole or not at all.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from ragtenancy_api.binding import Placement, RAGBinding, Settings
from ragtenancy_api.deployment import RAGDeploymentSpec
from ragtenancy_runtime.errors import Unauthenticated, Unavailable


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant, as its binding says."""

    uid: str
    namespace: str
    name: str
    placement: Placement
    settings: Settings
    revision: str
    """Digest of the settings: answers made under others are not served from the cache."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sent a request: a tenant, by one of its keys."""

    tenant: Tenant
    key_id: str


def tenant_of(binding: RAGBinding) -> Tenant:
    """The tenant that a binding describes."""
    ref = binding.spec.tenant_ref
    settings = binding.spec.settings
    canonical = json.dumps(settings.wire(), sort_keys=True).encode()
    return Tenant(
        uid=ref.uid,
        namespace=ref.namespace,
        name=ref.name,
        placement=binding.spec.placement,
        settings=settings,
        revision=hashlib.sha256(canonical).hexdigest(),
    )


def authenticates(binding: RAGBinding) -> bool:
    """Whether a binding's keys count: not while its tenant is being removed."""
    return binding.metadata.deletion_timestamp is None and binding.status.phase != "Releasing"


@dataclass(slots=True)
class Directory:
    """Every tenant of the deployment, by key hash, and the deployment itself."""

    _deployment: RAGDeploymentSpec | None = None
    _bindings: dict[str, tuple[Identity, ...]] = field(default_factory=dict)
    _hashes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _claims: dict[str, list[tuple[str, Identity]]] = field(default_factory=dict)

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
        self.remove(name)
        if not authenticates(binding):
            return
        tenant = tenant_of(binding)
        identities = tuple(Identity(tenant, key.id) for key in binding.spec.keys)
        hashes = tuple(key.sha256 for key in binding.spec.keys)
        for digest, identity in zip(hashes, identities, strict=True):
            self._claims.setdefault(digest, []).append((name, identity))
        self._bindings[name] = identities
        self._hashes[name] = hashes

    def remove(self, name: str) -> None:
        """Forget a binding and its keys."""
        for digest in self._hashes.pop(name, ()):
            left = [claim for claim in self._claims.pop(digest, []) if claim[0] != name]
            if left:
                self._claims[digest] = left
        self._bindings.pop(name, None)

    def replace(self, bindings: Iterable[RAGBinding]) -> None:
        """Take a whole list: what is not in it is forgotten."""
        wanted = {binding.metadata.name: binding for binding in bindings}
        for name in self._bindings.keys() - wanted.keys():
            self.remove(name)
        for binding in wanted.values():
            self.apply(binding)

    def authenticate(self, key: str) -> Identity:
        """Who has this key.

        A hash that is claimed twice belongs to nobody: one of the two owners did not choose it, and
        serving either could show one's documents to the other.

        Raises:
            Unauthenticated: Nobody has it.
        """
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        claims = self._claims.get(digest, ())
        if len(claims) != 1:
            raise Unauthenticated
        return claims[0][1]

    def __len__(self) -> int:
        """How many tenants can authenticate."""
        return len(self._bindings)
