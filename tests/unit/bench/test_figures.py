"""The table of the bench."""

from __future__ import annotations

import pytest

from bench.figures import cell, medians, number, table


@pytest.mark.parametrize(
    ("value", "shown"), [(0.7123, "0.71"), (8.444, "8.44"), (12.76, "12.8"), (231.4, "231"), (500500.0, "500,500")]
)
def test_a_number_has_no_more_digits_than_it_deserves(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_cell_shows_the_median_and_the_spread() -> None:
    assert cell([9.0, 8.0, 12.0]) == "9.00 (8.00 to 12.0)"
    assert cell([9.0]) == "9.00"
    assert cell([]) == "–"


def test_the_table_has_a_row_per_peer_and_only_columns_that_were_measured() -> None:
    lines = table({"ws": {"room_us": [9.8]}, "floor": {}}).splitlines()
    assert lines == ["| | change in a room, µs/watcher |", "|---|---|", "| ws | 9.80 |", "| floor | – |"]


def test_the_middle_of_the_rounds_is_kept() -> None:
    assert medians({"ws": {"room_us": [1.0, 30.0, 2.0], "watch_us": []}}) == {"ws": {"room_us": 2.0}}
