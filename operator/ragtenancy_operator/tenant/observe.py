"""What one pass over a RAGTenant sees, gathered once."""

from dataclasses import dataclass

from pydantic import ValidationError

from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.tenant import RAGTenant
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.deployment.observe import context_of
from ragtenancy_operator.errors import invalid_spec
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Manifest, labels_of


@dataclass(frozen=True)
class Observed:
    """A RAGTenant and what there is of it.

    Attributes:
        raw: The object as the API server holds it.
        tenant: The same as a model.
        deployment: The RAGDeployment it points to; None when it is not there.
        namespace_labels: Labels of the tenant's namespace.
        binding: Its binding, if there is one.
        secrets: The Secrets of its keys.
        origin: The binding that its restoreFrom names, if there is one. Whose it is, is not known.
    """

    raw: Manifest
    tenant: RAGTenant
    deployment: Context | None
    namespace_labels: dict[str, str]
    binding: RAGBinding | None
    secrets: list[Manifest]
    origin: RAGBinding | None = None


def parse(raw: Manifest) -> RAGTenant:
    """The object as a model. The status is not read: its owner could have written it.

    Raises:
        Refused: It does not fit this version's schema.
    """
    try:
        return RAGTenant.model_validate({**raw, "status": {}})
    except ValidationError as error:
        raise invalid_spec(error) from error


def observe(services: Services, raw: Manifest) -> Observed:
    """Gather what the store knows of a RAGTenant."""
    store, tenant = services.store, parse(raw)
    reference = tenant.spec.deployment_ref
    deployment = store.get("RAGDeployment", reference.namespace, reference.name)
    namespace = store.get("Namespace", "", tenant.metadata.namespace)
    binding = store.get("RAGBinding", reference.namespace, tenant.metadata.uid)
    restore = tenant.spec.restore_from
    origin = store.get("RAGBinding", reference.namespace, restore.binding) if restore else None
    return Observed(
        raw,
        tenant,
        deployment=context_of(services, deployment) if deployment else None,
        namespace_labels=labels_of(namespace) if namespace else {},
        binding=RAGBinding.model_validate(binding) if binding else None,
        secrets=list(store.of_tenant(tenant.metadata.uid, "Secret")),
        origin=RAGBinding.model_validate(origin) if origin else None,
    )
