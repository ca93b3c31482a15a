"""Checks of whole runs on one device: half precision, CPU against GPU, kills, memory, DeepSpeed."""

import json
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..samples.mini.build import base_model_path
from .bench import Bench
from .check import SkippedError, hold
from .results import check_alike, check_sound, report_of, weights_of

#: How far weights may be apart between two devices, or two orders of the same sums (:func:`.results.check_alike`).
TOLERANCE = 1e-2
#: Bytes; what one client would leave, its LoRA's optimizer states, is five times as much.
_LEAST_LEAK = 2**18


def half_precision(bench: Bench) -> str:
    """A LLaVA that is stored in bfloat16 trains under bf16, its subspaces and its projector in float32."""
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    folder = bench.folder / "bf16"
    model = LlavaForConditionalGeneration.from_pretrained(base_model_path(), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(base_model_path()).save_pretrained(folder)
    keys = bench.mini("run", model_name_or_path=str(folder), bf16=True)
    start = time.perf_counter()
    run = bench.train_here(keys)
    seconds = time.perf_counter() - start
    told = check_sound(run)
    before = {f"shared.safetensors/{key}": value.float() for key, value in model.state_dict().items()}
    shared = {key: value for key, value in weights_of(run).items() if key.startswith("shared")}
    moved = [key for key, value in shared.items() if key in before and not torch.equal(before[key], value)]
    hold(bool(moved), f"the projector did not move ({len(shared)} tensors)")
    return f"{told}, {seconds:.0f} s"


def cpu_and_gpu(bench: Bench) -> str:
    """Tokens, assignments and weights of a float32 run are those of a CPU."""
    from ..state.folder import StateFolder

    keys = {"fcit_eval_every": "never", "optim": "sgd"}
    here = bench.train_here(bench.mini("here", **keys))
    there = bench.train(bench.mini("there", use_cpu=True, **keys), cpu=True)
    tokens = [StateFolder(run).load().tokens.tokens for run in (here, there)]
    apart = float(abs(tokens[0] - tokens[1]).max())
    hold(apart <= 1e-5, f"identity tokens are {apart:.1e} apart, more than 1e-5")
    return f"tokens {apart:.1e}, {check_alike(here, there, TOLERANCE)}"


def resume(bench: Bench, **keys: Any) -> str:
    """A run that is killed after a round and started again ends as one that was not."""
    processes = 1 if keys else 0
    keys |= {"fcit_num_rounds": 2, "fcit_eval_every": "never"}
    whole = bench.train(bench.text("whole", **keys), processes)
    killed = bench.text("killed", **keys)
    process = bench.start(["fcit_plugin.cli", "train", str(bench.write(killed))], processes)
    commit, end = Path(killed["output_dir"]) / "checkpoints" / "round-0001", time.monotonic() + 200
    while not commit.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    _kill(process.pid)
    process.communicate()
    hold(commit.exists(), "the run did not come to its second round")
    hold(not (Path(killed["output_dir"]) / "fcit_report.json").exists(), "the run had ended before it could be killed")
    again = bench.train(killed, processes)
    return check_alike(again, whole, TOLERANCE if bench.is_gpu else 0.0)


def _kill(pid: int) -> None:
    """Kill a process and those that it has started, such as torchrun's."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            _kill(int(child))
    os.kill(pid, signal.SIGKILL)


def resume_zero_2(bench: Bench) -> str:
    """The same with DeepSpeed."""
    need_deepspeed()
    return resume(bench, deepspeed=bench.deepspeed("z2"))


def need_deepspeed() -> None:
    """Skip a check where DeepSpeed is not installed.

    Raises:
        SkippedError: It is not.
    """
    if find_spec("deepspeed") is None:
        raise SkippedError("deepspeed is not installed")


def memory(bench: Bench) -> str:
    """Twelve clients leave no more memory in use than two, and three evaluations nothing."""
    return _memory(bench, None)


def memory_zero_2(bench: Bench) -> str:
    """The same with ZeRO-2."""
    need_deepspeed()
    return _memory(bench, "z2")


def memory_zero_3(bench: Bench) -> str:
    """The same with ZeRO-3."""
    need_deepspeed()
    return _memory(bench, "z3")


def _memory(bench: Bench, engine: str | None) -> str:
    changes: dict[str, Any] = {"deepspeed": bench.deepspeed(engine)} if engine else {}
    changes |= {"fcit_clients_per_round": 4, "fcit_num_rounds": 3, "fcit_stages": [["text_last"]], "fcit_eval_every": "round"}
    keys = bench.text("run", **changes)
    found = bench.folder / "memory.json"
    ended = bench.probe("memory", keys, int(engine is not None), found)
    hold(ended.code == 0, f"the run ended with {ended.code}: {ended.sentence}")
    counted = json.loads(found.read_text(encoding="utf-8"))
    hold(len(counted) == 12, f"{len(counted)} clients were counted, not 12")
    early, late = min(counted[1:5]), min(counted[-4:])  # ZeRO-3 keeps some weights for a while: a leak moves the least
    hold(late - early <= max(0.01 * early, _LEAST_LEAK), f"{early:,} bytes before clients 2 to 5, {late:,} before 9 to 12")
    return f"{early / 2**20:.1f} MiB before clients 2 to 5, {late / 2**20:.1f} before 9 to 12"


def zero_3_encoder(bench: Bench) -> str:
    """ZeRO-3 takes a text encoder of Hugging Face, a CLIP, whole."""
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, set_seed

    need_deepspeed()
    tokenizer, folder = AutoTokenizer.from_pretrained(base_model_path()), bench.folder / "clip"
    set_seed(0)
    special: dict[str, Any] = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **sizes, **special)
    CLIPTextModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder = {"fcit_identity_encoder": str(folder), "fcit_identity_pooling": "eos", "fcit_stages": [["text_last"]]}
    return check_sound(bench.train(bench.text("run", deepspeed=bench.deepspeed("z3"), **encoder), 1))


def scheduler(bench: Bench) -> str:
    """A DeepSpeed file with a scheduler knows each client's own number of steps."""
    need_deepspeed()
    params = dict.fromkeys(("warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "total_num_steps"), "auto")
    file = bench.deepspeed("z2", scheduler={"type": "WarmupDecayLR", "params": params})
    changes = {"fcit_partition": "quantity", "fcit_beta": 0.5, "fcit_clients_per_round": 4, "fcit_stages": [["text_last"]]}
    keys = bench.text("run", deepspeed=file, warmup_ratio=None, warmup_steps=1, num_train_epochs=3.0, **changes)
    return check_sound(bench.train(keys, 1))


def offloaded_optimizer(bench: Bench) -> str:
    """An optimizer on the CPU (z2_offload) gives what one on the device does."""
    need_deepspeed()
    changes = {"fcit_stages": [["text_last"]], "fcit_eval_every": "never"}
    file = bench.deepspeed("z2_offload", zero_force_ds_cpu_optimizer=False)  # DeepSpeed's own would be compiled first
    runs = [
        bench.train(bench.text(name, deepspeed=path, **changes), 1)
        for name, path in (("offloaded", file), ("whole", bench.deepspeed("z2")))
    ]
    return check_alike(runs[0], runs[1], TOLERANCE)


def out_of_memory(bench: Bench) -> str:
    """Too little memory ends a run in a sentence, and it goes on with half the batch."""
    keys = bench.text("run", fcit_eval_every="never")
    ended = bench.probe("no_memory", keys)
    hold(ended.code == 1, f"the run without memory ended with {ended.code}")
    hold(ended.sentence.startswith("Memory is too small"), f"it said: {ended.sentence or ended.output[-300:]}")
    batch = keys["per_device_train_batch_size"] // 2
    run = bench.train(keys | {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 2})
    hold(not report_of(run)["dropped"], "clients were left out")
    return f"{check_sound(run)} after half the batch"
