"""The forms of the JSON files in a state folder."""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ..evaluation.rows import Absence, Asked, Assignment, ProductError, Share, SiteScore
from ..knowledge.own_cosines import BINS
from ..schema import Count, Number, Sum, Whole, Word

#: A list of names.
Words = Annotated[list[Word], Field(max_length=100_000)]
#: The rank of a subspace, or of several that were joined into one adapter.
Rank = Annotated[int, Field(ge=1, le=65_536)]
#: The name of a layer, or its end; no pattern.
Layer = Annotated[str, Field(pattern=r"^[\w.\-]+$", max_length=500)]


#: Numbers of a weight, each in four hexadecimal digits.
Digits = Annotated[str, Field(pattern=r"^([0-9a-f]{4})+$", max_length=1000)]


class Entry(TypedDict):
    """A subspace in the manifest."""

    id: Count
    folder: Word
    count: Count
    tasks: dict[Word, Count]
    rounds: Count
    confirmed: NotRequired[bool]
    only_client: NotRequired[Count | None]
    own_cosines: NotRequired[Annotated[list[Count], Field(min_length=BINS, max_length=BINS)] | None]


class Task(TypedDict):
    """A task of a scenario."""

    name: Word
    datasets: Words


class Stages(TypedDict):
    """A scenario."""

    name: Word
    tasks: Annotated[list[Task], Field(max_length=100_000)]
    schedule: Annotated[list[list[Count]], Field(max_length=100_000)]


class _Every(TypedDict):
    format_version: int
    stage: Count
    round: Count
    subspaces: Annotated[list[Entry], Field(max_length=100_000)]
    shared: Literal["shared.safetensors"] | None
    projectors: bool
    server_rules: Literal["server_rules.safetensors"] | None
    method_state: Literal["method_state.safetensors"] | None
    base_change: Literal["base_change.safetensors"] | None


class Manifest(_Every, total=False):
    """``fcit_manifest.json``: what is true of every state folder, and what a run's own says of the run."""

    tokens: Literal["identity_tokens.safetensors"]
    plugin_version: Word
    base_model: Word | None
    template: Word | None
    base_fingerprint: Word | None
    base_sample: Annotated[dict[Layer, Digits], Field(max_length=1000)]
    stages: list[Words]
    rounds: list[Count]
    scenario: Stages
    activation: Word | None
    temperature: Number | None
    seed: Whole
    method: Word
    similarity_threshold: Number | None
    later_rounds: Literal["open", "nearest"]
    identity_source: Literal["text", "image", "both"]
    identity_encoder: Word
    identity_pooling: Word
    identity_center: bool
    identity_unit: bool
    identity_turns: Word
    identity_form: Literal["full", "projected_256", "signs_512", "signs_256", "signs_128", "signs_64"]
    identity_form_version: Literal[1]
    joined: Words
    published: Literal[True]
    signature: Sum


class Matrix(TypedDict):
    """Scores after each stage."""

    datasets: Words
    rows: list[list[Number | None]]


class Bytes(TypedDict):
    """Traffic."""

    up: Count
    down: Count


class NoiseForm(TypedDict):
    """Where a run's noise comes from; the id is no secret, and names the file of one."""

    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    source: Literal["seed", "number", "file"]


class Clock(TypedDict):
    """Seconds so far, and of them those of evaluation."""

    total: Number
    evaluate: Number


class Keys(TypedDict, total=False):
    """What decides a run's numbers: any keys, some of which are reckoned with."""

    num_processes: Count
    per_device_train_batch_size: Count
    gradient_accumulation_steps: Count


class RecipeOfRun(TypedDict):
    """What decided the numbers of a run, and from which stage on."""

    stage: Count
    arguments: Keys
    data: dict[Word, Word | None]


class Recipe(TypedDict):
    """``recipe.json`` of a commit."""

    keys: Keys
    data: dict[Word, Word | None]


class LogLine(TypedDict):
    """A line of the trainer's log."""

    current_steps: Count
    stage: Count
    loss: float | None
    round: NotRequired[Count]
    client: NotRequired[Count]
    total_steps: NotRequired[Count]
    percentage: NotRequired[Number]
    elapsed_time: NotRequired[Word]
    remaining_time: NotRequired[Word]


class ProgressForm(TypedDict):
    """``progress.json``."""

    step: Count
    zero_shot: dict[Word, Number] | None
    matrix: Matrix
    restricted: list[dict[Word, Number | None]]
    other: list[dict[Word, dict[Word, Number]]]
    assignments: list[Assignment]
    asked: list[Asked]
    dropped: list[Absence]
    idle: list[Absence]
    product_errors: list[ProductError]
    traffic: Bytes
    seconds: Clock
    partition: list[Share]
    labels: dict[Word, list[str] | None]
    recipes: list[RecipeOfRun]
    noise: NotRequired[NoiseForm | None]
    left_out: NotRequired[dict[Word, Count]]
    encoder_choice: NotRequired[Word | None]
    sites: NotRequired[list[Word]]
    site_lists: NotRequired[list[list[Word]]]
    site_scores: NotRequired[list[SiteScore]]
    client_names: NotRequired[list[list[Word]]]
    likelihood: NotRequired[list[dict[Word, Number]]]
    likelihood_untuned: NotRequired[dict[Word, Number] | None]


class Sums(TypedDict):
    """``checksums.json`` of a sealed folder."""

    sha256: Sum
    files: dict[Word, Sum]


class AdapterConfig(TypedDict):
    """What a subspace's ``adapter_config.json`` says; the other keys of PEFT's have to be without effect."""

    peft_type: NotRequired[Literal["LORA"]]
    task_type: NotRequired[Literal["CAUSAL_LM"]]
    r: Rank
    lora_alpha: Annotated[float, Field(gt=0, le=1e6)]
    lora_dropout: NotRequired[Annotated[float, Field(ge=0, lt=1)]]
    use_rslora: NotRequired[bool]
    target_modules: Annotated[list[Layer], Field(min_length=1, max_length=100_000)]
    target_parameters: NotRequired[Annotated[list[Layer], Field(max_length=100_000)] | None]
