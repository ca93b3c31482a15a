"""Checks of two processes: on two GPUs over NCCL, on a CPU over gloo."""

import time
from typing import Any

from .bench import Bench
from .check import hold
from .results import check_alike, check_sound
from .runs import TOLERANCE, need_deepspeed


def _sharing(bench: Bench, name: str, **changes: Any) -> dict[str, Any]:
    """A recipe whose processes share each client's steps."""
    return bench.text(name, fcit_engine="process", **changes)


def _same_batch(bench: Bench, deepspeed: str | None) -> str:
    """Two processes give what one gives at the same global batch."""
    keys: dict[str, Any] = {"fcit_stages": [["text_last"]], "per_device_train_batch_size": 4}
    engine = {"deepspeed": bench.deepspeed(deepspeed)} if deepspeed else {}
    one = bench.train(_sharing(bench, "one", **keys))
    two = bench.train(_sharing(bench, "two", **keys | engine | {"per_device_train_batch_size": 2}), 2)
    return check_alike(two, one, TOLERANCE)


def ddp(bench: Bench) -> str:
    """With plain DDP."""
    return _same_batch(bench, None)


def zero_2(bench: Bench) -> str:
    """With ZeRO-2."""
    need_deepspeed()
    return _same_batch(bench, "z2")


def zero_3(bench: Bench) -> str:
    """With ZeRO-3."""
    need_deepspeed()
    return _same_batch(bench, "z3")


def one_dies(bench: Bench) -> str:
    """A process that dies ends the run of both, which goes on when it is started again."""
    keys = _sharing(bench, "run", fcit_eval_every="never", fcit_num_rounds=2)
    start = time.monotonic()
    ended = bench.probe("second_dies", keys, 2)
    hold(ended.code != 0, "it ended well")
    seconds = time.monotonic() - start
    return f"ended with {ended.code} after {seconds:.0f} s; {check_sound(bench.train(keys, 2))} in the end"


def records_a_step(bench: Bench) -> str:
    """LLaMA-Factory's own start on all GPUs says how many records a step takes."""
    ended = bench.try_to_train(_sharing(bench, "run", fcit_dry_run=True), 2)
    found = [line.strip() for line in ended.output.splitlines() if "records a step" in line]
    hold(ended.code == 0 and len(found) == 1, f"it ended with {ended.code}, and said {found}")
    return found[0]


def parallel(bench: Bench) -> str:
    """Whole clients in two processes give the bits of one (`fcit_engine: parallel`)."""
    keys = {"fcit_engine": "parallel", "fcit_clients_per_round": 4}
    runs = [bench.train(bench.text(f"run_{count}", **keys), count) for count in (1, 2)]
    return check_alike(runs[1], runs[0], 0.0, scores=True)
