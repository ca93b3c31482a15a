"""Local training of one client with LLaMA-Factory's own trainer and the recipe's own arguments."""

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import transformers
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import Trainer, TrainerCallback

from ..adapters.base_weights import BaseOnDemand
from ..adapters.lora import (
    Tensors,
    lora_parameters,
    read_shared,
    read_subspace,
    select_factors,
    shared_parameters,
    training_only,
    write_shared,
    write_subspace,
)
from ..adapters.stacked import frozen_beside
from ..arguments import FcitArguments
from ..arguments.round_order import RELAY
from ..continual.method import ContinualMethod
from ..continual.terms import BatchTerm, GradientTerm
from ..data.pipeline import Part, Pipeline, TaskData
from ..errors import FcitError
from ..federation.client import TrainingResult
from ..federation.in_process_grid import timeout_message
from ..federation.messages import BASE, ClientConfig
from ..federation.noise import Noise
from ..federation.rules import client_terms
from ..knowledge.encoders import IdentityEncoder
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from ..plan.work import optimizer_steps
from ..recipe.devices import deepspeed_config
from ..recipe.request import Request
from ..scenario.partition import Partition
from ..scenario.replay import earlier_tasks, kept_records
from ..scenario.sampling import client_seed
from ..scenario.tasks import Scenario
from .client_tokens import ClientTokens
from .client_trainer import as_it_was, hush, tear_down
from .deepspeed import StartFrom, keeping_config, keeping_precision, masters
from .idle import Piece, possible_pieces, why_idle
from .made_up_records import Writer
from .processes import Deadline, Processes
from .trainer_terms import AddTerms, KeptRecords, SampleGradients
from .trainers import LOCAL_STAGES


class LocalTrainer:
    """Implements :class:`fcit_plugin.federation.client.LocalTraining` on one loaded model.

    Args:
        model: PEFT model whose one adapter is the subspace in training.
        pipeline: Data.
        encoder: Identity encoder.
        scenario: Tasks.
        method: The continual method.
        args: Our keys.
        finetuning_args: LLaMA-Factory's fine-tuning arguments.
        processes: The processes of this run.
        partition: Who has which records; None where a site has its own.
        own_datasets: A site's own datasets, in place of its part of the partition.
        base_weights: The base weights, where the server changes them.
        make_callback: Makes the callback that reports a client's steps.
        callbacks: Those of LLaMA-Factory's and of the user's that see each client's training.
        noise: Where the noise on tokens comes from; None for those who make none.
        writer: Makes up records of earlier tasks; None if the method wants none.
        piece: Which piece of a schedule a client has, by round, place in its chain, and links of that.
    """

    def __init__(
        self,
        model: PeftModel,
        pipeline: Pipeline,
        encoder: IdentityEncoder,
        scenario: Scenario,
        method: ContinualMethod,
        args: FcitArguments,
        finetuning_args: Any,
        processes: Processes,
        partition: Partition | None,
        own_datasets: list[str],
        base_weights: BaseOnDemand | None = None,
        make_callback: Callable[[ClientConfig], TrainerCallback] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        noise: Noise | None = None,
        writer: Writer | None = None,
        piece: Callable[[int, int, int], Piece] = lambda round, place, links: None,
    ) -> None:
        self.model = model
        self.pipeline = pipeline
        self.encoder = encoder
        self.scenario = scenario
        self.method = method
        self.finetuning_args = finetuning_args
        self.args = args
        self.processes = processes
        self.partition = partition
        self.own_datasets = own_datasets
        self.base_weights = base_weights
        self.make_callback = make_callback
        self.callbacks = callbacks
        self.writer = writer
        self.piece = piece
        self._tasks: dict[int, TaskData] = {}
        self._idle: dict[tuple[int | None, int, int, Piece, int], str | None] = {}
        of_records = partition, self.task, self.records
        self.tokens = ClientTokens(pipeline, encoder, method, args, *of_records, noise, base_weights)
        self.stage = LOCAL_STAGES[self.args.fcit_local_stage]
        self._collator = self.stage.make_collator(pipeline, model)

    def task(self, index: int) -> TaskData:
        """The training records of a task."""
        if index not in self._tasks:
            names = self.own_datasets or self.scenario.tasks[index].datasets
            if self.writer is not None:
                self.writer.check(names)
            self._tasks[index] = TaskData(tuple(self.pipeline.train(name) for name in names))
        return self._tasks[index]

    def records(self, client: int, task: int) -> np.ndarray:
        """Indices of the client's records in the task, int64, ascending."""
        if self.partition is None:
            return np.arange(len(self.task(task)))
        return self.partition.parts(task)[client]

    def partition_table(self) -> list[dict[str, Any]]:
        """How many records of each dataset each client has, of the tasks that were dealt out."""
        assert self.partition is not None  # a run deals the records out, a site of its own does not
        return self.partition.table(self.partition.dealt())

    def client_names(self) -> list[str] | None:
        """What the records call the clients, by their numbers; None where they have numbers alone."""
        return None if self.partition is None else self.partition.client_names()

    def num_steps(self, config: ClientConfig, processes: int | None = None) -> int:
        """Optimizer steps of a client's local training.

        Args:
            config: The client's work.
            processes: Processes that share each step; default: those of this run.
        """
        args = self.pipeline.training_args
        return optimizer_steps(
            self._num_samples(config),
            batch=args.per_device_train_batch_size,
            processes=processes or args.world_size,
            accumulation=args.gradient_accumulation_steps,
            epochs=args.num_train_epochs,
            max_steps=args.max_steps,
            drop_last=args.dataloader_drop_last,
        )

    def why_idle(self, config: ClientConfig, processes: int | None = None) -> str | None:
        """Why a client's local training cannot take a step, None where it can; the arguments are those of :meth:`num_steps`."""
        records, steps = self._num_samples(config), self.num_steps(config, processes)
        args = self.pipeline.training_args
        key = (records if steps == 0 else None, steps, processes or args.world_size, config.link, config.round)
        if key not in self._idle:
            pieces: Iterable[Piece] = (config.link,)
            if config.link is None:  # a plan, which knows the round, and in a relay not the place
                longest = self.args.fcit_clients_per_round if self.args.fcit_round_order == RELAY else 1
                pieces = possible_pieces(self.piece, config.round, longest)
            self._idle[key] = why_idle(args, records, steps, key[2], pieces, known=self._knows_schedule)
        return self._idle[key]

    @cached_property
    def _knows_schedule(self) -> bool:
        """Whether the schedule is the Trainer's; a dry run has DeepSpeed's configuration beside the recipe."""
        request = Request.of(self.finetuning_args)
        aside = {} if request is None else request.aside
        return "scheduler" not in (deepspeed_config(aside.get("deepspeed", self.pipeline.training_args.deepspeed)) or {})

    def _num_samples(self, config: ClientConfig) -> int:
        """What the trainer takes, of the client's records and of those that its model makes up."""
        made_up = self.method.num_recalled(config.stage, len(self.records(config.client, config.task)))
        return self.pipeline.num_samples(self._parts(config)) + made_up

    def token(self, config: ClientConfig) -> ClientToken | WithoutToken:
        """See :meth:`.client_tokens.ClientTokens.of`."""
        return self.tokens.of(config.client, config.task)

    def choose(self, config: ClientConfig, tokens: SubspaceTokens) -> int | None:
        """See :meth:`.client_tokens.ClientTokens.choose`."""
        return self.tokens.choose(config, tokens)

    def know(self, config: ClientConfig, token: ClientToken) -> None:
        """Take a client's token that another process has made."""
        self.tokens.know(config, token)

    def train(self, config: ClientConfig, subspace: Tensors, shared: Tensors, extras: Mapping[str, Tensors]) -> TrainingResult:
        """Train from the given weights with a fresh optimizer and schedule.

        Raises:
            FcitError: The client's records make no batch.
        """
        if self.num_steps(config) == 0:
            raise FcitError(f"it {self.why_idle(config)}")
        made_up = self._made_up(config, extras)
        write_subspace(self.model, subspace)
        write_shared(self.model, shared)
        if self.base_weights is not None:
            self.base_weights.write(extras.get(BASE, {}))
        start = {**subspace, **shared}
        trainer = self.trainer(config, self.features(config, made_up), self.callbacks, self.method.batch_terms(extras))
        if self.make_callback is not None:
            trainer.add_callback(self.make_callback(config))
        timeout = self.args.fcit_client_timeout
        if timeout is not None:
            trainer.add_callback(Deadline(timeout, self.processes, timeout_message(timeout), time.monotonic))
        factors, others = lora_parameters(self.model), shared_parameters(self.model)
        weights, trained = {**factors, **others}, {**select_factors(factors, config.trains), **others}
        terms = [
            *self.method.terms(extras),
            *self._memory_terms(config, trainer, weights),
            *client_terms(config, start, extras),
        ]
        if terms:
            trainer.add_callback(AddTerms(terms, weights))
        engine = trainer.is_deepspeed_enabled
        if engine:
            trainer.add_callback(StartFrom(trained, start))
        with (
            as_it_was(self.model),
            keeping_precision(weights),
            keeping_config(self.pipeline.training_args),
            frozen_beside(self.model, self.method.frozen_subspaces(extras)),
        ):
            try:
                with training_only(factors, trained):
                    loss = trainer.train().training_loss
                final = masters(trained) if engine else {}
                measured = self._measured(config, trainer, terms)
            finally:
                tear_down(trainer)
        final = final or {**read_subspace(self.model), **read_shared(self.model)}
        moved, moved_others = ({key: final[key] for key in part if key in trained} for part in (factors, others))
        return TrainingResult(moved, moved_others, float(loss), measured)

    def trainer(
        self,
        config: ClientConfig,
        features: Dataset,
        callbacks: Sequence[TrainerCallback] = (),
        batch_terms: Sequence[BatchTerm] = (),
    ) -> Trainer:
        """LLaMA-Factory's trainer for a client.

        Args:
            config: The client's work.
            features: What it trains on.
            callbacks: Who hears of it.
            batch_terms: What is added to the loss of each batch.
        """
        trainer: Trainer = self.stage.trainer(
            model=self.model,
            args=self._client_args(config),
            finetuning_args=self.finetuning_args,
            data_collator=self._collator,
            train_dataset=features,
            callbacks=list(callbacks),
            batch_terms=batch_terms,
            projector_learning_rate=self.args.fcit_projector_learning_rate,
            link=config.link,
            **self.pipeline.tokenizer_module,
        )
        hush(trainer)
        return trainer

    def features(self, config: ClientConfig, made_up: Sequence[Part] = ()) -> Dataset:
        """What the trainer takes of the client's records, and of made-up ones."""
        return self.pipeline.samples([*self._parts(config), *made_up])

    def _made_up(self, config: ClientConfig, extras: Mapping[str, Tensors]) -> list[Part]:
        """Records of earlier tasks as the model remembers them; the model has other weights then."""
        recall = self.method.recall(extras)
        count = self.method.num_recalled(config.stage, len(self.records(config.client, config.task)))
        if recall is None or not count:
            return []
        assert self.writer is not None  # a session makes one for methods that want records
        return self.writer.records(config, recall, count, like=self.task(config.task))

    def _parts(self, config: ClientConfig) -> list[Part]:
        """The records that the client trains on: those of its own task, and what it rehearses of others."""
        trained = self.reads(config) if self.method.rehearses else {config.task: self.records(config.client, config.task)}
        return [(self.task(task), records) for task, records in trained.items()]

    def reads(self, config: ClientConfig) -> dict[int, np.ndarray]:
        """By task the indices of the records that a client needs: all of its own task, and what it has kept of others."""
        return {config.task: self.records(config.client, config.task)} | self._remembered(config)

    def _remembered(self, config: ClientConfig) -> dict[int, np.ndarray]:
        """By task the indices of the records that a client has kept of other tasks, which it has worked on before."""
        client, task, found = config.client, config.task, {}
        if count := self.method.num_remembered():
            args, seed = self.args, self.pipeline.training_args.seed
            earlier = earlier_tasks(
                self.scenario,
                num_clients=args.fcit_num_clients,
                per_round=args.fcit_clients_per_round,
                num_rounds=args.fcit_num_rounds,
                seed=seed,
                client=client,
                stage=config.stage,
            )
            for other in earlier:
                if other != task:
                    found[other] = kept_records(self.records(client, other), count, seed=seed, client=client, task=other)
        return found

    def _memory_terms(self, config: ClientConfig, trainer: Trainer, weights: Mapping[str, nn.Parameter]) -> list[GradientTerm]:
        """The method's terms that look at what the client has kept."""
        kept = [] if self.method.rehearses else [(self.task(task), rows) for task, rows in self._remembered(config).items()]
        return self.method.memory_terms(KeptRecords(trainer, self.pipeline.samples(kept), weights)) if kept else []

    def _measured(self, config: ClientConfig, trainer: Trainer, terms: Sequence[GradientTerm]) -> dict[str, Tensors]:
        """The records that the request wants beside the weights."""
        found = {name: state for term in terms for name, state in term.measured().items()}
        if any(name not in found for name in config.wants):
            found |= self.method.measure(SampleGradients(trainer))
        return {name: found[name] for name in config.wants}

    def _client_args(self, config: ClientConfig):
        """The recipe's training arguments with the client's own seed, and without what the run does itself.

        They are the client's own down to the last part: LLaMA-Factory, transformers and DeepSpeed write the numbers of one
        training into them, such as the steps of its schedule in the place of ``auto``.
        """
        given = self.pipeline.training_args
        shared = given.distributed_state  # what the process knows of the others is one for all
        args = copy.deepcopy(given, {id(shared): shared})
        args.seed = args.data_seed = client_seed(args.seed, config.stage, config.round, config.client)
        args.save_strategy = args.eval_strategy = transformers.trainer_utils.IntervalStrategy.NO
        args.eval_on_start = args.batch_eval_metrics = False  # of an evaluation that clients do not have
        args.report_to = []
        args.disable_tqdm = True
        args.push_to_hub = False
        args.resume_from_checkpoint = None
        return args
