"""What a store is told of the settings."""

from __future__ import annotations

from typing import Any

import pytest

from stillhere.core.leases import Limits
from stillhere.server.assembly import make_store
from stillhere.server.settings import load_settings
from stillhere.store.memory import MemoryStore

SECRET = {"auth.secret": "a secret of forty bytes, for tests only.."}


@pytest.mark.parametrize(
    ("windows", "seconds"),
    [({}, Limits().late_news), ({"grace.abnormal": 290_000}, 290.0), ({"grace.abnormal": 5_000}, Limits().late_news)],
)
def test_late_news_of_an_end_is_heard_for_as_long_as_the_longest_window(
    windows: dict[str, Any], seconds: float
) -> None:
    settings = load_settings(None, {}, {**SECRET, "store.url": "memory:", **windows})
    store = make_store(settings)
    assert isinstance(store, MemoryStore)
    assert store.limits.late_news == seconds
