"""A server and two sites as processes of their own, over TLS: killed or not, they end as a run in one process does."""

import json
import signal
import time

import numpy as np
import pytest

from fcit_plugin.evaluation.report import Report
from fcit_plugin.samples.deployed import ending
from fcit_plugin.samples.rehearsal import SITES, Rehearsal


def asked(rehearsal, name):
    """What a site has answered so far: kind, stage and round of each request."""
    path = rehearsal.folder / "out" / name / "audit.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line["kind"], line["stage"], line["round"]) for line in map(json.loads, lines)]


def wait_for(rehearsal, name, request, process, seconds=240):
    end = time.monotonic() + seconds
    while request not in asked(rehearsal, name):
        assert time.monotonic() < end, asked(rehearsal, name)
        assert process.poll() is None, (rehearsal.folder / "server.log").read_text()[-2000:]
        time.sleep(0.2)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_server_and_a_site_that_are_killed_end_as_in_one_process(tmp_path):
    made = Rehearsal(tmp_path / "klinik süd")  # as folders are called
    sites = {name: made.start_site(name, {"fcit_site_heartbeat": 10}) for name in SITES}
    in_process, superlink = made.start_in_process(), made.start_superlink()
    with ending(superlink, in_process, *sites.values()):
        server = made.start_server()
        wait_for(made, "north", ("train", 0, 0), server)
        kill(server)
        server = made.start_server()
        wait_for(made, "south", ("train", 0, 1), server)
        kill(sites["south"])
        with ending(made.start_site("south", {"fcit_site_heartbeat": 10})):
            made.finished("server", server)
        made.finished("in_process", in_process)
    assert made.differences() == []
    assert "Resuming from" in (made.folder / "server.log").read_text()
    server = made.folder / "out" / "server"
    report = Report.read(server)
    assert report.sites == [*SITES]
    assert {(row["site"], row["stage"], row["records"]) for row in report.site_scores} == {
        (name, stage, 10) for name in SITES for stage in range(2)
    }
    halves = [[row["score"] for row in report.site_scores if row["site"] == name and row["stage"] == 1] for name in SITES]
    assert np.mean(halves, axis=0) == pytest.approx(report.accuracy[1])  # each has every other test record
    for name in SITES:  # what was trained once was kept
        for file in ("identity_tokens.safetensors", "subspaces/1/adapter_model.safetensors"):
            own = made.folder / "out" / name / "models" / "stage-1" / file
            assert own.read_bytes() == (server / file).read_bytes()
        assert (made.folder / f"{name}.log").read_text().count(": training subspace") == 4
