"""The three fcit stages: the whole loop, one client of one round, and the aggregator."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from llamafactory.extras import logging

from ..evaluation.matrix import AccuracyMatrix
from ..evaluation.plots import plot_training_loss
from ..evaluation.report import build_report, model_card, table, write_report
from ..federation.client import make_client_app
from ..federation.folders import read_update, write_update
from ..federation.grid import InProcessGrid, ask
from ..federation.messages import CONFIG, config_of
from ..federation.round import configure
from ..federation.server import Program, RoundFailed, Traffic, run, too_few, train_round
from ..federation.state import SHARED, ServerState, write_bytes
from ..federation.validation import judge_tokens
from ..knowledge.organizer import Assignment
from .dry_run import DrySession, dry_run
from .evaluator import Evaluator, Scores
from .local import light_garbage_collection, quiet_transformers
from .monitor import Monitor
from .session import CARD, LOSS_PNG, Session

logger = logging.get_logger(__name__)


class FederatedRun:
    """``stage: fcit``: all stages and rounds in this process, evaluation, and the report."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.scenario = session.scenario
        self.args = session.args
        self.evaluator = Evaluator(
            session.model, session.pipeline, session.encoder, session.args, session.generating_args
        )
        self.local = session.local(lambda config: self.monitor.client_callback(config))
        self.monitor = Monitor(session.training_args, self._total_steps())
        self.matrix = AccuracyMatrix()
        self.restricted: list[dict[str, float | None]] = []
        self.other: list[dict[str, dict[str, float]]] = []
        self.zero_shot: dict[str, float] | None = None
        self.assignments: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        self.traffic = Traffic()
        self.seconds = {"total": 0.0, "train": 0.0, "evaluate": 0.0}

    def _total_steps(self) -> int:
        return sum(
            self.local.num_steps(client, config["task"])
            for stage in range(self.scenario.num_stages)
            for round in range(self.args.fcit_num_rounds)
            for client, config in self.session.program.work(stage, round).items()
        )

    def __call__(self) -> None:
        start = time.perf_counter()
        session = self.session
        state = session.first_state()
        if self.args.fcit_eval_every != "never":
            self.evaluator.check(self.scenario.all_datasets())
        if self.args.fcit_eval_every != "never" and self.args.fcit_zero_shot:
            self.zero_shot = self._evaluate(state, self.scenario.all_datasets()).free
            self.monitor.scalars({f"eval_zero_shot_{name}": value for name, value in self.zero_shot.items()})
        app = make_client_app(self.local)
        grid = InProcessGrid(
            app,
            range(self.args.fcit_num_clients),
            on_reply=self._keep_update,
            timeout=self.args.fcit_client_timeout,
            agree=session.agreement.failure,
        )
        with quiet_transformers(), light_garbage_collection():
            run(session.program, state, grid, self, self.traffic)
        self.monitor.close()
        self.seconds["total"] = time.perf_counter() - start
        self.seconds["train"] = self.seconds["total"] - self.seconds["evaluate"]
        if session.is_main:
            self._report()

    def reply_dropped(self, dropped: dict[str, Any]) -> None:
        """See :class:`fcit_plugin.federation.server.RunObserver`."""
        self.dropped.append(dropped)
        self.monitor.warn(
            f"Stage {dropped['stage']} round {dropped['round']}: client {dropped['client']} is left out: {dropped['reason']}."
        )

    def round_ended(
        self, state: ServerState, assignments: list[dict[str, Any]], traffic: Traffic, loss: float
    ) -> None:
        """See :class:`fcit_plugin.federation.server.RunObserver`."""
        stage, round = assignments[0]["stage"], assignments[0]["round"]
        self.assignments += assignments
        self.session.save(state, self.session.output_dir)
        self.monitor.scalars(
            {
                "loss": loss,
                "stage": stage,
                "subspaces": len(state.subspaces),
                "bytes_up": traffic.up,
                "bytes_down": traffic.down,
            }
        )
        last_round = round + 1 == self.args.fcit_num_rounds
        if self.args.fcit_eval_every == "round" or (self.args.fcit_eval_every == "stage" and last_round):
            scores = self._evaluate(state, self.scenario.seen_datasets(stage))
            self.monitor.scalars({f"eval_{name}": value for name, value in scores.free.items()})
            self.monitor.scalars(
                {f"eval_restricted_{name}": value for name, value in scores.restricted.items() if value is not None}
            )
            if last_round:
                self.matrix.add(stage, scores.free)
                self.restricted.append(scores.restricted)
                self.other.append(scores.other)
            mean = sum(scores.free.values()) / len(scores.free)
            self.monitor.write(
                f"Stage {stage} round {round}: {len(state.subspaces)} subspaces, "
                f"mean score {mean:.2f} over {len(scores.free)} data sets seen."
            )

    def _evaluate(self, state: ServerState, names) -> Scores:
        start = time.perf_counter()
        scores = self.evaluator.evaluate(state, names)
        self.seconds["evaluate"] += time.perf_counter() - start
        return scores

    def _keep_update(self, request: Message, reply: Message) -> None:
        config = config_of(request)
        kept = self.args.fcit_keep_client_updates and "subspace" in config and reply.has_content()
        if not kept or not self.session.is_main:
            return
        name = f"stage{config['stage']}_round{config['round']}_client{config['client']}"
        write_update(self.session.output_dir / "updates" / name, config, reply)

    def _report(self) -> None:
        output_dir = self.session.output_dir
        plot_training_loss(
            [{"step": e["current_steps"], "loss": e["loss"], "stage": e["stage"]} for e in self.monitor.log],
            output_dir / LOSS_PNG,
        )
        report = build_report(
            method=self.args.fcit_method,
            setting=self.args.fcit_setting,
            seed=self.session.training_args.seed,
            stages=[list(self.scenario.datasets_of_stage(t)) for t in range(self.scenario.num_stages)],
            matrix=self.matrix,
            restricted=self.restricted,
            other=self.other,
            zero_shot=self.zero_shot,
            bytes_up=self.traffic.up,
            bytes_down=self.traffic.down,
            assignments=self.assignments,
            dropped=self.dropped,
            seconds={key: round(value, 2) for key, value in self.seconds.items()},
            partition=self.local.partition.table(self.local.partition.dealt()),
        )
        write_report(report, output_dir)
        card = model_card(
            report,
            self.session.base_model,
            self.session.data_args.template,
            SHARED if (output_dir / SHARED).exists() else None,
        )
        write_bytes(output_dir / CARD, card.encode())
        print(table(report))
        logger.info_rank0(f"Subspaces, report and pictures are in {output_dir}.")


def run_client(session: Session) -> None:
    """``stage: fcit_client``: train one client for one round and write its update folder to ``output_dir``.

    The client finds its own subspace: the server's state holds the identity tokens, so nothing has to be asked.
    """
    args, program = session.args, session.program
    state = session.load_state()
    client = args.fcit_client
    sampled = program.work(state.stage, state.round)
    if session.own_datasets:
        task = sampled[client]["task"] if client in sampled else 0
        config = program.work_of(state.stage, state.round, client, task)
    elif client in sampled:
        config = sampled[client]
    else:
        raise ValueError(
            f"Client {client} is not sampled in stage {state.stage}, round {state.round}; "
            f"the clients of this round are {sorted(sampled)} (`fcit_client`)."
        )
    local = session.local()
    mean, _, _ = local.token(config)
    own = program.organizer.own_subspace(mean, state.tokens)
    k = len(state.subspaces) if own is None else own
    opened = (k,) if own is None else ()
    assignment = Assignment({client: k}, {}, opened, frozenset([client] if opened else ()))
    rules, fresh = program.rules(state), program.fresh(state.stage)
    requests = configure(state, rules, assignment, fresh, {client: config})
    with quiet_transformers():
        reply = ask(make_client_app(local), requests[client])
    if session.is_main:
        write_update(session.output_dir, config, reply)
        logger.info_rank0(f"The update of client {client} is in {session.output_dir}.")


def run_aggregate(session: Session) -> None:
    """``stage: fcit_aggregate``: fold update folders into the server state, and write the next one to ``output_dir``.

    Without ``fcit_state_dir`` it writes the state before the first round.
    """
    args, program = session.args, session.program
    if args.fcit_state_dir is None:
        session.save(session.first_state(), session.output_dir)
        logger.info_rank0(f"The first server state is in {session.output_dir}.")
        return
    state = session.load_state()
    updates, reasons = _read_updates(args.fcit_update_dirs or [])
    work = _work_of(updates, state, program)
    asked = {
        client: Message(RecordDict({CONFIG: config}), dst_node_id=client, message_type=MessageType.TRAIN)
        for client, config in work.items()
    }
    tokens, dropped = judge_tokens(asked, updates.values(), program.bounds(state))
    good = [reply for reply in updates.values() if reply.metadata.src_node_id in tokens]
    done, not_folded = train_round(program, state, work, tokens, lambda requests: good)
    for client, reason in (dropped | not_folded).items():
        folders = [folder for folder, reply in updates.items() if reply.metadata.src_node_id == client]
        reasons.append(f"{', '.join(folders)} of client {client}: {reason}")
    for reason in reasons:
        logger.warning_rank0(f"An update is left out: {reason.rstrip('.')}.")
    if done is None:
        raise RoundFailed(too_few(program, state, reasons, f"with {len(updates)} readable update folders"))
    session.save(done.state, session.output_dir)
    logger.info_rank0(f"{len(done.replies)} updates are folded in; the next server state is in {session.output_dir}.")


def _read_updates(folders: list[str]) -> tuple[dict[str, Message], list[str]]:
    """The replies in update folders, by folder, and why others cannot be read.

    A name that is no folder is the caller's slip and refused; what is in a folder is the client's.
    """
    updates, reasons = {}, []
    for folder in folders:
        if not Path(folder).is_dir():
            raise ValueError(f"`fcit_update_dirs`: {folder} is no folder.")
        if folder in updates:
            raise ValueError(f"`fcit_update_dirs`: {folder} appears twice.")
        try:
            _, updates[folder] = read_update(Path(folder))
        except ValueError as error:
            reasons.append(str(error))
    if not folders:
        raise ValueError("`fcit_update_dirs` names no update folder; there is nothing to aggregate.")
    return updates, reasons


def _work_of(updates: Mapping[str, Message], state: ServerState, program: Program) -> dict[int, ConfigRecord]:
    """What the clients of some updates had to do in this round: only the task is theirs to say, if there is such a one."""
    sampled, work = program.work(state.stage, state.round), {}
    for reply in updates.values():
        client, task = reply.metadata.src_node_id, config_of(reply)["task"]
        if task not in range(len(program.scenario.tasks)):
            task = sampled[client]["task"] if client in sampled else 0
        if client in range(program.args.fcit_num_clients):
            work[client] = program.work_of(state.stage, state.round, client, int(task))
    return work


def run_stage(stage: str, *llamafactory_args: Any) -> None:
    """Run an fcit stage with LLaMA-Factory's five argument objects."""
    if llamafactory_args[3].fcit.fcit_dry_run:
        dry_run(DrySession(*llamafactory_args))
        return
    session = Session(*llamafactory_args)
    {"fcit": lambda s: FederatedRun(s)(), "fcit_client": run_client, "fcit_aggregate": run_aggregate}[stage](session)
    if dist.is_initialized():
        dist.barrier()
