"""``stage: fcit`` with ``do_train: false``: what a run has learned, evaluated again with other keys of inference."""

import dataclasses
import time
from pathlib import Path

from llamafactory.extras import logging

from ..adapters.lora import check_keys, check_shapes
from ..errors import FcitError, tell
from ..evaluation.report import Report, table
from ..serving.trained import TrainedRun
from ..state.names import MANIFEST, subspace_folder
from ..state.pages import write_own_page
from ..state.progress import Progress
from .report import report_of
from .scores import keep_answers
from .session import Session, adapter_config

logger = logging.get_logger(__name__)

#: What the recipe has to share with the run: else identity tokens, or subspaces, would mean something else.
_TOKENS = ("identity_source", "identity_encoder", "identity_pooling", "identity_center", "identity_turns", "identity_form")
_SCALE = ("r", "lora_alpha", "use_rslora")


def evaluate_folder(session: Session, folder: Path) -> Report:
    """Score the subspaces of a folder on the test records of the recipe's datasets; writes and prints a report.

    Only the state at the folder's end is there, so the report has scores after the last stage alone: Last, but neither
    Avg nor forgetting.

    Args:
        session: Of a recipe that says how subspaces are activated and what is evaluated.
        folder: The output folder of a run, or one of its commits.

    Raises:
        FcitError: The folder was not made by such a recipe; the sentence names the key.
    """
    trained = TrainedRun.read(folder)
    _check(session, trained)
    args, scenario = session.args, session.scenario
    every = scenario.all_datasets()
    evaluator = session.evaluator(session.pipeline.label_sets(every, {}))
    evaluator.check(every)
    begin = time.perf_counter()
    progress = Progress()
    if args.fcit_zero_shot:
        untuned = evaluator.evaluate(session.first_state(), every, restricted=False)
        progress.zero_shot, progress.likelihood_untuned = untuned.free, untuned.likelihood or None
    scores = evaluator.evaluate(trained.state, every, args.fcit_eval_restricted != "false")
    progress.add_scores(scenario.num_stages - 1, scores.free, scores.restricted, scores.other, scores.likelihood)
    progress.seconds = dict.fromkeys(("total", "evaluate"), time.perf_counter() - begin)
    found = report_of(session, progress, tokens=trained.state.tokens)
    report = dataclasses.replace(found, avg=None, forgetting=None, bwt=None, fwt=None)
    if session.is_main:
        if args.fcit_save_predictions:
            stages = scenario.num_stages
            keep_answers(session.output_dir, stages - 1, scores.predictions, logger.warning_rank0, stages)
        report.write(session.output_dir)
        write_own_page(session.output_dir, session.request.typed, logger.warning_rank0)
        tell(table(report))
        logger.info_rank0(f"{folder} is evaluated; the report is in {session.output_dir}.")
    return report


def _check(session: Session, trained: TrainedRun) -> None:
    for key in _TOKENS:
        ours, theirs = getattr(session.args, f"fcit_{key}"), trained.manifest[key]
        if ours != theirs:
            raise FcitError(f"`fcit_{key}` is {ours!r}, but {trained.folder / MANIFEST} has {theirs!r}; give the run's own.")
    for k, subspace in enumerate(trained.state.subspaces):
        what = f"subspace in {trained.folder / subspace_folder(k)}"
        check_keys(session.program.blank, subspace, what)
        check_shapes(session.program.blank, subspace, what)
    theirs, ours = trained.source.adapter_config, adapter_config(session.model)
    for key in _SCALE:
        if theirs.get(key) != ours.get(key):
            raise FcitError(
                f"`{key}` is {ours.get(key)!r} in the recipe and {theirs.get(key)!r} in "
                f"{trained.source.adapter_config_file}; give the run's own."
            )
