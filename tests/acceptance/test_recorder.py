"""The flight recorder over real processes: why was she offline, and what would another window have shown?"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.acceptance.server import ServerProcess
from tests.acceptance.test_cli import asking, closed, log_in, stillhere


@pytest.mark.parametrize("store", ["memory:", "sqlite:///presence.db"])
async def test_a_false_offline_is_explained_exported_and_replayed(tmp_path: Path, store: str) -> None:
    with ServerProcess({"grace.going_away": 300, "store.url": store}) as server:
        client = await log_in(server, "alice", tab="t_4f1c")
        await client.close(1001, "reload")
        await closed(client)
        end = time.monotonic() + 10
        while json.loads(asking(server, "explain", "alice", "--json").stdout)["status"] != "offline":
            assert time.monotonic() < end
        offline = round(time.time() * 1000)
        client = await log_in(server, "alice", tab="t_4f1c")

        why = asking(server, "explain", "alice", "--at", str(offline))
        assert why.returncode == 0, why.stderr
        sentence = why.stdout.splitlines()[0]
        assert "with 1001 going_away, closed by the client (“reload”); its window of 300 ms ran out." in sentence
        assert "a false offline; a window of" in sentence
        assert "PRESENCE_OFFLINE" in why.stdout and "user_reconnected" in why.stdout
        assert "alice is online since" in asking(server, "explain", "alice").stdout

        told = [line.split()[1] for line in asking(server, "timeline", "alice").stdout.splitlines()]
        assert told[0] == "opened" and told[-1] == "PRESENCE_ONLINE" and "windows_ran_out" in told

        log = tmp_path / "log.jsonl"
        export = asking(server, "timeline", "--all", "--export", str(log), "--pseudonymise")
        assert export.returncode == 0 and "of 1 user in" in export.stderr
        assert "alice" not in log.read_text() and "t_4f1c" not in log.read_text()
        await client.close()
    as_it_was = json.loads(stillhere("replay", str(log), "--json").stdout)
    assert (as_it_was["unfaithful"], as_it_was["recorded"]) == ([], as_it_was["replayed"])
    assert as_it_was["recorded"]["falseOffline"] == {"going_away": 1}
    other = json.loads(stillhere("replay", str(log), "--grace", "going_away=20000", "--json").stdout)
    assert (other["replayed"]["offline"], other["replayed"]["falseOffline"]) == (0, {})
    advice = json.loads(stillhere("advise", str(log), "--json").stdout)["causes"][0]
    assert advice["cause"] == "going_away" and 300 < advice["adviceMs"] <= 20_000
