"""Calls of ``fcit-cli init``, and what they begin from."""

import json
from pathlib import Path

import yaml
from llamafactory_examples import COMMON
from runs import run_recipe

from fcit_plugin.commands import COMMANDS
from fcit_plugin.commands.command import make_parser

NUMBERS = [(i, 7 * i % 40) for i in range(40)]


def init(*words):
    """The keys that it writes to fcit.yaml."""
    args = make_parser(COMMANDS).parse_args(["init", *map(str, words)])
    args.command.run(args)
    return yaml.safe_load((args.out or Path("fcit.yaml")).read_text())


def planned(keys, folder="out"):
    """What a dry run plans by these keys."""
    return json.loads((run_recipe({**keys, "output_dir": folder, "fcit_dry_run": True}) / "fcit_dry_run.json").read_text())


def questions(count=40, **more):
    """Records with a question and an answer."""
    return [{"question": f"Is {i} more than {n}?", "answer": "yes" if i > n else "no", **more} for i, n in NUMBERS[:count]]


def write(path, rows):
    """Writes records as JSON."""
    Path(path).write_text(json.dumps(rows))
    return path


def theirs(model, data, stage="sft", **keys):
    """A recipe as LLaMA-Factory's examples have it, on a tiny model."""
    names = "color,letter" if stage in ("sft", "pt", "rm", "ppo") else stage
    base = {"model_name_or_path": str(model), "template": "vicuna", "stage": stage, "dataset": names, "dataset_dir": str(data)}
    found = {**base, "output_dir": "saves/theirs", **COMMON, **keys}
    Path("theirs.yaml").write_text(yaml.safe_dump({key: value for key, value in found.items() if value != "absent"}))
    return "theirs.yaml"
