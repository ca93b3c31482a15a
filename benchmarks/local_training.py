"""Local training against plain LLaMA-Factory: ``python benchmarks/local_training.py``.

The same LoRA on the same records of FCIT-mini, the same batch and number of steps; once as ``stage: sft``, once as the only
client of ``stage: fcit``. What is timed is the Trainer's ``train``; what a client costs beside it is the business of
``round_overhead.py``.
"""

import argparse
import contextlib
import io
import os
import tempfile
from pathlib import Path

os.environ |= {"LLAMAFACTORY_VERBOSITY": "ERROR", "TRANSFORMERS_VERBOSITY": "error"}  # read when they are imported

import transformers
from timing import ratio, timed_calls

COMMON = {
    "model_name_or_path": "fcit-mini",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_target": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
    "template": "llava",
    "default_system": "",
    "cutoff_len": 128,
    "report_to": "none",
    "per_device_train_batch_size": 8,
    "learning_rate": 1.0e-3,
    "disable_gradient_checkpointing": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 10,
    "overwrite_output_dir": True,
}
PLAIN = {"stage": "sft", "dataset": "fcit_iconqa"}
FCIT = {
    "stage": "fcit",
    "fcit_setting": "custom",
    "fcit_stages": [["fcit_iconqa"]],
    "fcit_num_clients": 1,
    "fcit_clients_per_round": 1,
    "fcit_num_rounds": 1,
    "fcit_partition": "iid",
    "fcit_eval_every": "never",
}


def seconds_of(recipe: dict, folder: Path) -> float:
    """Seconds that the Trainer takes in a run of a recipe."""
    from llamafactory.train.tuner import run_exp

    before = dict(os.environ)
    try:
        with (
            timed_calls(transformers.Trainer, "train") as found,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            run_exp({**COMMON, **recipe, "output_dir": str(folder)})
    finally:
        os.environ.clear()
        os.environ.update(before)
    (seconds,) = found
    return seconds


def main() -> None:
    """Print the speed of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    samples = args.steps * COMMON["per_device_train_batch_size"]
    seconds: dict[str, list[float]] = {"plain": [], "fcit": []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats + 1):  # the first one fills caches
            for name, recipe in (("plain", PLAIN), ("fcit", FCIT)):
                found = seconds_of({**recipe, "max_steps": args.steps}, Path(folder) / name)
                if repeat:
                    seconds[name].append(found)
    for name, found in seconds.items():
        print(f"{name:>5}: {samples / sorted(found)[len(found) // 2]:.1f} samples/s")
    print(f"fcit / plain: {ratio(seconds['plain'], seconds['fcit']):.3f} (goal: 0.98)")


if __name__ == "__main__":
    main()
