"""Evaluation by generation: every sample through its own activation, batches of mixed datasets."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from llamafactory.data import SFTDataCollatorWith4DAttentionMask
from peft import PeftModel
from tqdm import tqdm
from transformers.integrations import is_deepspeed_zero3_enabled

from ..adapters.base_weights import BaseOnDemand
from ..adapters.lora import write_shared
from ..adapters.stacked import Activation, activated
from ..arguments import FcitArguments
from ..data.pipeline import Pipeline
from ..errors import FcitError
from ..knowledge.activation import Router
from ..knowledge.encoders import IdentityEncoder
from ..knowledge.images import Images, features_by_row, images_by_row
from ..knowledge.token_forms import FORMS
from ..knowledge.turns import Pixels, Turns
from ..state.server_state import ServerState
from .deepspeed import gathering
from .far_questions import FarQuestions
from .greedy import greedy
from .label_trees import LabelTrees, next_ids
from .likelihood import ANSWER_TOKENS, answer_losses, mean_losses
from .model_inputs import media_types, padding
from .prefetch import Prefetch
from .row import Row
from .scores import Sample, Scores, as_prediction, predictions

T = TypeVar("T")


class Sharing(Protocol):
    """Processes that share records, such as :class:`.processes.Processes`."""

    @property
    def rank(self) -> int:
        """The number of this process."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for them."""
        ...

    def gather(self, own: T) -> list[T]:
        """What each process has, by rank."""
        ...

    def compute_on_main(self, compute: Callable[[], T]) -> T:
        """What the main process alone computes."""
        ...


class Evaluator:
    """Answers the test records of datasets and scores the answers.

    Args:
        model: PEFT model that also trains.
        pipeline: Data.
        encoder: Identity encoder.
        args: The recipe's fcit keys.
        generating_args: LLaMA-Factory's generating arguments; decoding is greedy whatever they say.
        labels: The label set of each dataset, None where answers are open.
        processes: The processes of this run, which share the records.
        base_weights: The base weights, where the server changes them.
    """

    def __init__(
        self,
        model: PeftModel,
        pipeline: Pipeline,
        encoder: IdentityEncoder,
        args: FcitArguments,
        generating_args: Any,
        labels: Mapping[str, Sequence[str] | None],
        processes: Sharing,
        base_weights: BaseOnDemand | None = None,
    ) -> None:
        self.model = model
        self.pipeline = pipeline
        self.encoder = encoder
        self.args = args
        self.labels = labels
        self.processes = processes
        self.base_weights = base_weights
        self._far = FarQuestions()
        self.max_new_tokens = generating_args.max_new_tokens
        self.batch_size = pipeline.training_args.per_device_eval_batch_size
        self.stop_ids = pipeline.template.get_stop_token_ids(pipeline.tokenizer)
        self._collator = SFTDataCollatorWith4DAttentionMask(
            template=pipeline.template, model=None, pad_to_multiple_of=None, **pipeline.tokenizer_module
        )

    def evaluate(
        self, state: ServerState, names: Sequence[str], restricted: bool = True, router: Router | None = None
    ) -> Scores:
        """Score the model with the state's subspaces; without any, the untuned model.

        Args:
            state: Subspaces, tokens and shared trainables.
            names: Datasets.
            restricted: Whether to answer from the datasets' own labels too.
            router: Weighs the subspaces; None for the recipe's activation of the state's identity tokens.
        """
        samples = self._samples(names)
        write_shared(self.model, state.shared)
        if self.base_weights is not None:
            self.base_weights.write(state.base)
        if router is None:
            assert self.args.fcit_activation is not None  # the method gives what a recipe leaves out
            shape = self.args.fcit_activation, self.args.fcit_temperature, self.args.fcit_identity_turns
            routed = None if self.args.fcit_route_unconfirmed else state.confirmed
            given = FORMS[self.args.fcit_identity_form], state.own_cosines
            router = Router(self.encoder, state.tokens, *shape, None, routed, *given)
        router.forget()
        if state.subspaces:
            self.know(router, [turns for s in samples for turns in s.split.instructions])
        with self.answering(state) as activation, padding(self.pipeline.tokenizer, "left"):
            rows = [
                Row(s.name, i, feature, turns)
                for s in samples
                for i, (feature, turns) in enumerate(zip(s.split.features, s.split.instructions, strict=True))
            ]
            self._far = FarQuestions()
            free = self._generate(rows, router, activation, "Evaluating")
            weights = self._far.log(self.processes.gather, self.processes.is_main)
            closed = free if restricted else {}
            trees = {s.name: found for s in samples if (found := self._trees(s)) is not None} if closed else {}
            closed = {key: ids for key, ids in closed.items() if key[0] in trees}
            # an answer that is one of the labels already is what restricted decoding would give: it is not decoded again
            astray = [
                again for row in rows if row.key in closed for again in self._astray(row, closed[row.key], trees[row.name])
            ]
            closed |= self._generate(astray, router, activation, "Evaluating (label sets)")
            losses = self._losses(rows, router, activation)
        answers, in_labels = self._texts(samples, free), self._texts(samples, closed)
        scores = self.processes.compute_on_main(
            lambda: Scores(
                {s.name: s.score(s.scoring.main, answers) for s in samples},
                {s.name: s.score(s.scoring.main, in_labels) if s.name in in_labels else None for s in samples},
                {s.name: {name: s.score(name, answers) for name in s.scoring.also} for s in samples if s.scoring.also},
                mean_losses(losses),
            )
        )
        if not self.processes.is_main:
            return scores
        kept = predictions(samples, self.pipeline, (answers, in_labels), weights, self.args.fcit_save_predictions)
        return dataclasses.replace(scores, predictions=list(kept))

    def check(self, names: Sequence[str]) -> None:
        """Score the datasets' own answers: what a metric lacks, or cannot read, is better known before the training.

        Args:
            names: Datasets.

        Raises:
            FcitError: Answers of a dataset cannot be scored; the sentence names it.
        """
        samples = self._samples(names)

        def try_all() -> None:
            for sample in samples:
                answers = {sample.name: [as_prediction(answer) for answer in sample.split.answers]}
                for metric in (sample.scoring.main, *sample.scoring.also):
                    try:
                        sample.score(metric, answers)
                    except ValueError as error:
                        raise FcitError(f"The dataset {sample.name} cannot be scored by {metric}: {error}") from error

        self.processes.compute_on_main(try_all)

    def _samples(self, names: Sequence[str]) -> list[Sample]:
        return [
            Sample(name, self.pipeline.test(name).head(self.args.fcit_eval_samples), self.pipeline.catalogue.metrics(name))
            for name in names
        ]

    def know(self, router: Router, conversations: Sequence[Turns]) -> None:
        """Encode what is asked before the model answers, where processes with parts of the weights must do so together."""
        if is_deepspeed_zero3_enabled():
            router.know(conversations)

    @contextlib.contextmanager
    def answering(self, state: ServerState) -> Iterator[Activation | None]:
        """Within the block the model answers through the state's subspaces; None without any: as the untuned model."""
        was_training = self.model.training
        self.model.eval()
        try:
            if state.subspaces:
                with activated(self.model, state.subspaces, state.projectors) as activation, self._gathering():
                    yield activation
            else:
                with self.model.disable_adapter(), self._gathering():
                    yield None
        finally:
            self.model.train(was_training)

    def _gathering(self) -> contextlib.AbstractContextManager[None]:
        return gathering(self.model, self.pipeline.training_args)

    def _generate(
        self, rows: Sequence[Row], router: Router, activation: Activation | None, title: str
    ) -> dict[tuple[str, int], list[int]]:
        """The token ids generated for each row, by dataset and number of the record."""
        return self._share(rows, title, lambda *given: self.answer(given[0], router, activation, *given[1:]))

    def _losses(self, rows: Sequence[Row], router: Router, activation: Activation | None) -> dict[tuple[str, int], float]:
        """How unlikely the right answer of each row is, in nats a token; nothing where it is not asked for."""
        if not self.measures_likelihood:
            return {}
        rows = [row.answered() for row in rows if row.feature["labels"]]
        with padding(self.pipeline.tokenizer, "right"):  # positions count from the first token
            return self._share(
                rows, "Evaluating (likelihood)", lambda *given: self.losses(given[0], router, activation, *given[1:])
            )

    @property
    def measures_likelihood(self) -> bool:
        """Whether the likelihood of right answers is asked for; pairs have two answers."""
        return self.args.fcit_eval_likelihood and self.args.fcit_local_stage == "sft"

    def losses(
        self,
        batch: Sequence[Row],
        router: Router,
        activation: Activation | None,
        inputs: dict[str, Any] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[float]:
        """How unlikely the answers are that the rows of one batch end with (:meth:`Row.answered`); see :meth:`answer`."""
        inputs = self._ready(batch, router, activation, inputs, meanwhile)
        return answer_losses(self.model, inputs, [row.feature[ANSWER_TOKENS] for row in batch])

    def _share(
        self,
        rows: Sequence[Row],
        title: str,
        compute: Callable[[Sequence[Row], dict[str, Any], Callable[[], None]], Sequence[T]],
    ) -> dict[tuple[str, int], T]:
        """What is computed of each row, batch by batch and shared out to the processes, by dataset and number of the record."""
        rows = sorted(rows, key=lambda row: len(row.feature["input_ids"]))  # little padding; stable: always the same batches
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        processes = self.processes
        mine = [*range(processes.rank, len(batches), processes.count)]
        if is_deepspeed_zero3_enabled():  # the shards are gathered by all processes together: each does as many batches
            rounds = -(-len(batches) // processes.count)
            mine += [0] * (rounds - len(mine))
        silent = True if not processes.is_main or self.pipeline.training_args.disable_tqdm else None  # None: by the terminal
        found: dict[tuple[str, int], T] = {}
        with Prefetch(self._inputs, [batches[number] for number in mine]) as inputs:
            for number in tqdm(mine, desc=title, leave=False, disable=silent):
                batch = batches[number]
                computed = compute(batch, inputs.take(), inputs.prepare)
                found.update(zip([row.key for row in batch], computed, strict=True))
        return {key: answer for part in processes.gather(found) for key, answer in part.items()}

    def answer(
        self,
        batch: Sequence[Row],
        router: Router,
        activation: Activation | None,
        inputs: dict[str, Any] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
        **how: Any,
    ) -> list[list[int]]:
        """The token ids generated for the rows of one batch.

        Args:
            batch: The rows.
            router: Weighs the subspaces.
            activation: Takes the weights; None for the untuned model.
            inputs: The rows as the model takes them, if they are made already.
            meanwhile: Called before the model answers, to begin with something that goes on in another thread.
            how: Further arguments of ``generate``, which count more than those of greedy decoding.
        """
        inputs = self._ready(batch, router, activation, inputs, meanwhile)
        return self._generate_batch(batch, inputs, **how)

    def write(self, features: Sequence[dict[str, Any]], at_once: int | None = None, **how: Any) -> list[list[int]]:
        """The token ids that the model as it is, whatever its adapter holds, writes after each prompt; see :meth:`answer`.

        Args:
            features: The prompts.
            at_once: How many of them in a batch; None: as many as the recipe says.
            how: Further arguments of ``generate``.
        """
        rows = [Row("", number, feature, ()) for number, feature in enumerate(features)]
        size = at_once or self.batch_size
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        return [ids for batch in batches for ids in self._generate_batch(batch, self._inputs(batch), **how)]

    def _ready(
        self,
        batch: Sequence[Row],
        router: Router,
        activation: Activation | None,
        inputs: dict[str, Any] | None,
        meanwhile: Callable[[], None],
    ) -> dict[str, Any]:
        """The rows as the model takes them, with the subspaces weighed for them; see :meth:`answer`."""
        if inputs is None:
            inputs = self._inputs(batch)
        self._activate(batch, inputs, router, activation)
        meanwhile()
        return inputs

    def _activate(self, batch: Sequence[Row], inputs: dict[str, Any], router: Router, activation: Activation | None) -> None:
        """Weigh the subspaces for the rows of a batch; nothing for the untuned model."""
        if activation is not None:
            embedded, _ = router.listen([row.turns for row in batch], self._pixels(inputs))
            weights = torch.from_numpy(self._far.weights(router, [row.key for row in batch], embedded))
            activation.set(weights, image_tokens=features_by_row(inputs["input_ids"], inputs, self.model.config))

    def _pixels(self, inputs: dict[str, Any]) -> Pixels:
        """Gives the images of the prompts to an identity encoder that asks."""

        def pixels() -> list[Images | None]:
            return images_by_row(inputs["input_ids"], inputs["attention_mask"], Images.of(inputs), self.model.config)

        return pixels

    def _inputs(self, batch: Sequence[Row]) -> dict[str, Any]:
        """The prompts as the model takes them."""
        prompt = ("input_ids", "attention_mask", "images", "videos", "audios")
        inputs = self._collator([{key: row.feature.get(key) for key in prompt} | {"labels": [0]} for row in batch])
        inputs.pop("labels")
        device, dtype = next(self.model.parameters()).device, self.model.dtype
        for key, value in inputs.items():
            if torch.is_tensor(value):
                # pixels have the model's precision, as in LLaMA-Factory's chat; seconds are times, and tell positions
                is_cast = value.is_floating_point() and key != "second_per_grid_ts"
                inputs[key] = value.to(device, dtype if is_cast else None)
        return {**inputs, **media_types(self.model, inputs)}

    @torch.no_grad()  # not inference_mode: weights that ZeRO-3 gathers within it could not be trained on
    def _generate_batch(self, batch: Sequence[Row], inputs: dict[str, Any], **how: Any) -> list[list[int]]:
        length = inputs["input_ids"].shape[1]
        constraint: dict[str, Any] = {}
        trees = [row.tree for row in batch if row.tree is not None]
        if trees:  # all rows of a batch have one, or none has
            constraint["prefix_allowed_tokens_fn"] = lambda row, ids: next_ids(trees[row], ids[length:].tolist(), self.stop_ids)
        output = self.model.generate(
            **inputs,
            **{**greedy(), "max_new_tokens": self.max_new_tokens, **how},
            eos_token_id=self.stop_ids,
            pad_token_id=self.pipeline.tokenizer.pad_token_id,
            use_cache=True,
            synced_gpus=is_deepspeed_zero3_enabled() and self.processes.count > 1,
            **constraint,
        )
        return output[:, length:].tolist()

    def _texts(self, samples: Sequence[Sample], generated: dict[tuple[str, int], list[int]]) -> dict[str, list[str]]:
        """Answers by dataset, in the records' order."""
        texts = self.pipeline.answer_texts
        answers: dict[str, list[str]] = {}
        for sample in samples:
            for i, role in enumerate(sample.split.roles):
                if (sample.name, i) in generated:
                    answers.setdefault(sample.name, []).append(texts.generated(generated[sample.name, i], role))
        return answers

    def _trees(self, sample: Sample) -> LabelTrees | None:
        """The dataset's own labels; None where the answers are open."""
        labels = self.labels.get(sample.name)
        return None if labels is None else LabelTrees(self.pipeline.answer_texts, labels, {*sample.split.roles})

    def _astray(self, row: Row, ids: list[int], trees: LabelTrees) -> list[Row]:
        """The record to be answered once more, after its own thought and in labels; none if its free answer is a label."""
        detour = trees.detour(ids, self.max_new_tokens)
        if detour is None:
            return []
        thought = ids[: detour.start]
        ids, mask = [*row.feature["input_ids"], *thought], [*row.feature["attention_mask"], *[1] * len(thought)]
        return [dataclasses.replace(row, feature=row.feature | {"input_ids": ids, "attention_mask": mask}, tree=detour.tree)]
