"""Running a recipe's programs: one for a method, and those of its bounds (``fcit_bound``)."""

import dataclasses
from dataclasses import dataclass
from statistics import fmean, stdev

from llamafactory.extras import logging
from typing_extensions import override

from ..adapters.lora import write_shared
from ..errors import tell
from ..evaluation.matrix import AccuracyMatrix
from ..evaluation.report import Report, table
from ..federation.messages import ClientConfig
from ..federation.program import Program
from ..scenario.sampling import sample_clients
from ..state.pages import write_own_page
from ..state.progress import Progress
from .open_session import fork_session
from .report import report_of
from .run import FederatedRun
from .session import Session

logger = logging.get_logger(__name__)

_MEASURES = ("last", "avg", "forgetting", "bwt")


@dataclass
class Untrained(Program):
    """No stage is trained: all that is left of a run is the evaluation of the untuned model."""

    @property
    @override
    def num_stages(self) -> int:
        return 0


@dataclass
class Alone(Program):
    """One client takes part in every round, and nobody else.

    Attributes:
        client: Its number.
        position: Its place among the selected clients, which the schedule of a heterogeneous setting goes by.
    """

    client: int = 0
    position: int = 0

    @override
    def work(self, stage: int, round: int, attempt: int = 0) -> dict[int, ClientConfig]:
        task = self.scenario.task_of(stage, self.position)
        return {self.client: self.work_of(stage, round, self.client, task)}


def programs(session: Session) -> dict[str, Program]:
    """The programs of a session's recipe, each by its name; that of a single one is empty."""
    program, args = session.program, session.args
    parts = (program.args, program.scenario, program.seed, program.blank)
    if args.fcit_bound == "zero_shot":
        return {"": Untrained(*parts)}
    if args.fcit_bound == "local":
        clients = sample_clients(args.fcit_num_clients, args.fcit_clients_per_round, seed=program.seed, stage=0, round=0)
        return {f"client_{client}": Alone(*parts, client=client, position=position) for position, client in enumerate(clients)}
    return {"": program}


def run_programs(session: Session) -> None:
    """``stage: fcit``: run all programs of the recipe."""
    found = programs(session)
    if list(found) == [""]:
        FederatedRun(dataclasses.replace(session, program=found[""]))()
    else:
        _run_apart(session, found)


def _run_apart(session: Session, found: dict[str, Program]) -> None:
    """One run after the other from the same untuned model, each in its own folder, and a report of their mean."""
    start, base = session.first_state(), session.base_weights
    runs: list[FederatedRun] = []
    for name, program in found.items():
        write_shared(session.model, start.shared)
        if base is not None:
            base.write(start.base)
        runs.append(FederatedRun(fork_session(session, program, session.output_dir / name, first=not runs)))
        runs[-1]()
    if session.is_main:
        report = mean_report(session, runs)
        report.write(session.output_dir)
        write_own_page(session.output_dir, session.request.typed, logger.warning_rank0)
        tell(table(report))
        logger.info_rank0(f"The mean over {len(runs)} clients is in {session.output_dir}, each of them in its own folder.")


def _client_of(run: FederatedRun) -> int:
    program = run.session.program
    assert isinstance(program, Alone)
    return program.client


def mean_report(session: Session, runs: list[FederatedRun]) -> Report:
    """The mean of runs that had nothing to do with each other; nothing traveled.

    Returns:
        A report like that of one run, whose assignments name the runs by their number in place of subspaces, and beside
        it "spread": the standard deviation of each summary over the runs, and "clients": the summaries of each run.
    """
    matrices = [run.progress.matrix for run in runs]
    mean = AccuracyMatrix(matrices[0].datasets)
    for stage in range(len(matrices[0].rows)):
        rows = [dict(zip(matrix.datasets, matrix.rows[stage], strict=True)) for matrix in matrices]
        scores = {name: [score for row in rows if (score := row[name]) is not None] for name in rows[0]}
        mean.add(stage, {name: fmean(found) for name, found in scores.items() if found})
    likelihood = []
    for those in zip(*(run.progress.likelihood for run in runs), strict=True):
        likelihood.append({name: fmean(row[name] for row in those) for name in those[0] if all(name in row for row in those)})
    measured = Progress(
        zero_shot=runs[0].progress.zero_shot,
        matrix=mean,
        assignments=[row | {"subspace": k} for k, run in enumerate(runs) for row in run.progress.assignments],
        dropped=[row for run in runs for row in run.progress.dropped],
        idle=[row for run in runs for row in run.progress.idle],
        seconds={key: sum(run.progress.seconds[key] for run in runs) for key in ("total", "evaluate")},
        partition=runs[0].local.partition_table(),
        likelihood=likelihood,
        likelihood_untuned=runs[0].progress.likelihood_untuned,
    )
    report = report_of(session, measured)
    known = [key for key in _MEASURES if getattr(report, key) is not None]
    each = [{key: getattr(matrix, key) for key in known} for matrix in matrices]
    means = {key: fmean(values[key] for values in each) for key in known}
    return dataclasses.replace(
        report,
        last=means.get("last"),
        avg=means.get("avg"),
        forgetting=means.get("forgetting"),
        bwt=means.get("bwt"),
        spread={key: stdev(values[key] for values in each) if len(runs) > 1 else None for key in known},
        clients={str(_client_of(run)): values for run, values in zip(runs, each, strict=True)},
    )
