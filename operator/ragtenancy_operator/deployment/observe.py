"""What one pass over a RAGDeployment sees, gathered once."""

from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_operator.children import external, network_policy
from ragtenancy_operator.children.base import Context, digest
from ragtenancy_operator.connections import Held
from ragtenancy_operator.deployment import plan
from ragtenancy_operator.errors import Refused, invalid_spec
from ragtenancy_operator.names import ANNOTATION_CREDENTIALS, LABEL_COMPONENT, Component
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
        held: Credentials and CAs as the API server has them, by file.
        resizing: Volumes that are growing, by component: it serves meanwhile.
        downloading: Whether a model is on its way, and its pod to be asked again.
    """

    raw: Manifest
    context: Context
    tenants: list[Manifest]
    bindings: list[Manifest]
    failures: dict[str, Exception] = field(default_factory=dict)
    notes: dict[str, Refused] = field(default_factory=dict)
    held: Held = field(default_factory=dict)
    resizing: dict[str, str] = field(default_factory=dict)
    downloading: bool = False


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
        operator_namespace=services.settings.namespace,
    )


def with_credentials(context: Context, held: Held, services: Services) -> Context:
    """The context with what people's own Secrets hold: API pods roll when it changes.

    While one of those Secrets is missing or malformed the pods stay with what they have. The hash
    cannot be searched for a weak password: the deployment's salt is in it.
    """
    theirs = external.sources(context)
    if not theirs:
        return context
    values = {entry: value for entry in theirs if isinstance(value := held.get(entry), str)}
    mark = digest([context.credentials.get(Component.API), values])
    if len(values) < len(theirs):
        pods = services.store.get("Deployment", context.namespace, context.child(Component.API))
        template = pods["spec"]["template"]["metadata"] if pods else {}
        mark = (template.get("annotations") or {}).get(ANNOTATION_CREDENTIALS, "")
    return replace(context, credentials={**context.credentials, Component.API: mark})


def redis_ports(held: Held) -> dict[str, int]:
    """Ports of the Redis that the URLs in their Secrets lead to, by component."""
    urls = {c: held.get(external.credential(c)) for c in (Component.STATE, Component.CACHE)}
    ports = {c: network_policy.port_of(url) for c, url in urls.items() if isinstance(url, str)}
    return {component: port for component, port in ports.items() if port is not None}


def observe(services: Services, raw: Manifest, held: Held | None = None) -> Observed:
    """Gather what the store knows of a RAGDeployment, and what was read of its Secrets."""
    context = context_of(services, raw)
    if held is not None:
        context = replace(with_credentials(context, held, services), redis_ports=redis_ports(held))
    return Observed(
        raw,
        context,
        tenants=list(services.store.tenants_of(context.namespace, context.name)),
        bindings=list(services.store.of_deployment(context.namespace, context.name, "RAGBinding")),
        held=held or {},
    )
