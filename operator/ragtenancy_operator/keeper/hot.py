"""Which shards are put to sleep. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from ragtenancy_api.wiring import USED_SECONDS

IN_USE_SECONDS: Final = 2.0 * USED_SECONDS
"""A tenant that was used within this time may be in the middle of a query: a pod that uses it all
the time notes so only once in USED_SECONDS."""


@dataclass(frozen=True, slots=True)
class Hot:
    """An active shard.

    Attributes:
        collections: Where it is.
        name: Weaviate tenant.
        used: When it was last used, in Unix seconds.
        idle_seconds: Unused for so long, it is put to sleep.
        pinned: Whether it has to stay awake for now.
    """

    collections: tuple[str, str]
    name: str
    used: float
    idle_seconds: float
    pinned: bool = False


@dataclass(frozen=True)
class Choice:
    """What is to be put to sleep.

    Attributes:
        sleep: These.
        active: So many stay awake.
        beyond: Those of them beyond the limit.
    """

    sleep: list[Hot]
    active: int
    beyond: int


def choose(shards: Collection[Hot], limit: int, now: float) -> Choice:
    """Put to sleep what is idle, and beyond the limit what was used least recently.

    What may be in use stays awake, also beyond the limit.
    """
    free = [s for s in shards if not s.pinned and now - s.used >= IN_USE_SECONDS]
    free.sort(key=lambda shard: shard.used)
    idle = [shard for shard in free if now - shard.used >= shard.idle_seconds]
    excess = max(0, len(shards) - len(idle) - limit)
    taken = set(idle)
    others = [shard for shard in free if shard not in taken][:excess]
    sleep = [*idle, *others]
    active = len(shards) - len(sleep)
    return Choice(sleep, active, max(0, active - limit))


@dataclass
class Unnoted:
    """Active shards of whose use nothing is noted: each counts as used when it was first seen so.

    A Redis that was emptied must not put every tenant to sleep at once.
    """

    since: dict[str, float] = field(default_factory=dict)

    def last_uses(
        self, uids: Iterable[str], noted: dict[str, float], now: float
    ) -> dict[str, float]:
        """When each was last used."""
        self.since = {uid: self.since.get(uid, now) for uid in set(uids) if uid not in noted}
        return self.since | noted
