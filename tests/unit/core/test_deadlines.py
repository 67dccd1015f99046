"""Deadlines that can be moved and withdrawn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhere.core.deadlines import Deadlines


def test_the_earliest_comes_first_and_each_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, at in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        deadlines.set(key, at)
    assert deadlines.next() == 1.0 and len(deadlines) == 3 and "a" in deadlines
    assert list(deadlines.due(2.0)) == ["a", "b"]
    assert list(deadlines.due(2.0)) == [] and "a" not in deadlines
    assert deadlines.next() == 3.0


def test_a_deadline_that_is_moved_or_withdrawn_does_not_fire_at_its_old_time() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("later", 1.0)
    deadlines.set("later", 5.0)
    deadlines.set("sooner", 9.0)
    deadlines.set("sooner", 2.0)
    deadlines.set("never", 1.0)
    deadlines.set("never", None)
    deadlines.set("unknown", None)
    assert list(deadlines.due(4.0)) == ["sooner"]
    assert deadlines.get("later") == 5.0 and deadlines.get("never") is None
    assert list(deadlines.due(10.0)) == ["later"]
    assert deadlines.next() is None


def test_setting_the_same_deadline_again_costs_nothing() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for _ in range(100):
        deadlines.set("a", 1.0)
    assert len(deadlines._heap) == 1


def test_equal_deadlines_fire_in_the_order_of_their_keys() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key in ("c", "a", "d", "b"):
        deadlines.set(key, 1.0)
    assert list(deadlines.due(1.0)) == ["a", "b", "c", "d"]


def test_a_limit_leaves_the_rest_for_the_next_call() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for n in range(5):
        deadlines.set(str(n), float(n))
    assert list(deadlines.due(9.0, 2)) == ["0", "1"]
    assert list(deadlines.due(9.0, 0)) == []
    assert list(deadlines.due(9.0)) == ["2", "3", "4"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9).map(float))),
            st.integers(0, 9).map(float),
        ),
        max_size=40,
    )
)
def test_deadlines_behave_like_a_plain_dictionary(steps: list[tuple[str, float | None] | float]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    plain: dict[str, float] = {}
    for step in steps:
        if isinstance(step, float):
            due = list(deadlines.due(step))
            assert sorted(due) == sorted(key for key, at in plain.items() if at <= step)
            assert [plain[key] for key in due] == sorted(plain[key] for key in due)
            plain = {key: at for key, at in plain.items() if at > step}
        else:
            key, at = step
            deadlines.set(key, at)
            plain.pop(key, None)
            if at is not None:
                plain[key] = at
        assert deadlines.next() == min(plain.values(), default=None)
        assert len(deadlines) == len(plain)
