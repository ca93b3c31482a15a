"""Records of earlier tasks that a client's model makes up itself, for methods that train on such ones."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from datasets import Dataset
from llamafactory.extras import logging

from ..adapters.lora import lora_parameters, write_shared, write_subspace
from ..arguments import FcitArguments
from ..continual.method import Recall
from ..data.answers import ASSISTANT
from ..data.instructions import opening_of, prompt_reader
from ..data.pipeline import Part, Pipeline, Split, TaskData
from ..errors import FcitError
from ..evaluation.answers import Answer
from ..federation.messages import ClientConfig
from ..knowledge.turns import Turns
from ..scenario.sampling import client_seed
from .evaluator import Evaluator
from .model_inputs import padding
from .processes import Processes

logger = logging.get_logger(__name__)

_MEDIA = ("_images", "_videos", "_audios")

#: Instructions that are drawn together. Torch draws for the rows of a batch in turn, so another number would draw others: it
#: must not be `per_device_eval_batch_size`, which changes no number of a training. Few, for a large model's memory.
_AT_ONCE = 8


def refuse_what_is_not_made_up(pipeline: Pipeline, names: Iterable[str], args: FcitArguments) -> None:
    """Refuse records that no model makes up, and templates without a beginning to make some up from.

    Args:
        pipeline: Has read the datasets.
        names: Those that are trained on.
        args: Our keys, which name the method.

    Raises:
        FcitError: The sentence names the dataset, or the template.
    """
    whose = f"`fcit_method: {args.fcit_method}` has the model make up records of earlier tasks"
    for name in names:
        rows = pipeline.train(name).rows
        if any(any(rows[column]) for column in _MEDIA):
            raise FcitError(
                f"{whose}, which are of text alone, and the dataset `{name}` has images, videos or audios; take another method."
            )
    opening = opening_of(pipeline.tokenizer, pipeline.template)
    try:
        prompt_reader(pipeline.tokenizer, pipeline.template)(opening)
    except FcitError:  # there is no mark, and the sentence speaks of serving
        opening = []
    if not opening:
        raise FcitError(
            f"{whose} from the beginning of a user's turn, and `template: {pipeline.data_args.template}` does not mark it; "
            "take another template or another method."
        )


class Writer:
    """Has a client's model make up records.

    Args:
        evaluator: Answers with the model that trains.
        processes: Those that train a client together, and so on the same records.
    """

    def __init__(self, evaluator: Evaluator, processes: Processes) -> None:
        self._evaluator = evaluator
        self._pipeline = evaluator.pipeline
        self._processes = processes
        self._kept: dict[tuple[str, int, int, int], list[Part]] = {}

    def check(self, names: Iterable[str]) -> None:
        """See :func:`refuse_what_is_not_made_up`; a client that is on its own has read no dataset before."""
        refuse_what_is_not_made_up(self._pipeline, names, self._evaluator.args)

    def records(self, config: ClientConfig, recall: Recall, count: int, like: TaskData) -> list[Part]:
        """The records of a client in a stage, the same ones in each of its rounds; the model has other weights afterwards.

        Args:
            config: The client's work.
            recall: What they are made up with.
            count: How many; where some cannot be used the others come more than once.
            like: Records in whose form they are.

        Returns:
            One part, or none if no record can be used, which the log says.
        """
        key = (config.run, config.stage, config.client, config.task)
        if key not in self._kept:
            self._kept = {other: part for other, part in self._kept.items() if other[:2] == key[:2]}
            made = self._processes.compute_on_main(lambda: self._make(config, recall, count, like.rows))
            if not made:
                logger.warning_rank0("The model has made up no record of earlier tasks that can be used.")
            chosen = [made[i % len(made)] for i in range(count)] if made else []
            self._kept[key] = [self._part(chosen, like.rows)] if chosen else []
        return self._kept[key]

    def _make(self, config: ClientConfig, recall: Recall, count: int, like: Dataset) -> list[tuple[str, str]]:
        """Instructions and answers."""
        evaluator, model = self._evaluator, self._evaluator.model
        own = lora_parameters(model)
        write_subspace(model, {key: value for key, value in recall.weights.items() if key in own})
        write_shared(model, {key: value for key, value in recall.weights.items() if key not in own})
        opening = opening_of(self._pipeline.tokenizer, self._pipeline.template)
        read = prompt_reader(self._pipeline.tokenizer, self._pipeline.template)
        seed = client_seed(self._pipeline.training_args.seed, config.stage, 0, config.client)
        was_training = model.training
        model.eval()
        try:
            with padding(self._pipeline.tokenizer, "left"):
                with _drawing(seed, next(model.parameters()).device):
                    drawn = evaluator.write(
                        [{"input_ids": opening, "attention_mask": [1] * len(opening)}] * count,
                        _AT_ONCE,
                        **{"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": recall.top_k},
                        max_new_tokens=recall.max_tokens,
                    )
                said = [text for ids in drawn if (text := read([*opening, *ids])[0])]
                if not said:
                    return []
                asked = _rows([(text, "") for text in said], like)
                answers = evaluator.write(
                    list(self._pipeline.tokenized(asked, "sft", generate=True, packing=False, workers=False))
                )
        finally:
            model.train(was_training)
        texts = [self._pipeline.answer_texts.generated(ids, ASSISTANT) for ids in answers]
        return [pair for pair in zip(said, texts, strict=True) if all(pair)]

    def _part(self, pairs: Sequence[tuple[str, str]], like: Dataset) -> Part:
        rows = _rows(pairs, like)
        features = self._pipeline.tokenized(rows, "sft", generate=False, packing=False, workers=False)
        said: list[Turns] = [(text,) for text, _ in pairs]
        answers: list[Answer] = [answer for _, answer in pairs]
        return TaskData((Split("", rows, features, said, answers, [ASSISTANT] * len(pairs)),)), np.arange(len(pairs))


def _rows(pairs: Sequence[tuple[str, str]], like: Dataset) -> Dataset:
    """Instructions and answers as LLaMA-Factory's converters write records."""
    blank = dict.fromkeys(like.column_names) | {"_system": "", "_tools": ""}
    rows = [
        blank | {"_prompt": [{"role": "user", "content": said}], "_response": [{"role": ASSISTANT, "content": answer}]}
        for said, answer in pairs
    ]
    return Dataset.from_list(rows, features=like.features)


@contextlib.contextmanager
def _drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block torch draws by this seed, and goes on afterwards as if it had not."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
