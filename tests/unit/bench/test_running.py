"""What a phase asks of a peer."""

from __future__ import annotations

import pytest

from bench.adapters import PEERS
from bench.plan import Plan
from bench.running import within


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_with_fewer_watchers_says_so_in_its_title_and_has_no_figure_of_all(name: str) -> None:
    peer, plan = PEERS[name], Plan()
    fewer = within(peer, plan).watchers
    assert within(peer, Plan(watchers=10)).watchers == 10
    if fewer < plan.watchers:
        assert "storm" not in peer.phases
        assert f"{fewer} watchers" in peer.title or not {"room", "watch", "burst"} & set(peer.phases)
    else:
        assert "watchers" not in peer.title
