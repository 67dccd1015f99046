"""The generated page, the soak's judgement of memory, and the fit of the curves."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.growth import exponent, middle, sentence
from bench.report import AIMS, Refused, by_ws, main_table, render, write_report
from bench.soak import Sample, growth, judge, rise, slope
from bench.watching import Departures, arrivals, percentile

FIXTURE = Path(__file__).parent / "results.json"


def documents() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FIXTURE.read_text())
    return found


def test_the_page_says_which_aims_are_met_and_by_how_much_the_others_are_missed() -> None:
    page, _ = render(documents())
    assert "| **aim** | ≤ 8 | ≤ 200 | ≤ 7.5 | ≤ 0.8 | ≤ 0.12 / ≤ 5,000 |" in page
    assert (
        "| **Stillhere, memory: aim** | met | **missed** by 50% | **missed** by 20% | met | met / not measured |"
        in page
    )


def test_aims_of_cpu_are_also_given_as_multiples_of_ws_and_those_of_memory_are_not() -> None:
    ws = {"connect_join_us": [348.0], "room_us": [9.8], "burst_us": [8.8], "storm_s": [7.8]}
    ours = {"tracked_kib": [7.2], "connect_join_us": [390.0], "room_us": [7.6], "burst_us": [0.2], "storm_s": [0.2]}
    scaled = by_ws({"ws (Node)": ws})
    assert scaled["connect_join_us"] == 400
    assert scaled["storm_s"] == pytest.approx(0.24)
    assert scaled["tracked_kib"] == AIMS["tracked_kib"]
    lines = main_table({"ws (Node)": ws, "Stillhere": {**ours, "storm_frames": [900.0]}}).splitlines()
    assert lines[-1] == "| **Stillhere: aim by `ws`** | met | met | **missed** by 1% | met | met / met |"
    assert by_ws({"Stillhere": ours}) == {}


def test_the_page_shows_medians_with_their_spread_and_the_machine() -> None:
    page, _ = render(documents())
    assert "| ws (Node) | 11.0 (10.0 to 12.0) | 270 |" in page
    assert "AMD EPYC, 2 CPUs" in page
    assert "Fewer than three rounds" not in page


def test_a_run_of_one_round_is_not_sold_as_a_measurement() -> None:
    bench = documents()[0]
    for figures in bench["values"].values():
        for key, values in figures.items():
            figures[key] = values[:1]
    assert "Fewer than three rounds" in render([bench])[0]


def test_every_picture_of_the_page_exists_and_is_well_formed(tmp_path: Path) -> None:
    for number, document in enumerate(documents()):
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    assert write_report(sorted(tmp_path.glob("*.json")), tmp_path) == 0
    page = (tmp_path / "benchmarks.md").read_text()
    pictures = sorted((tmp_path / "images").glob("*.svg"))
    assert len(pictures) == page.count("](images/") == 6
    for picture in pictures:
        ElementTree.fromstring(picture.read_text())
        assert f"](images/{picture.name})" in page


def test_results_of_two_machines_or_of_two_sizes_are_never_mixed() -> None:
    bench = documents()[0]
    other, larger = copy.deepcopy(bench), copy.deepcopy(bench)
    other["machine"]["cpu"] = "another"
    larger["plan"]["watchers"] = 5000
    with pytest.raises(Refused, match="machines"):
        render([bench, other])
    with pytest.raises(Refused, match="sizes"):
        render([bench, larger])


def test_what_was_left_after_a_soak_is_on_the_page() -> None:
    found = documents()
    found[2]["faults"] = ["3 rooms are left"]
    assert "- 3 rooms are left" in render(found)[0]


def test_a_power_is_found_again() -> None:
    assert exponent([(n, 3 * n**1.5) for n in (1, 10, 100)]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two points"):
        exponent([(1, 1)])


def test_a_sentence_says_where_a_cost_is_not_in_proportion() -> None:
    assert sentence("CPU", "members", [(n, 2.0 * n) for n in (10, 100, 1000)]).endswith("in proportion throughout.")
    bent = sentence("CPU", "members", [(10, 1), (100, 10), (1000, 1000)])
    assert bent.endswith("it is not in proportion from 100 to 1,000 (2.00).")


def test_the_middle_of_the_rounds_is_taken_at_each_size() -> None:
    assert middle([[{"n": 1, "a": 3}], [{"n": 1, "a": 9}], [{"n": 1, "a": 4}]]) == [{"n": 1, "a": 4}]


def sample(at: float, kib: float, false: int = 0) -> Sample:
    return Sample(at, kib, 10, 10, 0, 1, 0, 10, false, 0)


def test_memory_that_grows_without_end_is_a_fault_and_a_single_odd_sample_is_none() -> None:
    steady = [sample(at * 10.0, 100_000) for at in range(100)]
    steady[80] = sample(800.0, 200_000)
    assert growth(steady) == 0
    assert judge(steady) == []
    assert "memory grew" in judge([sample(at * 10.0, 100_000 + at * 200) for at in range(100)])[0]
    slowly = [sample(at * 10.0, 100_000 + at * 20) for at in range(100)]
    assert ["grew by" in text for text in judge(slowly)] == [True], "7 % an hour, and 0.8 % in this time"
    assert "1 users" in judge([sample(0.0, 1, false=1)])[0]
    assert slope([(0, 0), (1, 2), (2, 4)]) == 2


@pytest.mark.parametrize(("step", "told"), [(4_000, False), (8_000, True)])
def test_one_step_is_no_growth_for_ever_and_yet_has_a_bound(step: int, told: bool) -> None:
    stepped = [sample(at * 10.0, 100_000 + step * (at > 70)) for at in range(100)]
    assert growth(stepped) == 0
    assert rise(stepped) == pytest.approx(step / 100_000)
    assert ["rose by" in text for text in judge(stepped)] == [True] * told


def test_steps_that_come_again_and_again_are_found_though_most_stretches_are_flat() -> None:
    stepped = [sample(at * 10.0, 100_000 + 4_000 * (at // 20)) for at in range(100)]
    assert any("rose by" in text for text in judge(stepped))


def test_arrivals_are_fixed_beforehand_and_percentiles_are_values_that_occurred() -> None:
    assert arrivals(10, 5, "seed") == arrivals(10, 5, "seed")
    assert len(arrivals(10, 5, "seed")) == 50
    assert percentile([3, 1, 2, 4], 0.5) == 2
    assert percentile([3, 1, 2, 4], 0.99) == 4


def test_only_those_who_said_goodbye_may_be_shown_as_gone() -> None:
    seen = Departures()
    seen.parted.add("ada")
    seen.append(b'{"type":"room","room":"r","leaves":[{"user":"ada"},{"user":"bob"}]}')
    seen.append(b'{"type":"presence","changes":[{"user":"bob","status":"offline"},{"user":"eve","status":"online"}]}')
    assert seen.wrong == 2
