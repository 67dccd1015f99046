"""The bench of workers: who listens, and what is said of what was measured."""

from __future__ import annotations

from bench.workers import Turn, listeners, table

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0100007F:1CE8 0100007F:A3C2 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 0100007F:1CE9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
"""


def turn(workers: int, connects: float, full: float = 0.98, load: float = 0.4) -> Turn:
    return Turn(workers, connects, connects * 10, full, full, load, 0.2)


def test_sockets_that_listen_on_the_port_are_counted_and_no_others() -> None:
    assert listeners(7400, TCP) == 2
    assert listeners(7401, TCP) == 1
    assert listeners(80, TCP) == 0


def test_the_gain_of_more_workers_is_that_of_the_medians() -> None:
    lines = table([turn(2, 380), turn(1, 200), turn(2, 400), turn(1, 190), turn(2, 600), turn(1, 210)]).splitlines()
    assert lines[2].startswith("| 1 | 200 | 2,000 | 98% or more")
    assert lines[3].startswith("| 2 | 400 (× 2.00) | 4,000 (× 2.00) |")


def test_a_turn_in_which_somebody_else_set_the_pace_is_not_sound() -> None:
    assert turn(1, 200).sound
    assert not turn(1, 200, full=0.5).sound
    assert not turn(1, 200, load=0.95).sound
