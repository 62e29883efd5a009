"""Scalar types of the API."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtenancy_api.meta import parse_duration


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999))
def test_a_duration_reads_back(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s"
    assert parse_duration(text) == timedelta(hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize("text", ["", "1", "h", "1d", "1m1h", "-1h", "1.5h", "1h 5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)
