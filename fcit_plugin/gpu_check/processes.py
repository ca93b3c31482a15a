"""Checks of two processes: on two GPUs over NCCL, on a CPU over gloo."""

import dataclasses
import time

from ..arguments import FcitArguments
from .answers import two_devices
from .bench import Bench
from .check import SkippedError, hold
from .results import check_alike
from .runs import TOLERANCE, _need_deepspeed

__all__ = ["ddp", "one_fails", "parallel", "records_a_step", "two_devices", "zero_2", "zero_3"]


def _same_batch(bench: Bench, deepspeed: str | None) -> str:
    """Two processes give what one gives at the same global batch."""
    keys = {"fcit_stages": [["text_last"]], "per_device_train_batch_size": 4}
    engine = {"deepspeed": bench.deepspeed(deepspeed)} if deepspeed else {}
    one = bench.train(bench.text("one", **keys))
    two = bench.train(bench.text("two", **keys | engine | {"per_device_train_batch_size": 2}), 2)
    return check_alike(two, one, TOLERANCE, scores=True)


def ddp(bench: Bench) -> str:
    """With plain DDP."""
    return _same_batch(bench, None)


def zero_2(bench: Bench) -> str:
    """With ZeRO-2."""
    _need_deepspeed()
    return _same_batch(bench, "z2")


def zero_3(bench: Bench) -> str:
    """With ZeRO-3."""
    _need_deepspeed()
    return _same_batch(bench, "z3")


def one_fails(bench: Bench) -> str:
    """What fails in the second process alone ends both, or leaves that client out in both; none waits for ever."""
    start = time.monotonic()
    ended = bench.probe("second_fails", bench.text("run", fcit_eval_every="never"), 2)
    said = "left out" in ended.output or "A check lets this process fail" in ended.output
    hold(said, f"it ended with {ended.code} and did not say what failed: {ended.output[-300:]}")
    return f"ended with {ended.code} after {time.monotonic() - start:.0f} s"


def records_a_step(bench: Bench) -> str:
    """LLaMA-Factory's own start on all GPUs says how many records a step takes."""
    keys = bench.text("run", fcit_dry_run=True)
    ended = bench.call(["fcit_plugin.cli", "train", str(bench.write(keys))], processes=2)
    found = [line.strip() for line in ended.output.splitlines() if "records a step" in line]
    hold(ended.code == 0 and len(found) == 1, f"it ended with {ended.code}, and said {found}")
    return found[0]


def parallel(bench: Bench) -> str:
    """Whole clients in two processes give the bits of one (`fcit_engine: parallel`)."""
    if "fcit_engine" not in {field.name for field in dataclasses.fields(FcitArguments)}:
        raise SkippedError("this version has no `fcit_engine`")
    keys = {"fcit_engine": "parallel", "fcit_clients_per_round": 4}
    runs = [bench.train(bench.text(f"run_{count}", **keys), count) for count in (1, 2)]
    return check_alike(runs[1], runs[0], 0.0, scores=True)
