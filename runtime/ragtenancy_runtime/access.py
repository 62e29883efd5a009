"""Who a request comes from, and whether they may do what it asks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ragtenancy_api.settings import Role
from ragtenancy_runtime.errors import Forbidden, Unauthenticated
from ragtenancy_runtime.ports import TokenVerifier
from ragtenancy_runtime.tenants import Directory, Identity

_MAY: Final[dict[Role, frozenset[Role]]] = {
    "Reader": frozenset({"Reader"}),
    "Writer": frozenset({"Reader", "Writer"}),
}
"""What each role covers."""
BY_TOKEN: Final = "jwt"  # noqa: S105 - a name
"""What logs call the key of who came with a token."""


def is_token(credential: str) -> bool:
    """Whether a credential has the form of a JWT: three segments."""
    return credential.count(".") == 2


@dataclass(frozen=True, slots=True)
class Access:
    """Finds out who has a key or a token, at the time of the request."""

    directory: Directory
    tokens: TokenVerifier
    now: Callable[[], float] = time.time

    async def identify(self, credential: str) -> Identity:
        """Who sent this credential. Whatever is wrong with it, the answer is the same.

        Raises:
            Unauthenticated: No tenant has it.
            Unavailable: The deployment is not there, or the issuer of tokens never was.
        """
        auth = self.directory.deployment.api.auth
        if auth.api_keys.enabled:
            identity = self.directory.by_key(credential, self.now())
            if identity is not None:
                return identity
        if auth.jwt is not None and is_token(credential):
            claim = await self.tokens.tenant_claim(auth.jwt, credential)
            namespace, _, name = claim.partition("/")
            tenant = self.directory.by_name(namespace, name)
            if tenant is not None:
                return Identity(tenant, BY_TOKEN, auth.jwt.role)
        raise Unauthenticated


def permit(identity: Identity, role: Role) -> None:
    """Let pass who has a role and is not suspended.

    Raises:
        Forbidden: They may not.
    """
    if identity.tenant.suspended:
        raise Forbidden("This tenant is suspended.", code="tenant_suspended")
    if role not in _MAY[identity.role]:
        raise Forbidden(
            f"You have insufficient permissions for this operation: it needs the role {role}, and "
            f"yours is {identity.role}.",
            code="permission_denied",
        )
