"""What one pass over a RAGDeployment sees, gathered once."""

from dataclasses import dataclass, field

from pydantic import ValidationError

from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_operator.children.base import Context, digest
from ragtenancy_operator.deployment import plan
from ragtenancy_operator.errors import Refused, invalid_spec
from ragtenancy_operator.names import LABEL_COMPONENT
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Manifest, labels_of


@dataclass
class Observed:
    """A RAGDeployment and what there is of it.

    Attributes:
        raw: The object as the API server holds it.
        context: The same for builders, with images and the hashes of credentials.
        failures: What went wrong in this pass, by component.
        tenants: RAGTenants that point to it.
        bindings: RAGBindings in its name, also of tenants that are gone.
        notes: What a person has to mend although the component serves, by component: it sets
            Stalled and leaves Ready as it is.
    """

    raw: Manifest
    context: Context
    tenants: list[Manifest]
    bindings: list[Manifest]
    failures: dict[str, Exception] = field(default_factory=dict)
    notes: dict[str, Refused] = field(default_factory=dict)


def parse(raw: Manifest) -> RAGDeployment:
    """The object as a model.

    Raises:
        Refused: It does not fit this version's schema.
    """
    try:
        return RAGDeployment.model_validate(raw)
    except ValidationError as error:
        raise invalid_spec(error) from error


def credentials(services: Services, namespace: str, name: str) -> dict[str, str]:
    """Hash of the credentials that each component's pods are started with."""
    hashes: dict[str, str] = {}
    for secret in services.store.of_deployment(namespace, name, "Secret"):
        if component := labels_of(secret).get(LABEL_COMPONENT):
            hashes[component] = digest(secret.get("data"))
    # the API is given all of them
    return {**hashes, "api": digest(sorted(hashes.items()))} if hashes else {}


def context_of(services: Services, raw: Manifest) -> Context:
    """The builders' context of a RAGDeployment."""
    deployment = parse(raw)
    metadata = deployment.metadata
    return Context(
        deployment,
        plan.images(deployment, services.settings.images),
        credentials(services, metadata.namespace, metadata.name),
    )


def observe(services: Services, raw: Manifest) -> Observed:
    """Gather what the store knows of a RAGDeployment."""
    context = context_of(services, raw)
    return Observed(
        raw,
        context,
        tenants=list(services.store.tenants_of(context.namespace, context.name)),
        bindings=list(services.store.of_deployment(context.namespace, context.name, "RAGBinding")),
    )
