"""Data through LLaMA-Factory's own pipeline: each dataset is read and tokenized once, clients select indices."""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from datasets import Dataset, concatenate_datasets
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.loader import _get_dataset_processor, _get_preprocessed_dataset
from llamafactory.data.processor.processor_utils import greedy_knapsack
from llamafactory.extras import logging
from pyarrow.compute import list_value_length

from ..errors import FcitError
from ..evaluation.answers import Answer
from ..evaluation.metrics import label_set
from ..fcit_benchmark.records import BrokenFile
from ..fcit_benchmark.references import match_references
from ..knowledge.turns import Turns
from .answers import ASSISTANT, AnswerTexts, message_of
from .catalogue import Catalogue
from .converter import RECORD
from .diagnosis import diagnosed_rows, place_of
from .forms import Use
from .instructions import user_turns
from .named import ForTest, Named
from .pixels import PixelReader
from .quiet import quiet_datasets
from .raw_files import TrainFiles
from .reading import refuse_empty, refuse_images, used_records
from .record_images import RecordImages, images_of_records, numbers_of_media
from .telling_order import telling_order

logger = logging.get_logger(__name__)

#: Columns of the standard form that are null in records without.
_MEDIA = ("_images", "_videos", "_audios")
#: What LLaMA-Factory calls the two answers of a pair.
_PAIR = ("chosen", "rejected")


@dataclass(frozen=True)
class Split:
    """One dataset, train or test.

    Attributes:
        name: Its name in ``dataset_info.json``.
        rows: The records in LLaMA-Factory's standard form.
        features: What its tokenization gave, one row per record.
        instructions: What the user of each record says, turn by turn, without media tags.
        answers: What each record's answer is compared with: a text, several texts, or four numbers (x1, y1, x2, y2).
        roles: Of each record's answer: an assistant's text or a tool call.
        kept: The index of each record among all of the dataset.
        left_out: How many records are not used, as LLaMA-Factory does not use them.
    """

    name: str
    rows: Dataset
    features: Dataset
    instructions: list[Turns]
    answers: list[Answer]
    roles: list[str]
    kept: Sequence[int] = ()
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.instructions)

    @cached_property
    def images(self) -> list[RecordImages]:
        """The images of each record."""
        return images_of_records(self.rows)

    def head(self, count: int | None) -> "Split":
        """The first records."""
        if count is None or count >= len(self):
            return self
        rows, features = (part.select(range(count)) for part in (self.rows, self.features))
        first = self.instructions[:count], self.answers[:count], self.roles[:count], self.kept[:count]
        return Split(self.name, rows, features, *first, self.left_out)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each record that was tokenized, the longest of its sequences, int64."""
        known = ("input_ids", *(f"{one}_input_ids" for one in _PAIR))
        columns = [name for name in known if name in self.features.column_names]
        table = self.features.select_columns(columns).with_format("arrow")[:]
        return np.max([list_value_length(table[name]).to_numpy() for name in columns], axis=0).astype(np.int64)


class Pipeline:
    """Reads and tokenizes datasets with the arguments of a recipe.

    Args:
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
        tokenizer_module: What ``load_tokenizer`` returned.
        catalogue: The datasets.
        processing: LLaMA-Factory's name for its form of the training records: sft, rm (pairs) or kto.
        needs_text: Whether a record without an instruction is refused.
        strict: Records that LLaMA-Factory leaves out are refused (``fcit_strict_records``).
    """

    def __init__(
        self,
        model_args,
        data_args,
        training_args,
        tokenizer_module: dict[str, Any],
        catalogue: Catalogue,
        processing: Use = "sft",
        needs_text: bool = True,
        strict: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.processing = processing
        self.needs_text = needs_text
        self.strict = strict
        self.model_args = model_args
        self.data_args = data_args
        self.training_args = training_args
        self.tokenizer_module = tokenizer_module
        self.tokenizer = tokenizer_module["tokenizer"]
        self.template = get_template_and_fix_tokenizer(self.tokenizer, data_args)
        self.answer_texts = AnswerTexts(self.tokenizer, self.template)
        self.pixels = PixelReader(self.template, tokenizer_module["processor"])
        self._splits: dict[Named, Split] = {}
        self._files = TrainFiles(catalogue, data_args.max_samples, training_args.seed, processing)

    def train(self, name: str) -> Split:
        """Training records: inputs and labels."""
        return self._split(name)

    def test(self, name: str) -> Split:
        """Test records: prompts alone, to generate from."""
        return self._split(ForTest(name))

    def read(self, train: Iterable[str], test: Iterable[str]) -> None:
        """Read and tokenize datasets now: what is wrong with one shall be known before a model is loaded.

        Args:
            train: Datasets whose training records are read.
            test: Datasets whose test records are.
        """
        for name in train:
            self.train(name)
        for name in test:
            self.test(name)

    def label_sets(self, names: Iterable[str], known: Mapping[str, Sequence[str] | None]) -> dict[str, Sequence[str] | None]:
        """The answers that occur in the training records of each dataset, None where they are open.

        Args:
            names: Datasets whose training records are there.
            known: The same of datasets trained on before, which they may be among.
        """
        found: dict[str, Sequence[str] | None] = {
            name: None if labels is None else list(labels) for name, labels in known.items()
        }
        for name in names:
            before = found.get(name, ())
            if before is not None:
                given = [self.answer_texts.without_thought(answer) for answer in self.labels(name)]
                labels = label_set([*before, *given])
                found[name] = None if labels is None else list(labels)
        return found

    def count(self, dataset: str) -> int:
        """Number of training records; see :class:`fcit_plugin.scenario.Source`."""
        return len(self.train(dataset))

    def labels(self, dataset: str) -> list[str]:
        """The answer of each training record as it stands there; see :class:`fcit_plugin.scenario.Source`."""
        return [message_of(response)["content"] for response in self.train(dataset).rows["_response"]]

    def column(self, dataset: str, name: str) -> list[Any]:
        """One column of the raw training records; see :class:`fcit_plugin.scenario.Source`.

        Raises:
            FcitError: The dataset is not in a file, has no such column, or LLaMA-Factory reads other records there.
        """
        values, split = self._files.raw_column(dataset, name), self.train(dataset)
        return [values[index] for index in split.kept]

    def left_out(self) -> dict[str, int]:
        """How many records of each dataset that was read are not used, by its name; without those that lack none."""
        return {split.name: split.left_out for split in self._splits.values() if split.left_out}

    def _split(self, name: Named) -> Split:
        if name not in self._splits:
            self._splits[name] = self._load(name)
        return self._splits[name]

    def _load(self, name: Named) -> Split:
        generate = isinstance(name, ForTest)
        processing: Use = "sft" if generate else self.processing
        use: Use = "test" if generate else processing
        parts = self.model_args, self.data_args, self.training_args
        with self.training_args.main_process_first(desc="load dataset"):
            used = used_records(self.catalogue, name, use, *parts, strict=self.strict)
        aligned, kept = used.rows, used.kept
        instructions = _instructions(aligned)
        if self.needs_text:
            refuse_empty(name, self.catalogue, kept, "instruction", [turns[0] for turns in instructions])
        messages = [message_of(response) for response in aligned["_response"]]
        answers = self._references(name, aligned) if generate else None
        if answers is None:
            refuse_empty(name, self.catalogue, kept, "answer", [message["content"] for message in messages])
        refuse_images(name, self.catalogue, kept, aligned, tags=self.template.mm_plugin.image_token is not None)
        rows, kept_rows = self._rows(aligned, kept)

        def tokenize(row: dict[str, Any]) -> Any:
            module = self.tokenizer_module
            maker = _get_dataset_processor(self.data_args, processing, self.template, **module, do_generate=generate)
            return maker.preprocess_dataset({key: [value] for key, value in row.items()})

        with (
            diagnosed_rows(name, self.catalogue, rows, kept_rows, tokenize),
            self.training_args.main_process_first(desc="pre-process dataset"),
        ):
            features = self.tokenized(rows, processing, generate, packing=False)
        if len(features) != len(rows):
            raise FcitError(
                f"LLaMA-Factory dropped {len(rows) - len(features)} records of the dataset {name} as invalid "
                "(see its warnings above); fix the file."
            )
        self._refuse_cut_images(name, kept_rows, rows, features)
        if answers is None:
            answers = [self.answer_texts.expected(message) for message in messages]
        roles = [message["role"] for message in messages]
        return Split(str(name), aligned, features, instructions, answers, roles, kept, len(used.left_out.why))

    def tokenized(self, rows: Dataset, processing: str, generate: bool, packing: bool, workers: bool = True) -> Dataset:
        """Records in LLaMA-Factory's standard form, tokenized.

        Args:
            rows: The records.
            processing: LLaMA-Factory's name for its form of them.
            generate: Whether they are prompts to answer.
            packing: Whether several come into one sequence.
            workers: Whether further processes may be started for it.
        """
        data_args, training_args = copy.copy(self.data_args), copy.copy(self.training_args)
        data_args.packing = packing
        order = None if packing else telling_order(rows, _MEDIA)  # a pack has no place to go back to
        if not workers or order is not None:
            data_args.preprocessing_num_workers = None
        training_args.predict_with_generate = generate
        with quiet_datasets():
            made = _get_preprocessed_dataset(
                rows if order is None else rows.select(order),
                *(data_args, training_args, processing, self.template),
                is_eval=generate,
                **self.tokenizer_module,
            )
        return made if order is None or len(made) != len(rows) else made.select(np.argsort(order))

    def samples(self, parts: Sequence["Part"]) -> Dataset:
        """What LLaMA-Factory's trainer takes of a client's records.

        Packing puts several records into one sequence, and KTO sets an answer to another prompt against each: this is done
        among the client's own records, for nothing of another one may come into its training.

        Args:
            parts: By task which records are the client's.
        """
        if not self.data_args.packing and self.processing != "kto":
            return _concatenated([task.features.select(records) for task, records in parts])
        rows = _concatenated([task.rows.select(records) for task, records in parts])
        with self.training_args.main_process_first(desc="pre-process dataset"):
            return self.tokenized(rows, self.processing, generate=False, packing=self.data_args.packing, workers=False)

    def num_samples(self, parts: Sequence["Part"]) -> int:
        """How many :meth:`samples` there are."""
        if not self.data_args.packing:
            return sum(len(records) for _, records in parts)
        lengths = np.concatenate([task.lengths[records] for task, records in parts]).tolist()
        at_once = self.data_args.preprocessing_batch_size
        batches = [lengths[i : i + at_once] for i in range(0, len(lengths), at_once)]
        return sum(len(greedy_knapsack(batch, self.data_args.cutoff_len)) for batch in batches)

    def _refuse_cut_images(self, name: Named, kept: Sequence[int], rows: Dataset, features: Dataset) -> None:
        """A model cannot take an image of which ``cutoff_len`` has left only some tokens.

        Raises:
            FcitError: The sentence names the record and how many tokens its image takes.
        """
        plugin, cutoff = self.template.mm_plugin, self.data_args.cutoff_len
        if not plugin.image_token or not any(numbers_of_media(rows)):
            return
        ids = "input_ids" if "input_ids" in features.column_names else f"{_PAIR[0]}_input_ids"
        lengths = list_value_length(features.with_format("arrow")[:][ids]).to_numpy()
        token = self.tokenizer.convert_tokens_to_ids(plugin.image_token)
        for i in np.flatnonzero(lengths >= cutoff).tolist():
            row = rows[i]
            messages = plugin.process_messages(
                row["_prompt"] + row["_response"][:1], row["_images"] or [], [], [], self.tokenizer_module["processor"]
            )
            whole = sum(message["content"].count(plugin.image_token) for message in messages)
            if features[i][ids].count(token) < whole:
                file, record = place_of(self.catalogue, name, kept[i])
                raise FcitError(
                    f"`cutoff_len: {cutoff}` cuts record {record} of the dataset `{name}` ({file}) within its image, which "
                    f"takes {whole} tokens; raise it."
                )

    def _rows(self, aligned: Dataset, kept: Sequence[int]) -> tuple[Dataset, Sequence[int]]:
        """The records to tokenize, and their indices among all of the dataset."""
        return aligned, kept

    def _references(self, name: Named, aligned: Dataset) -> list[Answer] | None:
        """The references of test records that their entry says (``fcit_references``); None if it says none.

        Raises:
            FcitError: A record has none; the sentence names the file and the record's index.
        """
        entry = self.catalogue.entry(name)
        source = entry.get("fcit_references")
        if source is None:
            return None
        if RECORD not in aligned.column_names:
            raise FcitError(f"`fcit_references` of the dataset `{name}` needs `formatting: fcit` and test records.")
        records = [json.loads(record) for record in aligned[RECORD]]
        try:
            references, defects = match_references(records, entry["file_name"], source, self.catalogue.root(name))
        except BrokenFile as error:
            remedy = "correct `fcit_references` of its entry, or fetch the benchmark's with `fcit-cli data download`"
            raise FcitError(str(error.defect(remedy))) from error
        if defects:
            raise FcitError(f"The dataset `{name}` cannot be scored: {defects[0]}")
        found = cast("list[Answer]", references)  # without defects each record has one
        return [self._as_expected(answer) for answer in found]

    def _as_expected(self, answer: Answer) -> Answer:
        """A reference, whose texts an assistant would give."""
        if isinstance(answer, str):
            return self.answer_texts.expected({"role": ASSISTANT, "content": answer})
        texts = [self._as_expected(text) if isinstance(text, str) else text for text in answer]
        return cast("Answer", texts)


@dataclass(frozen=True)
class TaskData:
    """The training records of one task: those of its datasets, one after the other."""

    splits: tuple[Split, ...]

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    @cached_property
    def features(self) -> Dataset:
        """Tokenized records."""
        return _concatenated([split.features for split in self.splits])

    @cached_property
    def rows(self) -> Dataset:
        """Records in LLaMA-Factory's standard form."""
        return _concatenated([split.rows for split in self.splits])

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each record, int64."""
        return np.concatenate([split.lengths for split in self.splits])

    @cached_property
    def instructions(self) -> list[Turns]:
        """What their users say, in the same order."""
        return [turns for split in self.splits for turns in split.instructions]

    @cached_property
    def images(self) -> list[RecordImages]:
        """The images of each record."""
        return [images for split in self.splits for images in split.images]


#: A task, and indices of some of its records.
Part = tuple[TaskData, np.ndarray]


def _concatenated(parts: list[Dataset]) -> Dataset:
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def records_of(name: str, catalogue: Catalogue, model_args, data_args) -> tuple[list[Turns], list[RecordImages]]:
    """The instructions of a dataset alone, without a run around it, and its images."""
    reading = SimpleNamespace(seed=0, local_process_index=0, dataloader_num_workers=0)  # all that is asked of it
    aligned = used_records(catalogue, name, "test", model_args, data_args, reading).rows  # whatever their answers are for
    return _instructions(aligned), images_of_records(aligned)


def _instructions(aligned: Dataset) -> list[Turns]:
    """What the user of each record says, turn by turn."""
    return [user_turns(prompt) for prompt in aligned["_prompt"]]
