"""The parts of an fcit stage, ready to be used; :mod:`.open_session` makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamafactory.extras import logging
from peft import PeftModel

from .. import __version__
from ..adapters.base_weights import BaseOnDemand
from ..adapters.lora import ADAPTER, check_keys, check_shapes, read_shared
from ..arguments import FcitArguments
from ..arguments.network import FLOWER, SITE_STAGE
from ..data.catalogue import Catalogue
from ..data.pipeline import Pipeline
from ..errors import FcitError, nearest
from ..evaluation.page import PAGE_HTML
from ..evaluation.report import CARD, MATRIX_CSV, MATRIX_PNG, PARTITION_PNG, REPORT_JSON, SUBSPACES_PNG
from ..federation.folders import DESCRIPTION, WEIGHTS
from ..federation.noise import Noise
from ..federation.program import Program
from ..federation.run_secret import check_first_release
from ..federation.server import first_state
from ..folders import take_away
from ..knowledge.image_tokens import token_width
from ..knowledge.token_forms import VERSION as FORM_VERSION
from ..recipe.partition_options import partition_options
from ..recipe.request import Request
from ..scenario.partition import Partition
from ..scenario.tasks import Scenario
from ..state.checkpoints import PROGRESS, Checkpoints
from ..state.folder import StateFolder
from ..state.forms import NoiseForm
from ..state.names import BASE_CHANGE, MANIFEST, METHOD_STATE, RULES, SHARED, SUBSPACES, TOKENS
from ..state.own import signed
from ..state.progress import Progress
from ..state.server_state import ServerState, save_state
from .callbacks import Callbacks
from .client_training import LocalTrainer
from .continuation import Earlier
from .evaluator import Evaluator
from .made_up_records import Writer
from .pool import Pool
from .pool_evaluator import PoolEvaluator
from .processes import Processes
from .resume import Start
from .trainers import LOCAL_STAGES

if TYPE_CHECKING:
    from .sites import Sites

#: What the fcit stages write beside the folders of subspaces and updates.
LOSS_PNG = "training_loss.png"
WRITTEN = (
    MANIFEST,
    DESCRIPTION,
    WEIGHTS,
    TOKENS,
    SHARED,
    BASE_CHANGE,
    RULES,
    METHOD_STATE,
    PROGRESS,
    REPORT_JSON,
    MATRIX_CSV,
    MATRIX_PNG,
    SUBSPACES_PNG,
    PARTITION_PNG,
    LOSS_PNG,
    CARD,
    PAGE_HTML,
)

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Setup:
    """What is known of an fcit stage before anything is loaded.

    Attributes:
        request: What the recipe asks of us.
        args: The fcit keys that count.
        model_args, data_args, training_args, finetuning_args, generating_args: LLaMA-Factory's argument objects.
        output_dir: Where results go.
        scenario: Tasks and schedule, those of an earlier run first.
        rounds: For each stage the number of its rounds.
        earlier: The run that this one goes on from.
        own_datasets: What a client trains on in place of its part of the partition.
        catalogue: The datasets that the recipe can name.
        keys: What decides the numbers, see :func:`.fingerprint.deciding_keys`.
        processes: The processes that share each client's steps.
        pool: The processes that train clients of their own; None where clients are trained one after the other.
        encoder_choice: Which identity encoder ``auto`` has become in this process, and why.
    """

    request: Request
    args: FcitArguments
    model_args: Any
    data_args: Any
    training_args: Any
    finetuning_args: Any
    generating_args: Any
    output_dir: Path
    scenario: Scenario
    rounds: list[int]
    earlier: Earlier | None
    own_datasets: list[str]
    catalogue: Catalogue
    keys: dict[str, Any]
    processes: Processes
    pool: Pool | None
    encoder_choice: str | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes what is written once."""
        return self.training_args.process_index == 0 and (self.pool is None or self.pool.is_main)

    @property
    def is_server(self) -> bool:
        """Whether this process is the server, alone or together with others; not if it only trains for the first."""
        return self.pool is None or self.pool.is_main

    @property
    def arguments(self) -> tuple[Any, ...]:
        """All argument objects, LLaMA-Factory's and ours."""
        theirs = (self.model_args, self.data_args, self.training_args, self.finetuning_args, self.generating_args)
        return (*theirs, self.args)

    @property
    def base_model(self) -> str:
        """The base model by the name that the recipe has for it."""
        assert self.request.base_model is not None  # LLaMA-Factory insists on one
        return self.request.base_model

    @property
    def evaluates(self) -> bool:
        """Whether test records are answered."""
        if self.is_site:
            return self.args.fcit_site_eval
        return self.request.stage == "fcit" and self.args.fcit_eval_every != "never"

    @property
    def tested_datasets(self) -> Sequence[str]:
        """The datasets whose test records are answered."""
        if not self.evaluates:
            return ()
        return self.trained_datasets if self.is_site else self.scenario.all_datasets()

    @property
    def trained_datasets(self) -> list[str]:
        """The datasets whose records this process trains on."""
        if self.data_elsewhere:
            return []
        if self.is_site and self.args.fcit_site_tasks is not None:
            return [name for name in self.scenario.datasets_to_train() if name in self.args.fcit_site_tasks]
        return self.own_datasets or list(self.scenario.datasets_to_train())

    @property
    def data_elsewhere(self) -> bool:
        """Whether this process is a server that has no training data: its clients are sites."""
        return self.request.stage == "fcit" and self.args.fcit_engine == FLOWER

    @property
    def is_site(self) -> bool:
        """Whether this process is a site, which has all records of its datasets."""
        return self.request.stage == SITE_STAGE

    def check_tasks_of_site(self) -> None:
        """Refuse datasets in ``fcit_site_tasks`` that no stage has, and a site that is left without a task.

        Raises:
            FcitError: The sentence names the dataset.
        """
        named = self.args.fcit_site_tasks or ()
        known = list(self.scenario.datasets_to_train())
        for name in named:
            if name not in known:
                raise FcitError(f"`fcit_site_tasks` has {name}, which no stage trains on; {nearest(name, known)}")
        if named and not any(set(task.datasets) <= {*named} for task in self.scenario.tasks):
            raise FcitError(
                "`fcit_site_tasks` names no task as a whole; a task of several datasets needs all of them: "
                + "; ".join(", ".join(task.datasets) for task in self.scenario.tasks[:5])
                + "."
            )

    @property
    def processing(self) -> str:
        """LLaMA-Factory's name for the form of the training records."""
        return LOCAL_STAGES[self.args.fcit_local_stage].processing

    @property
    def identity_source(self) -> tuple[str, str, str, bool]:
        """What identity tokens are made of, and how: the first arguments of :func:`..knowledge.sources.make_source`."""
        args = self.args
        return args.fcit_identity_source, args.fcit_identity_encoder, args.fcit_identity_pooling, args.fcit_identity_center

    def state_keys(self) -> dict[str, Any]:
        """What a state folder and a recipe that goes on from it must have alike."""
        keys = (
            "method",
            "local_stage",
            "setting",
            "task_order",
            "num_clients",
            "clients_per_round",
            "num_rounds",
            "similarity_threshold",
            "max_subspaces",
            "later_rounds",
            "server_rule",
            "lora_aggregation",
            "identity_source",
            "update_compression",
            "identity_encoder",
            "identity_pooling",
            "identity_center",
            "identity_unit",
            "identity_turns",
            "identity_form",
        )
        return {"seed": self.training_args.seed, **{key: getattr(self.args, f"fcit_{key}") for key in keys}}


@dataclass(frozen=True, kw_only=True)
class Session(Setup):
    """The parts of one fcit stage.

    Attributes:
        checkpoints: The commits of this run.
        start: The commit that it goes on from.
        pipeline: The records.
        data: What tells these datasets from others of the same names; empty where they were not read.
        model: The base model with the subspace that trains.
        base_fingerprint: Tells this base model from others; None for one without weights.
        base_sample: The same whatever the precision (:mod:`..adapters.base_sample`); empty for one without weights.
        base_weights: The base weights, which the server may change; None for a model without weights.
        encoder: Makes identity tokens.
        program: The scenario with the method's parts.
        callbacks: LLaMA-Factory's, and the user's.
        sites: The clients, where they are sites; None where they are in this process.
    """

    checkpoints: Checkpoints
    start: Start | None
    pipeline: Pipeline
    data: dict[str, str]
    model: PeftModel
    base_fingerprint: str | None
    base_sample: dict[str, str]
    base_weights: BaseOnDemand | None
    encoder: Any
    program: Program
    callbacks: Callbacks = field(default_factory=Callbacks)
    sites: "Sites | None" = None

    def clear_results(self) -> None:
        """Take away what a finished run leaves, beside its log, its answers and its commits."""
        for name in WRITTEN:  # the manifest first: without it the rest is not an FCIT folder
            (self.output_dir / name).unlink(missing_ok=True)
        take_away(self.output_dir / SUBSPACES, r"\d+")

    @property
    def partition(self) -> Partition:
        """Who has which records.

        Raises:
            FcitError: The recipe asks for released partition files that are not there.
        """
        return Partition(self.scenario, self.pipeline, partition_options(self.args), self.training_args.seed)

    def first_state(self) -> ServerState:
        """The state before the first round."""
        return first_state(self.program.form.width(token_width(self.encoder)), read_shared(self.model))

    def load_state(self) -> ServerState:
        """The server state of ``fcit_state_dir``.

        Raises:
            FcitError: It does not fit the model.
        """
        assert self.args.fcit_state_dir is not None  # who asks has it
        state = self.state_in(Path(self.args.fcit_state_dir))
        self.program.check_memory(state, Path(self.args.fcit_state_dir))
        return state

    def going_on_from(self, source: Start | Earlier) -> tuple[ServerState, Progress, list[dict[str, Any]]]:
        """The server's state, how far the run had come, and its log, from where the session goes on.

        Raises:
            FcitError: A file is missing or damaged, or the server rules cannot take up what is there for them.
        """
        state, progress, log = source.load(self.processes)
        self.program.check_memory(state, source.folder)
        return state, progress, log

    def state_in(self, folder: Path) -> ServerState:
        """The server state of a folder.

        Raises:
            FcitError: It does not fit the model.
        """
        state = StateFolder(folder).load()
        for subspace in state.subspaces:
            check_keys(self.program.blank, subspace, f"state {folder}")
            check_shapes(self.program.blank, subspace, f"state {folder}")
        return state

    def use_noise(self, record: NoiseForm | None, noise: Noise | None) -> None:
        """Have the program draw its noise from somewhere, and put that of a round on one set of updates only.

        Args:
            record: Where the noise comes from; None where nothing was kept of it.
            noise: The noise; None for a recipe without any.
        """
        if noise is None:
            return
        self.program.noise = noise
        if record is not None and self.args.fcit_dp_noise_multiplier is not None:
            self.program.check_release = lambda *released: self.processes.compute_on_main(
                lambda: check_first_release(record, *released)
            )

    def local(self, make_callback=None, noise: Noise | None = None) -> LocalTrainer:
        """The client side on this session's model.

        Args:
            make_callback: Makes the callback that reports a client's steps.
            noise: Where the noise on tokens comes from; None for those who make none.
        """
        return LocalTrainer(
            self.model,
            self.pipeline,
            self.encoder,
            self.scenario,
            self.program.method,
            self.args,
            self.finetuning_args,
            self.processes,
            partition=None if self.own_datasets or self.is_site else self.partition,
            own_datasets=self.own_datasets,
            base_weights=self.base_weights,
            make_callback=make_callback,
            callbacks=self.callbacks.of_clients,
            noise=noise,
            writer=Writer(self.evaluator({}), self.processes) if self.program.method.makes_up_records() else None,
            piece=self.program.piece,
        )

    def evaluator(self, labels: Mapping[str, Sequence[str] | None]) -> Evaluator:
        """What answers test records with this session's model.

        Args:
            labels: The label set of each dataset, None where answers are open.
        """
        parts = (self.model, self.pipeline, self.encoder, self.args, self.generating_args, labels)
        if self.pool is None:
            return Evaluator(*parts, self.processes, base_weights=self.base_weights)
        return PoolEvaluator(*parts, self.pool, base_weights=self.base_weights)

    def save(self, state: ServerState, folder: Path) -> None:
        """Write a state folder (the main process does)."""
        if not self.is_main:
            return
        manifest = {
            "plugin_version": __version__,
            "base_model": self.base_model,
            "template": self.data_args.template,
            "base_fingerprint": self.base_fingerprint,
            "base_sample": self.base_sample,
            "stages": [list(self.scenario.datasets_of_stage(t)) for t in range(self.scenario.num_stages)],
            "rounds": self.rounds,
            "scenario": self.scenario.to_dict(),
            "activation": self.args.fcit_activation,
            "temperature": self.args.fcit_temperature,
            **self.state_keys(),
            "identity_form_version": FORM_VERSION,
        }
        save_state(state, folder, adapter_config(self.model), signed(manifest, folder, logger.warning_rank0_once))


def adapter_config(model) -> dict[str, Any]:
    """PEFT's configuration of one subspace, as it stands in ``adapter_config.json``."""
    config = model.peft_config[ADAPTER].to_dict() | {"inference_mode": True}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
