"""When a child counts as being as it should."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtenancy_operator.apply import contains, fingerprint, ours, stamped
from tests.unit.builders import obj

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(json)
def test_everything_contains_itself(value: Any) -> None:
    assert contains(value, value)


@pytest.mark.parametrize(
    ("observed", "wanted", "same"),
    [
        ({"a": 1, "defaulted": True}, {"a": 1}, True),
        ({"a": 2}, {"a": 1}, False),
        ({}, {"a": 1}, False),
        ([{"name": "x", "v": 1}, {"name": "injected"}], [{"name": "x", "v": 1}], True),
        ([{"name": "x", "v": 2}], [{"name": "x", "v": 1}], False),
        (
            [{"name": "x", "at": 1}, {"name": "x", "at": 2}],
            [{"name": "x", "at": 1}, {"name": "x", "at": 2}],
            True,
        ),
        (
            [{"name": "x", "at": 1}, {"name": "x", "at": 3}],
            [{"name": "x", "at": 1}, {"name": "x", "at": 2}],
            False,
        ),
        (["a", "b"], ["a"], False),
        (["a"], [], False),
        (None, [], True),
        (None, {}, True),
        ({}, {"left out by the server": ""}, True),
        ({}, {"a": "x"}, False),
        ({"limits": {"cpu": "1", "gpu": "1"}}, {"limits": {"cpu": "1000m", "gpu": 1}}, True),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1500m"}}, False),
        ({"requests": {}}, {"requests": {"cpu": "1"}}, False),
    ],
)
def test_contains(observed: Any, wanted: Any, same: bool) -> None:
    assert contains(observed, wanted) is same


def test_an_edit_by_hand_changes_the_fingerprint_and_a_status_does_not() -> None:
    before = obj("Service", "a", spec={"port": 1})
    assert fingerprint(before) == fingerprint({**before, "status": {"x": 1}})
    assert fingerprint(before) != fingerprint({**before, "spec": {"port": 2}})


def test_the_stamp_tells_a_removed_field() -> None:
    before, after = obj("Service", "a", spec={"x": 1, "y": 2}), obj("Service", "a", spec={"x": 1})
    stamps = [stamped(o)["metadata"]["annotations"] for o in (before, after)]
    assert stamps[0] != stamps[1]


def test_an_object_of_another_owner_is_not_ours() -> None:
    mine = obj("Service", "a")
    mine["metadata"]["ownerReferences"] = [{"uid": "me"}]
    theirs = obj("Service", "a")
    assert not ours(theirs, mine)
    theirs["metadata"]["ownerReferences"] = [{"uid": "you"}]
    assert not ours(theirs, mine)
    assert ours(mine, mine)
