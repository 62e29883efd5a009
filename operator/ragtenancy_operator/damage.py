"""What is said and noted when tenants' documents are gone from Weaviate."""

from datetime import UTC, datetime

from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.wiring import CREDENTIAL_STATE_REDIS, SHARED_TENANT
from ragtenancy_operator import stores
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.placements import Placements
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key, Manifest, uid_of


async def note(
    services: Services, context: Context, placements: Placements, binding: RAGBinding
) -> None:
    """Note and say that a tenant's documents are lost, if its place in Weaviate is not there.

    To be called before the place is made again: a process that ends between the two finds it
    missing once more. A tenant that had no documents lost nothing.

    Args:
        services: The operator's.
        context: The tenant's deployment.
        placements: The places in the deployment's Weaviate.
        binding: Its binding.

    Raises:
        Retry: Weaviate, the API server or the state Redis does not answer.
    """
    place = binding.spec.placement.tenant
    if not await placements.lacks(binding.spec.placement):
        return
    if place != SHARED_TENANT:
        own = services.store.get("RAGBinding", context.namespace, binding.metadata.name)
        await _lost(services, context, [own] if own else [])
        return
    # one at a time: all who share a place find it missing at once, and each notes it for all
    async with services.findings.noting_loss:
        every = services.store.of_deployment(context.namespace, context.name, "RAGBinding")
        sharing = [each for each in every if each["spec"]["placement"]["tenant"] == place]
        await _lost(services, context, sharing)


async def _lost(services: Services, context: Context, bindings: list[Manifest]) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lost = [each for each in bindings if (each.get("status") or {}).get("documents")]
    if not lost:
        return
    url = await services.connections.redis_url(context, CREDENTIAL_STATE_REDIS)
    async with stores.state(url) as state:
        # an answer from the cache would still speak of what is gone
        await state.renew_epochs([each["spec"]["tenantRef"]["uid"] for each in lost])
    for binding in lost:
        metadata, reference = binding["metadata"], binding["spec"]["tenantRef"]
        patch = {"status": {"documents": 0, "lostAt": now}}
        patched = await services.kube.merge(
            "RAGBinding", metadata["namespace"], metadata["name"], patch, "status"
        )
        services.store.put(patched)
        tenant = services.store.get("RAGTenant", reference["namespace"], reference["name"])
        if tenant is not None and uid_of(tenant) == reference["uid"]:
            count = binding["status"]["documents"]
            await services.events.post(
                tenant,
                "Warning",
                "DocumentsLost",
                f"{count} documents were found lost in Weaviate at {now}; load them again",
            )
    services.queue.wake(
        Key("RAGDeployment", context.namespace, context.name),
        after=1.0,
        cause="tenants lost their documents",
    )
