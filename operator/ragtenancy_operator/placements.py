"""Where tenants' documents are in one Weaviate: places are made, and emptied.

Three kinds of isolation. Shard: a Weaviate tenant of its own in the deployment's pair of
collections. Collection: a pair of its own, with the one tenant. Filter: the objects of one owner in
a tenant of the deployment's pair that is shared.
"""

from ragtenancy_api.binding import Placement
from ragtenancy_api.stores import Collection
from ragtenancy_api.wiring import OWNER
from ragtenancy_operator.weaviate import NoCollection, TenantBatches, Weaviate

Pair = tuple[str, str]


class Placements:
    """The places in one Weaviate. Tenants of a pair of collections are made in its batches."""

    def __init__(self, client: Weaviate) -> None:
        self._client = client
        self._batches: dict[Pair, TenantBatches] = {}
        self._made: set[Pair] = set()

    def batches(self, documents: str, chunks: str) -> TenantBatches:
        """The tenants of a pair of collections."""
        pair = (documents, chunks)
        if pair not in self._batches:
            self._batches[pair] = TenantBatches(self._client, pair)
        return self._batches[pair]

    def forget(self) -> None:
        """Ask Weaviate anew what there is: something is not there that should be."""
        self._made.clear()
        for batches in self._batches.values():
            batches.forget()

    async def lacks(self, placement: Placement) -> bool:
        """Whether anything of a place is missing.

        Raises:
            Retry: Weaviate does not answer, or the deployment's collections are not there.
        """
        try:
            return await self.batches(*_pair(placement)).lacks(placement.tenant)
        except NoCollection:
            if placement.isolation == "Collection":
                return True
            raise

    async def ensure(self, placement: Placement, collection: Collection) -> None:
        """Have a place.

        Args:
            placement: The place.
            collection: How a collection of the tenant's own is indexed.

        Raises:
            Retry: Weaviate does not answer, or the deployment's collections are not there yet.
            Refused: Weaviate does not take the collections.
        """
        pair = _pair(placement)
        batches = self.batches(*pair)
        if placement.isolation == "Collection" and pair not in self._made:
            if await self._client.ensure_collections(*pair, collection):
                batches.forget()
            self._made.add(pair)
        await batches.ensure(placement.tenant)

    async def empty(self, placement: Placement) -> None:
        """Leave nothing at a place; what is gone already is no error.

        Raises:
            Retry: Weaviate did not confirm it.
        """
        pair = _pair(placement)
        if placement.isolation == "Collection":
            for collection in pair:
                await self._client.delete_collection(collection)
            self._made.discard(pair)
            self._batches.pop(pair, None)
        elif placement.owner is not None:
            # documents first: chunks without one are found by nobody
            for collection in pair:
                await self._client.delete_objects(
                    collection, placement.tenant, OWNER, placement.owner
                )
        else:
            await self.batches(*pair).remove(placement.tenant)


def _pair(placement: Placement) -> Pair:
    return placement.documents, placement.chunks
