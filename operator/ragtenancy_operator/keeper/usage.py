"""What is written into a RAGBinding's status: usage and the number of documents. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from ragtenancy_api.tenant import Usage
from ragtenancy_operator.keeper.bound import Bound

_EPOCH: Final = date(1970, 1, 1)
_COUNTED: Final = (
    "requests",
    "promptTokens",
    "cachedTokens",
    "completionTokens",
    "embeddingTokens",
)


@dataclass(frozen=True, slots=True)
class Counted:
    """A count of a tenant's documents.

    Attributes:
        documents: The count.
        epoch: The corpus that was counted.
        lost_at: The binding's lostAt at that time: a loss that was found since makes it void.
    """

    documents: int
    epoch: str
    lost_at: str | None


def recent_days(now: datetime) -> tuple[int, int]:
    """Today and yesterday (UTC), in days since 1970: late requests still count for yesterday."""
    today = (now.astimezone(UTC).date() - _EPOCH).days
    return today, today - 1


def usage_of(day: int, ledger: dict[str, int]) -> dict[str, Any]:
    """One day of the ledger, as a status has it."""
    return Usage(
        day=(_EPOCH + timedelta(days=day)).isoformat(),
        requests=ledger["requests"],
        prompt_tokens=ledger["prompt"],
        cached_tokens=ledger["cached"],
        completion_tokens=ledger["completion"],
        embedding_tokens=ledger["embedding"],
    ).wire()


def merged(held: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """The new checkpoint: the later day, and of one day the higher numbers.

    A Redis that lost its ledger must not take back what was counted.
    """
    if held is None or found["day"] > held["day"]:
        return found
    if found["day"] < held["day"]:
        return held
    return held | {name: max(found.get(name, 0), held.get(name, 0)) for name in _COUNTED}


def patch(bound: Bound, found: dict[str, Any] | None, counted: Counted | None) -> dict[str, Any]:
    """What of a binding's status has changed; empty when nothing has."""
    changes: dict[str, Any] = {}
    if found is not None and (usage := merged(bound.usage, found)) != bound.usage:
        changes["usage"] = usage
    if counted is not None and counted.lost_at == bound.lost_at:
        if counted.documents != bound.documents:
            changes["documents"] = counted.documents
        if counted.documents and bound.lost_at is not None:
            changes["lostAt"] = None
    return changes
