"""What benchmarks of whole runs share: options, memory, tables, and FCIT-mini in this process."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "fcit_mini_disco.yaml"


def arguments(description: str, **options: Any) -> argparse.Namespace:
    """The script's options, each of the type of its default; ``--tiny`` takes a few seconds and says nothing about speed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to see that it runs")
    for name, default in options.items():
        many = {"nargs": "+", "type": type(default[0])} if isinstance(default, list) else {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **many)
    return parser.parse_args()


def resident() -> int:
    """Resident anonymous memory of this process in bytes; pages of mapped files can be dropped and do not count."""
    with open("/proc/self/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["RssAnon"].split()[0]) * 1024


def show(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table."""
    texts = [list(map(str, head)), *([f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)), flush=True)


def session(output_dir: Path, **changes: Any):
    """The session of the recipe of FCIT-mini, in this process, with some keys changed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import yaml
    from llamafactory.hparams import get_train_args

    from fcit_plugin.engine.open_session import open_session

    logging.disable(logging.INFO)
    keys = yaml.safe_load(RECIPE.read_text())
    return open_session(*get_train_args({**keys, "disable_tqdm": True, "output_dir": str(output_dir), **changes}))
