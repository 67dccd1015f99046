"""Ids that nobody has had."""

from __future__ import annotations

import re

import pytest

from stillhere.server.fresh import AT_ONCE, FreshIds


@pytest.mark.parametrize(("size", "letters"), [(9, 12), (12, 16)])
def test_ids_are_as_long_as_their_randomness_asks_for_and_safe_in_a_url(size: int, letters: int) -> None:
    ids = FreshIds(size)
    for _ in range(3 * AT_ONCE):
        assert re.fullmatch(rf"[A-Za-z0-9_-]{{{letters}}}", ids.take())


def test_no_id_is_given_twice() -> None:
    one, other = FreshIds(12), FreshIds(12)
    assert len({ids.take() for _ in range(1000) for ids in (one, other)}) == 2000


def test_a_size_that_is_no_whole_number_of_letters_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of three"):
        FreshIds(16)
