"""Secure sums over a real SuperLink: three sites as processes over TLS, the server killed between two steps."""

import json
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from fcit_plugin.samples.deployed import ending
from fcit_plugin.samples.rehearsal import Rehearsal

THREE = ("north", "south", "west")
ALIKE = {"fcit_num_clients": 3, "fcit_clients_per_round": 3}
SECURE = ALIKE | {"fcit_secure_sum": "true", "fcit_max_update_norm": 16, "fcit_max_client_samples": 64}


def answered(made, name):
    path = made.folder / "out" / name / "audit.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line["kind"], line["stage"], line["round"]) for line in map(json.loads, lines)]


@pytest.mark.slow
def test_a_secure_run_whose_server_is_killed_is_close_to_the_run_in_one_process(tmp_path):
    made = Rehearsal(tmp_path / "rehearsal", sites=THREE)
    own = SECURE | {"fcit_sites": made.deploy / "sites.yaml"}
    sites = [made.start_site(name, own) for name in THREE]
    in_process, superlink = made.start_in_process(ALIKE), made.start_superlink()
    with ending(superlink, in_process, *sites):
        server, end = made.start_server(SECURE), time.monotonic() + 300
        while ("query.agree", 0, 1) not in answered(made, "north"):
            assert time.monotonic() < end and server.poll() is None, (made.folder / "server.log").read_text()[-3000:]
            time.sleep(0.1)
        server.send_signal(signal.SIGKILL)
        server.wait()
        made.finished("server", made.start_server(SECURE))
        made.finished("in_process", in_process)
    ours, theirs = (made.folder / "out" / name for name in ("server", "in_process"))
    files = sorted(path.relative_to(theirs) for path in theirs.rglob("*.safetensors") if "checkpoints" not in path.parts)
    assert files
    for name in files:
        one, other = load_file(ours / name), load_file(theirs / name)
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[key].double(), other[key].double(), atol=1e-3) for key in one), name
    reports = [json.loads((folder / "fcit_report.json").read_text()) for folder in (ours, theirs)]
    assert reports[0]["assignments"] == reports[1]["assignments"] and not reports[0]["dropped"]
    for name in THREE:
        assert (made.folder / f"{name}.log").read_text().count(": training subspace") == 4
        lines = [json.loads(line) for line in (made.folder / "out" / name / "audit.jsonl").read_text().splitlines()]
        assert not [line for line in lines if line["refused"]]
