"""The benchmarks that are known by name, FCIT and others."""

from dataclasses import dataclass

from ..errors import FcitError
from .layout import LAYOUT, DatasetLayout
from .others import COIN, COIN6, COIN_LONG10, MLLM_DCL, TEXT15, TRACE, UCIT

NOT_VERIFIED = "not verified against the data"
"""What is said of a benchmark whose layout was read from its code alone."""


_POLARIS = "https://github.com/beining1008/POLARIS-FMCL"


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: Its name, of ``--benchmark`` and, but for FCIT, of the setting in which its tasks come one after another.
        title: What it is called.
        code: Repository of its public code.
        commit: The commit that was read.
        datasets: Its datasets, in the order of that code.
        names_files: Whether that code tells where files lie; if not, they lie here as those of another benchmark do.
    """

    name: str
    title: str
    code: str
    commit: str
    datasets: tuple[DatasetLayout, ...]
    names_files: bool = True

    @property
    def source(self) -> str:
        """A sentence: what was read where."""
        where = f"{self.code} ({self.commit}), {NOT_VERIFIED}"
        if self.names_files:
            return f"Where files lie was read from {where}."
        return f"Tasks and their order were read from {where}; that code names no files, and here they lie as those of CoIN."

    def task_of(self, dataset: DatasetLayout) -> str:
        """The name of the task that a dataset is."""
        return dataset.key.removeprefix(f"{self.name}_")


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("fcit", "FCIT", "https://github.com/Ghy0501/FCIT", "9b10259", tuple(LAYOUT.values())),
        Benchmark("ucit", "UCIT", "https://github.com/Ghy0501/HiDe-LLaVA", "4dd0793", UCIT),
        Benchmark("trace", "TRACE", "https://github.com/BeyonderXX/TRACE", "462e39f", TRACE),
        Benchmark("coin", "CoIN", "https://github.com/zackschen/CoIN", "4122465", COIN),
        Benchmark("coin6", "CoIN-6", _POLARIS, "8bb7f5b", COIN6, names_files=False),
        Benchmark("coin_long10", "CoIN-Long-10", _POLARIS, "8bb7f5b", COIN_LONG10, names_files=False),
        Benchmark("mllm_dcl", "MLLM-DCL", "https://github.com/bjzhb666/MLLM-CL", "80bf389", MLLM_DCL),
        Benchmark("text15", "Text-15", "https://github.com/cmnfriend/O-LoRA", "07117e1", TEXT15),
    )
}
"""By name."""

OTHERS = {name: benchmark for name, benchmark in BENCHMARKS.items() if name != "fcit"}
"""All but FCIT."""

_OF_DATASET = {layout.key: benchmark for benchmark in BENCHMARKS.values() for layout in benchmark.datasets}


def benchmark_of(dataset: str) -> Benchmark | None:
    """The benchmark that a dataset, or the entry of its test records, belongs to; None if to none.

    Args:
        dataset: Name of the entry in ``dataset_info.json``.
    """
    return _OF_DATASET.get(dataset.removesuffix("_test"))


def choose(
    names: str | None, benchmark: str = "fcit", of_another: str = "give `--benchmark {name}` with datasets of it alone"
) -> list[DatasetLayout]:
    """The datasets of a benchmark that a comma-separated list of keys names; all of them for None.

    Args:
        names: The list.
        benchmark: Name of the benchmark.
        of_another: What to do about a dataset of another benchmark, whose ``{name}`` may stand in it.

    Raises:
        FcitError: A key is unknown, or that of another benchmark, whose files lie elsewhere and may have another form.
    """
    these = {layout.key: layout for layout in BENCHMARKS[benchmark].datasets}
    if names is None:
        return list(these.values())
    title = BENCHMARKS[benchmark].title
    for name in names.split(","):
        if name not in these and (other := _OF_DATASET.get(name)):
            remedy = of_another.format(name=other.name)
            raise FcitError(f"`--datasets`: {name} is a dataset of the benchmark {other.title} and not of {title}; {remedy}.")
        if name not in these:
            raise FcitError(f"The benchmark {title} has no dataset `{name}`; it has {', '.join(these)}.")
    return [these[name] for name in dict.fromkeys(names.split(","))]
