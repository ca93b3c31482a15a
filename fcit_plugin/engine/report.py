"""The report of a session's run, and what tells that run apart."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from ..evaluation.report import Report
from ..evaluation.rows import Engine
from ..knowledge.identity_tokens import SubspaceTokens
from ..machine import machine
from ..state.progress import Progress
from ..state.report import make_report
from .fingerprint import names
from .session import Session

#: What decides last digits beside the recipe.
_PACKAGES = ("fcit-plugin", "llamafactory", "torch", "transformers", "peft")


def report_of(
    session: Session,
    progress: Progress,
    privacy: Mapping[str, Any] | None = None,
    tokens: SubspaceTokens | None = None,
) -> Report:
    """Return the report of what a session has measured.

    Args:
        session: of the recipe.
        progress: what was measured.
        privacy: what it has spent, from `federation.accounting`; None without noise.
        tokens: the subspaces' at its end; None where there are none to tell of.
    """
    given, scenario = session.request.given, session.scenario
    return make_report(
        progress,
        method=given.fcit_bound or given.fcit_method,
        reference=given.fcit_bound,
        setting=scenario.name if session.earlier is not None else given.fcit_setting,
        seed=session.training_args.seed,
        stages=[scenario.datasets_of_stage(t) for t in range(scenario.num_stages)],
        arguments=named_arguments(session),
        privacy=privacy,
        engine=engine_of(session),
        tokens=tokens,
    )


def engine_of(session: Session) -> Engine:
    """How a session computes."""
    pool, device = session.pool, session.training_args.device
    return Engine(
        name="flower" if session.sites is not None else "process" if pool is None else "parallel",
        processes=session.training_args.world_size if pool is None else pool.count,
        threads=torch.get_num_threads(),
        machine=machine(device),
        versions=", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    )


def named_arguments(session: Session) -> dict[str, Any]:
    """The keys that decide the run's numbers, and what it starts from by the names that those have in the recipe."""
    found = names(session.base_model, session.data_args, session.args)
    earlier = {} if session.earlier is None else {"adapter_name_or_path": str(session.earlier.folder)}
    return {**found, **earlier, **session.keys}
