"""What a run leaves in its output folder when it is over."""

from collections.abc import Iterable

from llamafactory.extras import logging

from ..errors import tell
from ..evaluation.card import model_card
from ..evaluation.pictures import is_drawn
from ..evaluation.plots import plot_training_loss
from ..evaluation.report import CARD, table
from ..federation.accounting import spent
from ..files import write_json, write_text
from ..state.checkpoints import PROGRESS
from ..state.names import SHARED
from ..state.pages import write_own_page
from ..state.progress import Progress
from ..state.server_state import ServerState
from .monitor import Monitor
from .report import report_of
from .session import LOSS_PNG, Session

logger = logging.get_logger(__name__)


def write_results(session: Session, progress: Progress, state: ServerState, monitor: Monitor) -> None:
    """Write the report, the pictures, the model card, and the state folder, whose manifest comes last.

    Args:
        session: The run's.
        progress: What it has measured.
        state: What it has learned.
        monitor: Has its log.
    """
    output_dir = session.output_dir
    losses = [{"step": e["current_steps"], "loss": e["loss"], "stage": e["stage"]} for e in monitor.log]
    is_drawn(lambda path: plot_training_loss(losses, path), output_dir / LOSS_PNG)
    privacy = spent(session.args, progress.assignments, progress.asked, session.scenario.num_stages)
    report = report_of(session, progress, privacy, state.tokens)
    report.write(output_dir)
    card = model_card(
        report,
        session.base_model,
        session.data_args.template,
        metrics=_metrics(session, report.datasets),
        pipeline_tag="text-generation" if session.pipeline.tokenizer_module["processor"] is None else "image-text-to-text",
        shared=SHARED if state.shared else None,
    )
    write_text(output_dir / CARD, card)
    write_json(output_dir / PROGRESS, progress.to_dict())
    write_own_page(output_dir, session.request.typed, monitor.warn)
    session.save(state, output_dir)
    tell(table(report))
    logger.info_rank0(f"Subspaces, report and pictures are in {output_dir}.")


def _metrics(session: Session, names: Iterable[str]) -> dict[str, str]:
    """The metric that gives each dataset's score."""
    if session.args.fcit_eval_every == "never":
        return {}
    return {name: session.catalogue.metrics(name).main for name in names}
