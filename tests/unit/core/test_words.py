"""The words are those of the design and of the wire."""

from __future__ import annotations

from stillhere.core.errors import LocalMisuse, RemoteFault, StillhereError
from stillhere.core.words import FINAL_CAUSES, Availability, Cause, Phase, ReadyState, Status


def test_the_words_of_the_wire_do_not_change() -> None:
    assert list(ReadyState) == ["CONNECTING", "OPEN", "CLOSING", "CLOSED"]
    assert list(Phase) == ["OFFLINE", "ONLINE", "HELD"]
    assert list(Status) == ["online", "away", "busy", "offline", "unknown"]
    assert list(Availability) == ["active", "busy", "away", "invisible"]
    assert " ".join(Cause) == (
        "bye kicked revoked superseded client_close going_away page_hidden abnormal heartbeat_lost expired "
        "slow_consumer protocol_error node_drain node_lost"
    )


def test_departures_are_final() -> None:
    assert {"bye", "kicked", "revoked", "superseded"} == FINAL_CAUSES


def test_local_misuse_and_remote_faults_are_different_branches() -> None:
    assert issubclass(LocalMisuse, StillhereError) and issubclass(RemoteFault, StillhereError)
    assert not issubclass(LocalMisuse, RemoteFault) and not issubclass(RemoteFault, LocalMisuse)
