"""What a run notes down line by line while it goes on, as its report and its progress hold it."""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ..schema import Count, Number, Text, Word


class Assignment(TypedDict):
    """Which subspace a client trained in a round; the cosine is None with a method that needs none."""

    stage: Count
    round: Count
    client: Count
    subspace: Count
    cosine: float | None
    task: Word


class Asked(TypedDict):
    """A client that was asked for an identity token, once for a stage and task."""

    stage: Count
    client: Count
    task: Word


class Absence(TypedDict):
    """A client that was left out of a round, or took part and learned nothing, and why."""

    stage: Count
    round: Count
    client: Count
    reason: Word


class ProductError(TypedDict):
    """Relative error of what became of a subspace's products in a round, None where it is not defined."""

    stage: Count
    round: Count
    subspace: Count
    error: float | None


class Share(TypedDict):
    """How many records of a dataset each client has, one number per client."""

    task: Word
    dataset: Word
    records: list[Count]


class SiteScore(TypedDict):
    """How well a site's own test records of a dataset were answered after a stage, from 0 to 100."""

    site: Word
    stage: Count
    dataset: Word
    metric: Word
    score: Number
    records: Count


class Engine(TypedDict):
    """How a run was computed.

    Attributes:
        name: Whether each process trained clients of its own (parallel), all shared each step (process), or sites trained
            (flower).
        processes: How many took part.
        threads: Of each.
        machine: System, kind and number of processors, and device.
        versions: Of the packages that compute.
    """

    name: Word
    processes: Count
    threads: Count
    machine: NotRequired[Word]
    versions: NotRequired[Word]


class Seconds(TypedDict):
    """Wall-clock time in all, and its parts."""

    total: Number
    train: Number
    evaluate: Number


class Spent(TypedDict):
    """What noise comes to."""

    epsilon: Number


class Privacy(TypedDict):
    """What noise was added and what it comes to, as ``federation.accounting`` has it with more beside."""

    delta: Number
    total: Spent
    noise: NotRequired[Word]


class Prediction(TypedDict):
    """An answer to a test record.

    Attributes:
        prompt: What the model was given, special tokens included.
        predict: Its answer, as it is compared: without thoughts and special tokens.
        label: The right answer; JSON where it is several texts or a box.
        dataset: Where the record is from.
        record: Its number among the dataset's test records.
        restricted: Whether only the dataset's own labels could be answered.
        subspace: The one that weighed most; None for the untuned model, and where several weigh as much.
        weights: What each subspace weighed; empty for the untuned model.
        score: From 0 to 100 by the dataset's metric; None where that rates no single record.
    """

    prompt: Text
    predict: Text
    label: Text
    dataset: Word
    record: Count
    restricted: bool
    subspace: Count | None
    weights: Annotated[list[Number], Field(max_length=100_000)]
    score: Number | None
