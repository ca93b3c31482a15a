"""What every fcit stage sets up first: data, model, encoder, scenario, method."""

import logging
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from llamafactory.extras.constants import TRAINER_LOG
from llamafactory.model import load_model, load_tokenizer

from .. import __version__
from ..adapters.base_weights import BaseWeights
from ..adapters.lora import ADAPTER, check_keys, check_shapes, read_shared, read_subspace
from ..continual.methods import make_method
from ..data.catalogue import check_datasets
from ..data.pipeline import Pipeline
from ..data.pixels import refuse_without_image
from ..data.scoring import check_metrics
from ..errors import FcitError
from ..evaluation.report import MATRIX_CSV, MATRIX_PNG, PARTITION_PNG, REPORT_JSON, SUBSPACES_PNG
from ..federation.folders import DESCRIPTION, WEIGHTS
from ..federation.server import Program, first_state
from ..knowledge.encoders import IdentityEncoder
from ..knowledge.image_tokens import token_width
from ..knowledge.sources import make_source
from ..knowledge.vision_tower import check_family
from ..recipe.base_model import check_model, named
from ..scenario.settings import get_scenario
from ..state.checkpoints import PROGRESS, Checkpoints
from ..state.folder import StateFolder
from ..state.names import BASE_CHANGE, MANIFEST, MEMORY, RULES, SHARED, TOKENS
from ..state.server_state import ServerState, save_state
from .client_training import LocalTrainer
from .continuation import Earlier
from .fingerprint import data_keys, deciding_keys, fingerprint
from .oracle import TaskEncoder, TaskPipeline
from .processes import Agreement
from .resume import Start, find_start
from .trainers import LOCAL_STAGES

#: What the fcit stages write beside the folders of subspaces and updates.
LOSS_PNG, CARD = "training_loss.png", "README.md"
WRITTEN = (
    *(MANIFEST, DESCRIPTION, WEIGHTS, TOKENS, SHARED, BASE_CHANGE, RULES, MEMORY, PROGRESS, REPORT_JSON, MATRIX_CSV),
    *(MATRIX_PNG, SUBSPACES_PNG, PARTITION_PNG, LOSS_PNG, CARD),
)


class Session:
    """The parts of one fcit stage.

    Args:
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
        finetuning_args: Its fine-tuning arguments, with the fcit arguments on them.
        generating_args: Its generating arguments.
    """

    def __init__(self, model_args, data_args, training_args, finetuning_args, generating_args) -> None:
        logging.getLogger("flwr").setLevel(logging.WARNING)  # it would log every message
        self.args = finetuning_args.fcit
        self.model_args = model_args
        self.data_args = data_args
        self.training_args = training_args
        self.finetuning_args = finetuning_args
        self.generating_args = generating_args
        self.output_dir = Path(training_args.output_dir)
        self.base_model = finetuning_args.fcit_base_model
        self.agreement = Agreement()
        self.is_main = training_args.process_index == 0
        args = self.args
        self.scenario = get_scenario(args.fcit_setting, args.fcit_stages, args.fcit_schedule, args.fcit_task_order)
        self.rounds = [args.fcit_num_rounds] * self.scenario.num_stages
        folder = finetuning_args.fcit_earlier
        self.earlier = Earlier.read(folder) if folder is not None else None
        if self.earlier is not None:
            self.scenario = self.earlier.scenario.followed_by(self.scenario)
            self.rounds = self.earlier.rounds + self.rounds
        self.own_datasets = list(data_args.dataset) if finetuning_args.fcit_own_data else []
        evaluates = finetuning_args.fcit_stage == "fcit" and args.fcit_eval_every != "never"
        trained = self.own_datasets or self.scenario.datasets_to_train()
        check_datasets(trained, data_args.dataset_dir, evaluates, args.fcit_local_stage)
        if self.earlier is not None and evaluates:
            self.earlier.check_tests(data_args.dataset_dir)
        if evaluates:
            check_metrics(self.scenario.all_datasets(), data_args.dataset_dir, args.fcit_caption_metric)
        if args.fcit_state_dir is not None:
            source = StateFolder(Path(args.fcit_state_dir))
            source.check()
            self._check_recipe(source.path, source.manifest)
        config = check_model(model_args)
        if args.fcit_identity_source != "text":
            check_family(config, args.fcit_identity_source)
        self.arguments = (model_args, data_args, training_args, finetuning_args, generating_args, args)
        self.keys = deciding_keys(self.arguments, training_args.world_size)
        if self.earlier is not None:
            if make_method(args).num_remembered():
                raise FcitError(
                    f"`fcit_method: {args.fcit_method}` trains on records of earlier tasks, which a run that goes on from "
                    "another one does not have; take another method, or train all stages in one run."
                )
            self.earlier.check_recipe(self.arguments, self.keys, evaluates)
        self.checkpoints = Checkpoints(self.output_dir, training_args.save_total_limit)
        self.start = self._find_start()
        held = self._check_output_dir()
        with named(model_args, OSError, ValueError):
            tokenizer_module = load_tokenizer(model_args)
        self.pipeline = self._make_pipeline(tokenizer_module)
        if finetuning_args.fcit_stage == "fcit":
            self.pipeline.read(trained, self.scenario.all_datasets() if evaluates else ())
            if args.fcit_identity_source != "text":
                for name in trained:
                    refuse_without_image(name, self.pipeline.train(name).images, args.fcit_identity_source)
            self.data = self._data_keys()
            if self.earlier is not None:
                self.earlier.check_data(self.data)
        with named(model_args, OSError):
            self.model = self._load_model(tokenizer_module["tokenizer"])
        self.base_fingerprint = self._fingerprint()
        self.encoder = self._make_encoder(tokenizer_module["tokenizer"])
        make_method(args).prepare(self.model)
        self.program = Program(args, self.scenario, training_args.seed, blank=read_subspace(self.model))
        if self.earlier is not None:
            state, *_ = self.earlier.load(self.agreement)
            targets = adapter_config(self.model)["target_modules"]
            self.earlier.check_model(state, self.program.blank, targets, read_shared(self.model), self.base_fingerprint)
        if held is not None:  # only now: what is refused above takes nothing away
            self._clear_output_dir(held)

    def _make_pipeline(self, tokenizer_module: dict[str, Any]) -> Pipeline:
        parts = (self.model_args, self.data_args, self.training_args, tokenizer_module, self.processing)
        return TaskPipeline(self.scenario, *parts) if self.args.fcit_reference == "oracle" else Pipeline(*parts)

    @property
    def processing(self) -> str:
        """LLaMA-Factory's name for the form of the training records."""
        return LOCAL_STAGES[self.args.fcit_local_stage].processing

    def _data_keys(self) -> dict[str, str]:
        """What tells these data sets from others of the same names."""
        return data_keys(self.pipeline, self.scenario, self.args)

    def _load_model(self, tokenizer) -> torch.nn.Module:
        return load_model(tokenizer, self.model_args, self.finetuning_args, is_trainable=True)

    def _fingerprint(self) -> str | None:
        """Tells this base model from others; None for one without weights."""
        return fingerprint(self.model)

    def _make_encoder(self, tokenizer) -> IdentityEncoder:
        args = self.args
        if args.fcit_reference == "oracle":
            return TaskEncoder(self.scenario)
        return make_source(*self._source(), self.model, tokenizer, self.pipeline.pixels)

    def _source(self) -> tuple[str, str, str, bool]:
        """What identity tokens are made of, and how."""
        args = self.args
        encoder = (args.fcit_identity_encoder, args.fcit_identity_pooling, args.fcit_identity_center)
        return args.fcit_identity_source, *encoder

    def _find_start(self) -> Start | None:
        start = find_start(self.training_args, self.finetuning_args.fcit_stage, self.agreement)
        if start is not None:
            start.check("keys", self.keys, self.arguments)
        return start

    def _check_output_dir(self) -> list[str] | None:
        """What results there are to clear away; None if this process has nothing to do with them."""
        if not self.is_main or (self.start is not None and self.start.is_in(self.checkpoints)):
            return None
        held = [name for name in (MANIFEST, DESCRIPTION) if (self.output_dir / name).exists()]
        held += [f"{folder.parent.name}/{folder.name}" for folder in self.checkpoints.commits()[-1:]]
        is_update = self.finetuning_args.fcit_stage == "fcit_client"
        if held and (not self.training_args.overwrite_output_dir or (is_update and held != [DESCRIPTION])):
            raise FcitError(
                f"`output_dir` {self.output_dir} already holds the results of a run ({held[0]}); "
                + ("choose another folder." if is_update else "choose another or set `overwrite_output_dir: true`.")
            )
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.output_dir).close()
        except OSError as error:
            raise FcitError(
                f"`output_dir` {self.output_dir} cannot be written to ({error.strerror}); name a folder of your own."
            ) from error
        return held

    def _clear_output_dir(self, held: list[str]) -> None:
        if held:
            self.clear_results()
            (self.output_dir / TRAINER_LOG).unlink(missing_ok=True)
            shutil.rmtree(self.output_dir / "updates", ignore_errors=True)
        self.checkpoints.go_back_to(None)

    def clear_results(self) -> None:
        """Take away what a finished run leaves, beside its log and its commits."""
        for name in WRITTEN:  # the manifest first: without it the rest is no FCIT folder
            (self.output_dir / name).unlink(missing_ok=True)
        shutil.rmtree(self.output_dir / "subspaces", ignore_errors=True)

    def first_state(self) -> ServerState:
        """The state before the first round."""
        return first_state(token_width(self.encoder), read_shared(self.model))

    def load_state(self) -> ServerState:
        """The server state of ``fcit_state_dir``.

        Raises:
            FcitError: It does not fit the model.
        """
        folder = Path(self.args.fcit_state_dir)
        state = StateFolder(folder).load()
        for subspace in state.subspaces:
            check_keys(self.program.blank, subspace, f"state {folder}")
            check_shapes(self.program.blank, subspace, f"state {folder}")
        return state

    def _check_recipe(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Refuse a state of a finished run, or of a recipe that differs in what decides who trains what from where."""
        for key, value in self._deciding().items():
            if manifest.get(key) != value:
                name = key if key == "seed" else f"fcit_{key}"
                raise FcitError(
                    f"`{name}` is {value!r}, but the state {folder} was made with {manifest.get(key)!r}; "
                    "give every site and the server the same recipe."
                )
        if manifest["stage"] >= self.scenario.num_stages:
            raise FcitError(
                f"The run of `fcit_state_dir` {folder} is finished: there is no further round to take part in; to go on with "
                "new tasks, put their stages behind the old ones in `fcit_stages`."
            )

    def _deciding(self) -> dict[str, Any]:
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
            "server_rule",
            "lora_aggregation",
            "identity_source",
            "update_compression",
            "identity_encoder",
            "identity_pooling",
            "identity_center",
        )
        return {"seed": self.training_args.seed, **{key: getattr(self.args, f"fcit_{key}") for key in keys}}

    @cached_property
    def base_weights(self) -> BaseWeights | None:
        """The model's base weights, where the server changes them; to be asked for before anything is trained."""
        return BaseWeights(self.model) if self.program.aggregation.changes_base else None

    def local(self, make_callback=None) -> LocalTrainer:
        """The client side on this session's model."""
        return LocalTrainer(
            self.model,
            self.pipeline,
            self.encoder,
            self.scenario,
            self.program.method,
            self.finetuning_args,
            self.agreement,
            base_weights=self.base_weights,
            own_datasets=self.own_datasets,
            make_callback=make_callback,
        )

    def save(self, state: ServerState, folder: Path) -> None:
        """Write a state folder (the main process does)."""
        if not self.is_main:
            return
        manifest = {
            "plugin_version": __version__,
            "base_model": self.base_model,
            "template": self.data_args.template,
            "base_fingerprint": self.base_fingerprint,
            "stages": [list(self.scenario.datasets_of_stage(t)) for t in range(self.scenario.num_stages)],
            "rounds": self.rounds,
            "scenario": self.scenario.to_dict(),
            "activation": self.args.fcit_activation,
            "temperature": self.args.fcit_temperature,
            **self._deciding(),
        }
        save_state(state, folder, adapter_config(self.model), manifest)


def adapter_config(model) -> dict[str, Any]:
    """PEFT's configuration of one subspace, as it stands in ``adapter_config.json``."""
    config = model.peft_config[ADAPTER].to_dict() | {"inference_mode": True}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
