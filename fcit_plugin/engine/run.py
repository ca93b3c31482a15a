"""``stage: fcit``: the whole loop in this process, with evaluation, a commit after every round, and the report."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message, MessageType
from llamafactory.extras import logging
from llamafactory.extras.misc import count_parameters

from ..data.media import MEDIA, Media
from ..data.pipeline import Split
from ..federation.client import make_client_app
from ..federation.client_states import ClientStates
from ..federation.failures import naming_memory
from ..federation.folders import write_update
from ..federation.in_process_grid import InProcessGrid
from ..federation.messages import ClientConfig, config_of, config_record, told_loss
from ..federation.noise import Noise
from ..federation.parallel_grid import ParallelGrid
from ..federation.reply_cache import ReplyCache
from ..federation.run_secret import begin, go_on
from ..federation.server import run
from ..files import write_json
from ..plan.work import idle_note
from ..state.checkpoints import PROGRESS, RECIPE
from ..state.forms import NoiseForm
from ..state.names import UPDATES, update_name
from ..state.pages import write_typed
from ..state.predictions import commit_predictions, restore_predictions, take_predictions
from ..state.progress import Progress, Traffic
from ..state.server_state import ServerState, newly_alone, newly_shared
from .client_training import LocalTrainer
from .fingerprint import BASE_MODEL, EARLIER_RUN, digest_of, numbers
from .hub import Hub
from .monitor import Monitor
from .narration import Narration
from .outlook import Ahead, Outlook
from .quiet import light_garbage_collection, quiet_transformers
from .rehearsal import rehearse
from .report import named_arguments
from .results import write_results
from .scores import Scores, keep_answers
from .session import Session
from .sites import SiteWork, nobody

logger = logging.get_logger(__name__)

#: What makes memory enough for an evaluation.
EVALUATION_REMEDY = "Lower `per_device_eval_batch_size` and start again: the run goes on from the last reply that it has kept."


class FederatedRun:
    """All stages and rounds, from the beginning or from the session's commit."""

    monitor: Monitor

    def __init__(self, session: Session) -> None:
        self.session = session
        self.scenario = session.scenario
        self.args = session.args
        self.recipe = {"keys": session.keys, "data": self._data_keys()}
        self.untuned = session.first_state()
        self.clients = ClientStates() if session.start is None else session.start.client_states(session.processes)
        self.media = self._media()
        if session.start is not None:
            session.start.check("data", self.recipe["data"])
            self.state, self.progress, log = session.going_on_from(session.start)
        elif session.earlier is not None:
            self.state, self.progress, log = session.going_on_from(session.earlier)
        else:
            self.state, self.progress, log = self.untuned, Progress(), None
        self.progress.noise, noise = session.processes.from_main(self._noise() if session.processes.is_main else (None, None))
        session.use_noise(self.progress.noise, noise)
        self.local: LocalTrainer | SiteWork = (
            session.local(lambda config: self.monitor.client_callback(config), noise)
            if session.sites is None
            else SiteWork(self.scenario, session.sites.answers)
        )
        if session.pool is not None and self.args.fcit_identity_noise is not None:
            session.pool.send_all(("noise", noise))
        self.progress.encoder_choice = session.encoder_choice or self.progress.encoder_choice
        self.progress.labels = (
            session.pipeline.label_sets(session.trained_datasets, self.progress.labels)
            if session.sites is None
            else session.sites.labels(self.scenario.datasets_to_train(), self.progress.labels)
        )
        self.progress.left_out.update(session.pipeline.left_out())
        self.evaluator = session.evaluator(self.progress.labels)
        if self.args.fcit_eval_every != "never":
            self.evaluator.check(self.scenario.all_datasets())
        self.monitor = Monitor(
            session.training_args,
            self._total_steps(),
            self.progress.step,
            self.progress.seconds["total"],
            log,
            session.callbacks.of_run,
        )
        sites = None if session.sites is None else session.sites.names
        names = self.local.client_names() if isinstance(self.local, LocalTrainer) else sites
        self.narration = Narration(session.rounds, self.monitor.write, names, "site" if sites else "client")
        self.outlook = Outlook(session)
        self._round = (self.state.stage, self.state.round)
        self.progress.add_partition(self.local.partition_table())
        self.progress.name_clients(names or (), bool(sites), going_on=session.start is not None)

    def __call__(self) -> None:
        """Run what is left of it, then write the results."""
        session = self.session
        if session.start is None and session.program.num_stages:
            rehearse(session, self.evaluator, self.local, self._planned())
        pushes = session.training_args.push_to_hub and session.is_main
        hub = Hub(session.training_args, self.args.fcit_identity_encoder) if pushes else None
        self._clock = time.perf_counter() - self.progress.seconds["total"]
        idle = idle_note([self.local.why_idle(config) for config in self._planned()])
        if idle is not None:
            self.monitor.warn(idle)
        trained, whole = count_parameters(session.model)
        architecture = type(session.model.get_base_model()).__name__
        self.narration.run_begins(session.base_model, architecture, trained, whole - trained, self.outlook.records())
        if session.is_main:  # a run that is killed has its recipe, too
            write_typed(session.output_dir, session.request.typed)
        if session.start is None:
            self._begin()
        else:
            self._go_on()
        run_digest = digest_of({**numbers(session.keys, session.arguments), **self.recipe["data"]})
        grid = self._grid(run_digest)
        with quiet_transformers(), light_garbage_collection():
            self.state = run(session.program, self.state, grid, self, self.progress.traffic)
        self.monitor.close()
        if session.is_main:
            write_results(session, self.progress, self.state, self.monitor)
        if hub is not None:
            logger.info_rank0(f"Pushed to the hub: {hub.push()}.")

    def _grid(self, run_digest: str) -> InProcessGrid:
        """What carries requests to the clients: in this process, in other ones beside it, or at sites."""
        session, keeps = self.session, (self._replies, run_digest, self.monitor)
        if session.sites is not None:
            return session.sites.grid(ReplyCache(nobody, *keeps), self._heard)
        assert isinstance(self.local, LocalTrainer)
        app = make_client_app(self.local, session.program.form.key)
        kept = ReplyCache(app, *keeps, session.is_main, session.processes.from_main)
        nodes, timeout = range(self.args.fcit_num_clients), self.args.fcit_client_timeout
        if session.pool is not None:
            beside = (app, kept, self.monitor, self._cost)
            return ParallelGrid(session.pool, *beside, nodes, self._keep_update, timeout=timeout, states=self.clients)

        def arrived(request: Message, reply: Message) -> None:
            kept.arrived(request, reply)
            self._keep_update(request, reply)

        return InProcessGrid(
            kept, nodes, on_reply=arrived, timeout=timeout, states=self.clients, agree=session.processes.failure
        )

    def _heard(self, request: Message, reply: Message) -> None:
        """A site has answered: its steps count as done, and its loss stands in the log."""
        if request.metadata.message_type == MessageType.TRAIN and not reply.has_error():
            loss = told_loss(reply)
            self.monitor.site_trained(config_of(request), self.local.num_steps(config_of(request)), loss)
            self._keep_update(request, reply)

    def _noise(self) -> tuple[NoiseForm | None, Noise | None]:
        """Where the noise comes from, as the run began with it; None for a recipe without noise."""
        given, start, earlier = (self.args, self.session.training_args.seed), self.session.start, self.session.earlier
        if start is not None:
            return go_on(*given, self.progress.noise, start.folder)
        return begin(*given, self.progress.noise, None if earlier is None else earlier.folder)

    def _begin(self) -> None:
        arguments = named_arguments(self.session)
        self.progress.recipes.append({"stage": self.scenario.first_stage, "arguments": arguments, "data": self.recipe["data"]})
        if self.session.earlier is not None and self.session.is_main:
            take_predictions(self.session.output_dir, self.session.earlier.folder, self.scenario.first_stage)
        known = self.progress.zero_shot or {}
        unknown = [name for name in self.scenario.all_datasets() if name not in known]
        if self.args.fcit_eval_every != "never" and self.args.fcit_zero_shot and unknown:
            scores = self._evaluate(self.untuned, unknown, restricted=False)
            self.progress.zero_shot = {**known, **scores.free}
            self.progress.likelihood_untuned = {**(self.progress.likelihood_untuned or {}), **scores.likelihood} or None
            self.monitor.scalars({f"eval_zero_shot_{name}": value for name, value in scores.free.items()})
            self._keep_answers(None, scores)
        self._commit(self.state)

    def _go_on(self) -> None:
        session, start = self.session, self.session.start
        assert start is not None
        finished = self.state.stage == session.program.num_stages
        if finished:
            logger.info_rank0(f"The run in {session.output_dir} is finished; its report is written again.")
        if not session.is_main:
            return
        if not finished:
            session.clear_results()
        restore_predictions(session.output_dir, start.folder, self.state.stage)
        if start.is_in(session.checkpoints):
            session.checkpoints.go_back_to(start.number)
        else:
            self._commit(self.state)

    def clients_asked(self, asked: list[dict[str, Any]]) -> None:
        """See :class:`fcit_plugin.federation.server.RunObserver`."""
        program, tasks = self.session.program, [task.name for task in self.scenario.tasks]
        self.progress.list_sites(self._round[0])
        self.narration.round_begins(*self._round, asked, self.monitor.step)
        for row in asked:
            work = program.work_of(row["stage"], 0, row["client"], tasks.index(row["task"]))
            for task, records in self.local.reads(work).items():
                assert isinstance(self.local, LocalTrainer)  # of sites no records are read here
                self._read(self.local.task(task).splits, records)
        if self.args.fcit_identity_noise is not None:  # what their tokens spend
            self.progress.add_asked(asked)

    def reply_dropped(self, dropped: dict[str, Any]) -> None:
        """See :class:`fcit_plugin.federation.server.RunObserver`."""
        self.progress.dropped.append(dropped)
        self.narration.left_out(dropped["client"], dropped["reason"])
        self.monitor.warn(
            f"Stage {dropped['stage']} round {dropped['round']}: {self.narration.called([dropped['client']])} is left out: "
            f"{dropped['reason']}."
        )

    def round_ended(
        self,
        state: ServerState,
        assignments: list[dict[str, Any]],
        traffic: Traffic,
        loss: float,
        product_error: Mapping[int, float | None],
    ) -> None:
        """See :class:`fcit_plugin.federation.server.RunObserver`."""
        stage, round = assignments[0]["stage"], assignments[0]["round"]
        self.progress.assignments += assignments
        self.progress.idle += self._idle(assignments)
        errors = [{"stage": stage, "round": round, "subspace": k, "error": e} for k, e in sorted(product_error.items())]
        self.progress.product_errors += errors
        scalars = [
            {
                "loss": loss,
                "stage": stage,
                "subspaces": len(state.subspaces),
                "bytes_up": traffic.up,
                "bytes_down": traffic.down,
            }
        ]
        found = {row["subspace"]: row["error"] for row in errors if row["error"] is not None}
        scalars[0] |= {f"product_error_{k}": error for k, error in found.items()}
        if found:
            logger.debug("Stage %s round %s: relative error of the averaged products %s.", stage, round, found)
        self._round = (state.stage, state.round)
        ahead = Ahead(self.monitor.total_steps - self.monitor.step, self.outlook.answers(stage, round))
        self.narration.round_ended(stage, round, loss, len(state.subspaces), self.monitor.step, ahead)
        for task, k, before, cosine in newly_shared(state, assignments):
            self.monitor.write(
                f"Stage {stage} round {round}: subspace {k} of {', '.join(before)} is now that of {task}, too "
                f"(cosine {cosine:.2f}, `fcit_similarity_threshold` {self.args.fcit_similarity_threshold:g})."
            )
        for k, client in newly_alone(state, assignments):
            self.monitor.write(
                f"Stage {stage} round {round}: the new subspace {k} is unconfirmed until others than "
                f"{self.narration.called([client])} train it "
                "(`fcit_route_unconfirmed`)."
            )
        last_round = round + 1 == self.args.fcit_num_rounds
        last_stage = last_round and stage + 1 == self.scenario.num_stages
        if self.outlook.is_evaluated(stage, round):
            restricted = self.args.fcit_eval_restricted == "true" or (self.args.fcit_eval_restricted == "last" and last_stage)
            scores = self._evaluate(state, self.scenario.seen_datasets(stage), restricted)
            scalars.append({f"eval_{name}": value for name, value in scores.free.items()})
            scalars.append({f"eval_restricted_{name}": value for name, value in scores.restricted.items() if value is not None})
            scalars.append({f"eval_nll_{name}": value for name, value in scores.likelihood.items()})
            if last_round:
                self.progress.add_scores(stage, scores.free, scores.restricted, scores.other, scores.likelihood)
                self._keep_answers(stage, scores)
                matrix = self.progress.matrix
                scalars.append({"last": matrix.last, "avg": matrix.avg, "forgetting": matrix.forgetting})
            self.narration.scored(stage, round, scores.free, self.progress.matrix, self.progress.zero_shot or {})
        if last_round and self.session.sites is not None:
            self.progress.add_site_scores(self.session.sites.share(self.session, state, stage))
        for values in scalars:
            self.monitor.scalars(values)
        self._commit(state)

    def _media(self) -> Media:
        """The files of all records; those that are read at the start are what they were."""
        session, pipeline = self.session, self.session.pipeline
        splits = [pipeline.train(name) for name in session.trained_datasets]
        if self.args.fcit_eval_every != "never":
            splits += [pipeline.test(name) for name in self.scenario.all_datasets()]
        media = Media(splits if session.is_main else [], session.training_args.seed)
        record = None if session.start is None else session.start.folder / MEDIA
        unknown = session.processes.compute_on_main(lambda: media.begin(record, self.args.fcit_verify_data == "full"))
        if unknown:
            logger.warning_rank0(
                f"{unknown} media files that this run had not read yet have another time of change than before, such as a copy "
                "has; whether they are the same is not known (`fcit_verify_data: full` from the beginning would tell)."
            )
        return media

    def _read(self, splits: Sequence[Split], records: Iterable[int] | None = None) -> None:
        """Records of datasets one after the other are about to be read; None for all."""
        ends = np.cumsum([0, *map(len, splits)])
        chosen = np.arange(ends[-1]) if records is None else np.asarray(records)
        parts = [chosen[(begin <= chosen) & (chosen < end)] - begin for begin, end in pairwise(ends)]

        def look() -> None:
            for split, part in zip(splits, parts, strict=True):
                self.media.read(split.name, part)

        self.session.processes.compute_on_main(look)

    def _idle(self, assignments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Who of a round could not take a step, and why."""
        tasks = {task.name: number for number, task in enumerate(self.scenario.tasks)}
        found = []
        for row in assignments:
            config = self.session.program.work_of(row["stage"], row["round"], row["client"], tasks[row["task"]])
            if (reason := self.local.why_idle(config)) is not None:
                found.append({key: row[key] for key in ("stage", "round", "client")} | {"reason": f"it {reason}"})
        return found

    def _data_keys(self) -> dict[str, str | None]:
        """What lies in folders and decides the numbers."""
        session = self.session
        found: dict[str, str | None] = {**session.data, BASE_MODEL: session.base_fingerprint}
        return found if session.earlier is None else {**found, EARLIER_RUN: session.earlier.digest}

    def _number(self, stage: int, round: int) -> int:
        """Rounds before this one, over all stages."""
        return sum(self.session.rounds[:stage]) + round

    def _replies(self, stage: int, round: int) -> Path:
        return self.session.checkpoints.replies(self._number(stage, round))

    def _commit(self, state: ServerState) -> None:
        self.progress.step = self.monitor.step
        self.progress.seconds["total"] = time.perf_counter() - self._clock
        if not self.session.is_main:
            return

        def write(folder: Path) -> None:
            write_json(folder / PROGRESS, self.progress.to_dict())
            write_json(folder / RECIPE, self.recipe)
            self.monitor.write_log(folder)
            self.session.save(state, folder)
            self.clients.write(folder)
            self.media.write(folder)
            commit_predictions(self.session.output_dir, folder, state.stage)

        number = self._number(state.stage, state.round)
        self.session.checkpoints.commit(number, write)
        self.clients.read(self.session.checkpoints.path(number))

    def _total_steps(self) -> int:
        earlier = self.session.earlier.progress.step if self.session.earlier is not None else 0
        return earlier + sum(map(self.local.num_steps, self._planned()))

    def _planned(self) -> Iterator[ClientConfig]:
        """All local trainings of the run, as long as no client fails."""
        for stage in range(self.scenario.first_stage, self.session.program.num_stages):
            for round in range(self.args.fcit_num_rounds):
                yield from self.session.program.work(stage, round).values()

    def _cost(self, request: Message) -> int:
        """What a client's answer takes: the steps of a training; of a query the records of its task."""
        config = config_of(request)
        if request.metadata.message_type == MessageType.TRAIN:
            return self.local.num_steps(config)
        assert isinstance(self.local, LocalTrainer)  # processes beside this one have its records
        return len(self.local.task(config.task))

    def _evaluate(self, state: ServerState, names: Iterable[str], restricted: bool) -> Scores:
        start = time.perf_counter()
        names = list(names)
        self._read([self.session.pipeline.test(name).head(self.args.fcit_eval_samples) for name in names])
        with naming_memory("the evaluation", EVALUATION_REMEDY):
            scores = self.evaluator.evaluate(state, names, restricted)
        took = time.perf_counter() - start
        self.progress.seconds["evaluate"] += took
        self.narration.pace.answered(took, sum(map(self.outlook.num_tests, names)))
        return scores

    def _keep_answers(self, stage: int | None, scores: Scores) -> None:
        """Write the answers after a stage, None for those of the untuned model."""
        if self.session.is_main and self.args.fcit_save_predictions:
            keep_answers(self.session.output_dir, stage, scores.predictions, self.monitor.warn, self.scenario.num_stages)

    def _keep_update(self, request: Message, reply: Message) -> None:
        config = config_of(request)
        kept = self.args.fcit_keep_client_updates and config.subspace is not None and reply.has_content()
        if not kept or not self.session.is_main:
            return
        name = update_name(config.stage, config.round, config.client)
        write_update(self.session.output_dir / UPDATES / name, config_record(request), reply)
