"""Small clones of other benchmarks' repositories, with files as theirs are written and texts of our own."""

import json
from pathlib import Path
from typing import Any

from fcit_plugin.fcit_benchmark.fedllm import FEDLLM, TESTS

#: Kind of task -> its datasets, as the folders of O-LoRA's clone lie; written down by hand.
FOLDERS = {
    "SC": ["yelp", "amazon", "IMDB", "SST-2"],
    "TC": ["dbpedia", "agnews", "yahoo"],
    "NLI": ["MNLI", "CB", "RTE"],
    "QQP": ["QQP"],
    "COPA": ["COPA"],
    "MultiRC": ["MultiRC"],
    "BoolQA": ["BoolQA"],
    "WiC": ["WiC"],
}
LABELS = ["up", "down"]


def dump(path: Path, value: Any) -> Path:
    """Writes JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def o_lora(clone: Path, records: int = 3) -> Path:
    """The clone that Text-15 is made from; of COPA there is no instruction."""
    asks = {kind: [{"instruction_type": "zero-shot", "instruction": f"Which {kind}?\n"}] for kind in FOLDERS if kind != "COPA"}
    dump(clone / "configs" / "instruction_config.json", asks)
    for kind, names in FOLDERS.items():
        for name in names:
            folder = clone / "CL_Benchmark" / kind / name
            dump(folder / "labels.json", LABELS)
            for part in ("train", "test"):
                rows = [{"sentence": f"{part} {i} of {name}.", "label": LABELS[i % 2]} for i in range(records)]
                dump(folder / f"{part}.json", rows)
    return clone


def _record(dataset: str, client: str, number: int) -> dict[str, Any]:
    text = f"{number} of {client}"
    turns = [{"from": by, "value": f"{by} {text}"} for by in ("human", "gpt")]
    return {
        "fedllm_wildchat_turns": {"conversations": turns},
        "fedllm_chatbot_pa": {"prompt": f"Which {text}?", "chosen": "good", "rejected": "bad"},
    }.get(dataset, {"instruction": f"What is {text}?", "response": f"It is {text}."})


def fedllm(clone: Path, clients: dict[str, int]) -> Path:
    """The clone of FedLLM-Bench with its data.

    Args:
        clone: Folder to write.
        clients: How many records each client has, in every dataset.
    """
    for name, dataset in FEDLLM.items():
        dump(clone / dataset.file, {client: [_record(name, client, i) for i in range(n)] for client, n in clients.items()})
    dump(
        clone / TESTS,
        {
            "English": [{"instruction": "What?", "reference": "That."}],
            "French": [{"instruction": "Quoi?", "reference": "Cela."}],
        },
    )
    return clone
