"""Several processes take a client's failure alike, and none waits forever; deadlines; clients after one that failed."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from children import fork
from llamafactory.hparams import get_train_args
from transformers import TrainerCallback

from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.processes import Deadline, Processes
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.federation.server import RoundFailed


def in_two_processes(folder: Path, work) -> list[str]:
    """What ``work(rank)`` returns, or the name of the error that it raises, in each of two forked processes."""
    children = []
    for rank in range(2):
        child = fork()
        if child == 0:
            try:
                dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
                result = str(work(rank))
            except Exception as error:
                result = type(error).__name__
            (folder / str(rank)).write_text(result)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    return [(folder / str(rank)).read_text() for rank in range(2)]


def test_a_failure_in_one_process_is_the_failure_of_both(tmp_path):
    def work(rank):
        processes = Processes()
        told = [processes.failure(own) for own in (None, "of rank 1" if rank else None, None if rank else "of rank 0")]
        return [*told, processes.any(False), processes.any(rank == 1), processes.failure(f"both, {rank}")]

    assert in_two_processes(tmp_path, work) == [str([None, "of rank 1", "of rank 0", False, True, "both, 0"])] * 2


def test_what_one_computes_and_what_each_has_is_known_to_both(tmp_path):
    def work(rank):
        processes, computed = Processes(), []
        known = processes.compute_on_main(lambda: computed.append(rank) or f"of rank {rank}")
        return [processes.rank, processes.count, processes.is_main, known, computed, processes.gather({rank: rank + 5})]

    assert in_two_processes(tmp_path, work) == [
        str([0, 2, True, "of rank 0", [0], [{0: 5}, {1: 6}]]),
        str([1, 2, False, "of rank 0", [], [{0: 5}, {1: 6}]]),
    ]


def test_a_process_whose_fellow_waits_for_it_elsewhere_gives_up(tmp_path):
    """As when a client fails before a gradient is exchanged: one process says so, the other waits for the gradient."""

    def work(rank):
        processes = Processes(timedelta(seconds=1))
        if rank == 0:
            return processes.failure("it failed here only")
        dist.all_reduce(torch.zeros(1))  # ends when the other process does
        return "unreachable"

    assert "unreachable" not in in_two_processes(tmp_path, work)
    assert (tmp_path / "0").read_text() == "RuntimeError"


def test_one_process_agrees_with_itself():
    assert Processes().failure(None) is None
    assert Processes().failure("it failed") == "it failed"
    assert (Processes().rank, Processes().count) == (0, 1)
    assert (Processes().compute_on_main(lambda: 5), Processes().gather(5)) == (5, [5])
    assert [Processes().any(flag) for flag in (True, False)] == [True, False]


def test_a_deadline_ends_the_training_after_the_step_that_passes_it():
    now = [100.0]
    deadline = Deadline(10, Processes(), "too late", lambda: now[0])
    now[0] = 110.0
    deadline.on_step_end(None, None, None)
    now[0] = 110.5
    with pytest.raises(TimeoutError, match="too late"):
        deadline.on_step_end(None, None, None)


def test_a_run_whose_clients_are_all_too_slow_ends_in_one_sentence(text_recipe, run):
    keys = text_recipe(fcit_eval_every="never", fcit_client_timeout=1e-9, fcit_max_round_retries=0)
    with pytest.raises(RoundFailed) as caught:
        run(keys)
    assert "did so alike: it took longer than 1e-09 s (`fcit_client_timeout`)." in str(caught.value)
    assert not (Path(keys["output_dir"]) / "fcit_report.json").exists()


class FailsInSecondStep(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise RuntimeError("CUDA out of memory")


def test_a_client_that_fails_in_its_training_leaves_nothing_to_the_next_one(text_recipe):
    session = open_session(*get_train_args(text_recipe(fcit_eval_every="never")))
    configs = {client: ClientConfig("run", 0, 0, client, 0) for client in (0, 1)}
    local = session.local(lambda config: FailsInSecondStep() if config.client == 1 else TrainerCallback())
    start = session.program.fresh(0)
    before = local.train(configs[0], start, {}, {})
    with pytest.raises(RuntimeError, match="out of memory"):
        local.train(configs[1], start, {}, {})
    after = local.train(configs[0], start, {}, {})
    assert before.loss == after.loss
    assert all(torch.equal(before.subspace[key], after.subspace[key]) for key in start)
    assert any(not torch.equal(before.subspace[key], start[key]) for key in start)


def test_the_data_are_hashed_by_the_main_process_for_all(text_recipe, monkeypatch):
    given = get_train_args(text_recipe(fcit_eval_every="never"))
    own = open_session(*given).data
    computed = []
    monkeypatch.setattr(Processes, "compute_on_main", lambda self, compute: computed.append(compute()) or {"of": "main"})
    assert open_session(*given).data == {"of": "main"}
    assert computed == [own] and len(own) == 2
