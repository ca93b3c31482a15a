"""Write dataset_info/dataset_info.json from the layouts of the benchmarks.

python tools/dataset_info.py
"""

from pathlib import Path

from fcit_plugin.fcit_benchmark.benchmarks import BENCHMARKS
from fcit_plugin.files import write_json

if __name__ == "__main__":
    entries: dict[str, dict] = {}
    for benchmark in BENCHMARKS.values():
        for dataset in benchmark.datasets:
            entries |= dataset.entries()
    write_json(Path(__file__).parents[1] / "dataset_info" / "dataset_info.json", entries)
