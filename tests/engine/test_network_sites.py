"""Sites that join and leave a run over a real SuperLink, and updates that travel compressed: as in one process, bit by bit."""

import json
import time

import pytest
from test_network import asked, kill

from fcit_plugin.deployment.operator import programs
from fcit_plugin.files import read_json, write_json
from fcit_plugin.samples.deployed import ending
from fcit_plugin.samples.rehearsal import SITES, Rehearsal

THREE = (*SITES, "west")
#: With this seed the third of three sites is drawn in the second stage, and the second one in its second round.
SEED = {"seed": 1}
#: A site that was killed, or shut out, is let in again soon.
SOON = {**SEED, "fcit_site_heartbeat": 10}


def wait_for_commit(made, number, server, seconds=300):
    end = time.monotonic() + seconds
    while not (made.folder / "out" / "server" / "checkpoints" / f"round-{number:04d}").exists():
        assert time.monotonic() < end and server.poll() is None, (made.folder / "server.log").read_text()[-2000:]
        time.sleep(0.1)


def type_it(made, line):
    """Type a command of the operator's or a site's in the folder that has theirs."""
    made.finished("typed", made.start("typed", [programs() / "fcit-cli", *line.split()]))


@pytest.mark.slow
def test_a_site_that_joins_between_two_stages_trains_gets_the_model_and_ends_as_a_run_that_goes_on_in_one_process(tmp_path):
    made = Rehearsal(tmp_path / "rehearsal", sites=THREE, later=1)
    every = made.folder / "data" / "all"
    first = made.folder / "data" / "first"  # what the two sites of the first stage have, for the run in one process
    for path in every.glob("*.json"):
        rows = read_json(path)
        own = [row for row in rows if row["site"] in SITES] if path.name == "text_last.json" else rows
        write_json(first / path.name, own)
    stage = {"fcit_stages": "[[text_last]]", "dataset_dir": first, "output_dir": made.folder / "out" / "first"}
    earlier = made.start_in_process(SEED | stage)
    sites, superlink = {name: made.start_site(name, SOON) for name in SITES}, made.start_superlink()
    with ending(superlink, earlier, *sites.values()), ending(made.start_server(SEED)) as (server,):
        wait_for_commit(made, 2, server)  # the first stage is over
        kill(server)
        type_it(made, "deploy kit west")
        type_it(made, "site init --out west --kit deploy/kits/west")
        type_it(made, "deploy enroll west west/site.pub")
        with ending(made.start_site("west", SOON)):
            made.finished("server", made.start_server(SEED | {"fcit_num_clients": 3}))
        made.finished("in_process", earlier)
    goes_on = {"fcit_stages": "[[text_sum]]", "fcit_num_clients": 3, "adapter_name_or_path": made.folder / "out" / "first"}
    made.finished("in_process", made.start_in_process(SEED | goes_on))
    assert made.differences(but=["partition"]) == []  # the table has the sites of its time

    server = made.folder / "out" / "server"
    trained = {name: [(stage, round) for kind, stage, round in asked(made, name) if kind == "train"] for name in THREE}
    assert [len(set(rounds)) for rounds in trained.values()] == [4, 3, 1] and set(trained["west"]) == {(1, 0)}
    progress = json.loads((server / "checkpoints" / "round-0004" / "progress.json").read_text())
    assert progress["site_lists"] == [[*SITES], [*THREE]]
    for name in THREE:
        for file in ("identity_tokens.safetensors", "subspaces/1/adapter_model.safetensors"):
            own = made.folder / "out" / name / "models" / "stage-1" / file
            assert own.read_bytes() == (server / file).read_bytes()
    assert not (made.folder / "out" / "west" / "models" / "stage-0").exists()


@pytest.mark.slow
def test_a_site_that_is_removed_is_not_drawn_again_and_is_told_why(tmp_path):
    made = Rehearsal(tmp_path / "rehearsal", sites=THREE)
    changes = SEED | {"fcit_num_clients": 3, "fcit_stages": "[[text_sum]]", "fcit_num_rounds": 3}
    own = SOON | changes | {"fcit_site_tasks": "text_sum"}
    sites, superlink = [made.start_site(name, own) for name in THREE], made.start_superlink()
    with ending(superlink, *sites), ending(made.start_server(changes)) as (server,):
        wait_for_commit(made, 1, server)
        kill(server)
        type_it(made, "deploy remove south")
        made.finished("server", made.start_server(changes))
        end = time.monotonic() + 60
        while "ask whether this site has been removed" not in (made.folder / "south.log").read_text():
            assert time.monotonic() < end, (made.folder / "south.log").read_text()[-2000:]
            time.sleep(0.2)
    # a question of the round that was killed may have been on its way
    assert not [found for found in asked(made, "south") if found[2] > 0 and found != ("query", 0, 1)]
    assert "Site south has been removed." in (made.folder / "server.log").read_text()
    report = json.loads((made.folder / "out" / "server" / "fcit_report.json").read_text())
    drawn = {round: {row["client"] for row in report["assignments"] if row["round"] == round} for round in range(3)}
    assert drawn[1] == drawn[2] == {0, 2} and not report["dropped"]


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["bf16", "int8"])
def test_compressed_updates_end_as_in_one_process_also_if_a_site_is_killed(compression, tmp_path):
    made = Rehearsal(tmp_path / "rehearsal")
    changes = {"fcit_update_compression": compression}
    sites = {name: made.start_site(name, changes | {"fcit_site_heartbeat": 10}) for name in SITES}
    in_process, superlink = made.start_in_process(changes), made.start_superlink()
    with ending(superlink, in_process, *sites.values()), ending(made.start_server(changes)) as (server,):
        wait_for_commit(made, 1, server)  # what rounding has taken is carried over from here
        kill(sites["south"])
        with ending(made.start_site("south", changes | {"fcit_site_heartbeat": 10})):
            made.finished("server", server)
        made.finished("in_process", in_process)
    assert made.differences() == []
    private = sorted(path.name for path in (made.folder / "out" / "south" / "private").rglob("*.safetensors"))
    assert bool(private) == (compression == "int8")
