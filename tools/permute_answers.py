"""FCIT-mini with answers dealt anew among the training records of each dataset: a negative control.

    python tools/permute_answers.py --out data/mini_permuted [--seed 0]

Questions, images, test records and each dataset's answers are FCIT-mini's, so whoever trains on it can learn which answers
there are, and nothing about which is right. Rows `permuted_*` of recipes/compare/chance.yaml train on it (`fcit_data_dir`).
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.files import read_json, write_json
from fcit_plugin.samples.mini.build import mini_root


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, which must not exist")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the permutations")
    args = parser.parse_args(arguments)
    shutil.copytree(mini_root(), args.out)
    for number, layout in enumerate(LAYOUT.values()):
        file = args.out / layout.train_path
        rows = read_json(file, "draw FCIT-mini again")
        write_json(file, permuted(rows, np.random.default_rng([args.seed, number])))


def permuted(rows: Sequence[dict], generator: np.random.Generator) -> list[dict]:
    """Records with the last turn's text of other records of the same list.

    Args:
        rows: records in the benchmark's form, with `conversations`.
        generator: draws the permutation.
    """
    order = generator.permutation(len(rows))
    answers = [rows[index]["conversations"][-1] for index in order]
    return [{**row, "conversations": [*row["conversations"][:-1], answer]} for row, answer in zip(rows, answers, strict=True)]


if __name__ == "__main__":
    main()
