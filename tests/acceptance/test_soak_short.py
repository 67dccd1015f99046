"""A short soak: hundreds of people come and go, all leave, and nothing is left of them.

`make soak` is the same for half an hour with thousands.
"""

from __future__ import annotations

import pytest

from bench.soak import TABLES, SoakPlan, soak
from bench.stand import Crowd
from tests.acceptance.server import ServerProcess

PLAN = SoakPlan(seconds=12.0, connections=300, rate=80.0, every=2.0, patience=60.0)

WINDOW_MS = 4000
"""Of every cause, so that the end need not be awaited for fifteen seconds. Away is nobody for more than half a one."""

SETTINGS: dict[str, object] = {
    **{f"grace.{cause}": WINDOW_MS for cause in ("client_close", "going_away", "abnormal", "protocol_error")},
    "limits.connections_per_ip": 3 * PLAN.connections,
}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", ["memory:", "sqlite:///soak.db"])
async def test_when_all_have_left_no_table_and_no_descriptor_remembers_them(store: str) -> None:
    with ServerProcess({**SETTINGS, "store.url": store}) as server:
        crowd = Crowd(server.port, server.secret)
        try:
            soaked = await soak(crowd, server.pid, server.secret, PLAN)
        finally:
            await crowd.disperse()
        assert soaked.faults == []
        assert soaked.tables_after == dict.fromkeys(TABLES, 0)
        assert soaked.files_after <= soaked.files_before
        assert set(soaked.doings) == {"availability", "cut", "depart", "move", "reload"}, "not all was tried"
        assert max(sample.connections for sample in soaked.samples) > PLAN.connections / 2
        assert max(sample.windows for sample in soaked.samples) > 0, "nobody was ever missed"
        # Hundreds of people take a few MiB; only a flood would be more than this.
        assert soaked.kib_after < 3 * soaked.samples[0].kib
        assert server.terminate() == 0
        assert server.stderr == ""
