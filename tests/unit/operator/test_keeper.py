"""What the keeper decides."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ragtenancy_operator.deployment import status as deployment_status
from ragtenancy_operator.keeper.bound import Bound, all_bound, bound
from ragtenancy_operator.keeper.hot import IN_USE_SECONDS, Hot, Unnoted, choose
from ragtenancy_operator.keeper.usage import Counted, merged, patch, recent_days, usage_of
from ragtenancy_operator.store import Key
from ragtenancy_operator.tenant import status as tenant_status
from ragtenancy_operator.weaviate import Share
from tests.unit.builders import TENANT_UID

NOW = 1_000_000.0
HOUR = 3600.0
COLLECTIONS = ("Documents_a", "Chunks_a")


def hot(name: str, unused: float, *, idle: float = 72 * HOUR, pinned: bool = False) -> Hot:
    return Hot(COLLECTIONS, name, NOW - unused, idle, pinned)


def asleep(*shards: Hot, limit: int = 100) -> tuple[list[str], int]:
    choice = choose(shards, limit, NOW)
    return [shard.name for shard in choice.sleep], choice.beyond


def test_what_was_not_used_for_long_is_put_to_sleep() -> None:
    assert asleep(hot("old", 2 * HOUR, idle=HOUR), hot("new", HOUR / 2, idle=HOUR)) == (["old"], 0)


def test_beyond_the_limit_the_least_recently_used_goes_first() -> None:
    shards = [hot("c", 300), hot("a", 900), hot("d", 200), hot("b", 600)]
    assert asleep(*shards, limit=2) == (["a", "b"], 0)


def test_what_idles_makes_room_before_anything_else_has_to() -> None:
    shards = [hot("idle", 300, idle=200), hot("older", 900), hot("young", 200)]
    assert asleep(*shards, limit=2) == (["idle"], 0)


def test_what_may_be_in_use_stays_awake_and_the_excess_is_told() -> None:
    shards = [hot("a", 1), hot("b", IN_USE_SECONDS - 1), hot("c", IN_USE_SECONDS)]
    assert asleep(*shards, limit=0) == (["c"], 2)


def test_no_idle_time_is_so_short_that_it_ends_a_query() -> None:
    assert asleep(hot("a", IN_USE_SECONDS - 1, idle=1)) == ([], 0)


def test_what_is_pinned_counts_and_stays() -> None:
    shards = [hot("shared", 90 * 24 * HOUR, pinned=True), hot("a", HOUR)]
    assert asleep(*shards, limit=1) == (["a"], 0)


def test_what_has_no_note_counts_as_used_when_it_was_first_seen_so() -> None:
    unnoted = Unnoted()
    assert unnoted.last_uses(["a", "b"], {"b": 5.0}, 10.0) == {"a": 10.0, "b": 5.0}
    assert unnoted.last_uses(["a", "b"], {"b": 5.0}, 20.0) == {"a": 10.0, "b": 5.0}
    # a Redis that was emptied: b is not as old as its lost note, nor as its first look
    assert unnoted.last_uses(["a", "b"], {}, 30.0) == {"a": 10.0, "b": 30.0}
    assert unnoted.last_uses([], {}, 40.0) == {}
    assert unnoted.last_uses(["a"], {}, 50.0) == {"a": 50.0}


def binding(**status: Any) -> dict[str, Any]:
    return {
        "kind": "RAGBinding",
        "metadata": {"name": TENANT_UID, "namespace": "rag"},
        "spec": {
            "tenantRef": {"namespace": "team", "name": "acme", "uid": TENANT_UID},
            "placement": {
                "documents": "Documents_a",
                "chunks": "Chunks_a",
                "tenant": "shared",
                "owner": TENANT_UID,
            },
            "settings": {"idle": {"deactivateAfter": "1h30m"}},
        },
        "status": status,
    }


def served(**status: Any) -> Bound:
    found = bound(binding(**status))
    assert found is not None
    return found


def test_a_binding_says_where_its_tenant_is() -> None:
    found = served(documents=3)
    assert found.tenant == Key("RAGTenant", "team", "acme")
    assert found.share == Share("shared", TENANT_UID)
    assert (found.collections, found.idle_seconds, found.documents) == (COLLECTIONS, 5400.0, 3)


@pytest.mark.parametrize("phase", ["Releasing", "Released"])
def test_a_binding_that_is_not_served_is_left_alone(phase: str) -> None:
    deleted = binding()
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert all_bound([binding(phase=phase), deleted]) == []


def test_a_share_of_a_shared_tenant_is_counted_by_its_owner() -> None:
    assert Share("a").arguments() == 'tenant:"a"'
    where = 'where:{path:["owner"],operator:Equal,valueText:"b"}'
    assert Share("shared", "b").arguments() == f'tenant:"shared",{where}'


LEDGER = {"requests": 3, "prompt": 20, "cached": 5, "completion": 7, "embedding": 2}


def test_a_day_of_the_ledger_as_the_status_has_it() -> None:
    assert recent_days(datetime(1970, 1, 3, 0, 0, 1, tzinfo=UTC)) == (2, 1)
    assert usage_of(2, LEDGER) == {
        "day": "1970-01-03",
        "requests": 3,
        "promptTokens": 20,
        "cachedTokens": 5,
        "completionTokens": 7,
        "embeddingTokens": 2,
    }


def test_a_checkpoint_never_lowers_a_day() -> None:
    held = usage_of(2, LEDGER)
    emptied = usage_of(2, {**dict.fromkeys(LEDGER, 0), "requests": 1, "prompt": 30})
    assert merged(held, emptied) == held | {"promptTokens": 30}
    assert merged(held, usage_of(1, dict.fromkeys(LEDGER, 99))) == held
    later = usage_of(3, dict.fromkeys(LEDGER, 1))
    assert merged(held, later) == later
    assert merged(None, held) == held


def test_only_what_changed_is_written() -> None:
    usage = usage_of(2, LEDGER)
    assert patch(served(), usage, Counted(4, "e", None)) == {"usage": usage, "documents": 4}
    assert patch(served(usage=usage, documents=4), usage, Counted(4, "e", None)) == {}
    assert patch(served(usage=usage, documents=4), None, None) == {}


def test_documents_found_again_end_the_loss_and_a_count_from_before_it_is_void() -> None:
    lost = served(documents=0, lostAt="2026-01-01T00:00:00Z")
    assert patch(lost, None, Counted(5, "e", None)) == {}
    assert patch(lost, None, Counted(0, "e", lost.lost_at)) == {}
    assert patch(lost, None, Counted(5, "e", lost.lost_at)) == {"documents": 5, "lostAt": None}


def test_what_was_lost_is_said_of_a_component_that_serves_again() -> None:
    assert deployment_status.remarks([binding()], None) == {}
    said = deployment_status.remarks([binding(lostAt="2026-01-01T00:00:00Z")], "2026-01-02")
    assert said["weaviate"].startswith("1 tenants lost their documents")
    assert "2026-01-02" in said["state"]


def test_a_tenant_whose_documents_are_lost_has_a_place_and_says_since_when() -> None:
    whole = tenant_status.placed(binding())
    lost = tenant_status.placed(binding(lostAt="2026-01-01T00:00:00Z"))
    assert (whole.true, whole.reason) == (True, "Placed")
    assert (lost.true, lost.reason) == (True, "DocumentsLost")
    assert "2026-01-01T00:00:00Z" in lost.message
