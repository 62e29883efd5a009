"""What is said and noted when tenants' documents are gone from Weaviate."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ragtenancy_api.binding import Placement
from ragtenancy_api.wiring import CREDENTIAL_STATE_REDIS, SHARED_TENANT
from ragtenancy_operator import stores
from ragtenancy_operator.children.base import Context
from ragtenancy_operator.services import Services
from ragtenancy_operator.store import Key, Manifest, uid_of


def sharers(placement: Placement, own: Manifest, bindings: Sequence[Manifest]) -> list[Manifest]:
    """The bindings of all tenants that lose their documents with a placement's Weaviate tenant."""
    if placement.tenant != SHARED_TENANT:
        return [own]
    return [each for each in bindings if each["spec"]["placement"]["tenant"] == SHARED_TENANT]


async def documents_lost(
    services: Services, context: Context, bindings: Sequence[Manifest]
) -> None:
    """Note and say that what these tenants had loaded is lost. Those that had nothing lost nothing.

    To be called before the place is made again: a process that ends between the two finds it
    missing once more, and one that ends before both has changed nothing.

    Raises:
        Retry: The API server or the state Redis does not answer.
    """
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
