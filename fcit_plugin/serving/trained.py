"""What a run left in its output folder, and how it gets onto a base model."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from ..adapters.base_alone import STACKED
from ..adapters.base_sample import is_another_base
from ..adapters.base_weights import add_to
from ..adapters.experts import divide, num_experts
from ..adapters.fused import check_fused
from ..adapters.lora import ADAPTER, Tensors, check_keys, check_shapes, layers_of, put, read_subspace
from ..adapters.projectors import mean_projector
from ..adapters.quantized import is_packed
from ..adapters.stacked import Activation, attach, fold_weights, scale_of
from ..arguments import FcitArguments
from ..data.catalogue import Catalogue
from ..data.instructions import user_turns
from ..data.pipeline import records_of
from ..data.pixels import LazyPixels, PixelReader
from ..errors import FcitError
from ..knowledge.activation import Router
from ..knowledge.image_tokens import token_width
from ..knowledge.sources import make_source
from ..knowledge.token_forms import FORMS
from ..knowledge.vision_tower import check_family
from ..plugins import registry
from ..state.folder import StateFolder
from ..state.names import BASE_CHANGE, TOKENS, subspace_folder
from ..state.own import is_own
from ..state.server_state import ServerState
from .fixed_weights import fixed_weights


@dataclass(frozen=True)
class TrainedRun:
    """The state of a finished run (or of one that stopped after some round).

    Attributes:
        source: The folder that it was read from.
        state: The server's state.
    """

    source: StateFolder
    state: ServerState

    @classmethod
    def read(cls, folder: Path) -> "TrainedRun":
        """Read an output folder.

        Raises:
            FcitError: It is none, or holds no subspace.
        """
        source = StateFolder(folder)
        source.check_trained()
        return cls(source, source.load())

    @property
    def folder(self) -> Path:
        """Where it was read from."""
        return self.source.path

    @property
    def manifest(self) -> dict[str, Any]:
        """What the folder says about itself."""
        return self.source.manifest

    def check_base(self, model: torch.nn.Module) -> None:
        """Refuse another base model of the same shape, such as the instruction-tuned version of the run's.

        Raises:
            FcitError: Its weights are others, in whatever precision.
        """
        if is_another_base(model, self.manifest.get("base_sample", {})):  # runs of before have none
            raise FcitError(
                f"`model_name_or_path` has other weights than the base model of {self.folder} (`adapter_name_or_path`), which "
                f"was {self.manifest.get('base_model')}; give that one."
            )

    def put_shared(self, model: torch.nn.Module) -> None:
        """Put the shared trainables into the base model, and what was added to its own weights.

        Raises:
            FcitError: They are not those of this base model.
        """
        self._write(model, self.state.shared)
        if self.state.base:
            add_to(model, self.state.base, scale_of(self._lora_config()), str(self.folder / BASE_CHANGE))

    def projector(self, weights: Sequence[float]) -> Tensors:
        """The shared trainables for fixed weights w [K] of the subspaces."""
        state = self.state
        return mean_projector(state.projectors, weights, state.shared) if state.projectors else state.shared

    def _write(self, model: torch.nn.Module, shared: Tensors) -> None:
        parameters = dict(model.named_parameters())
        for key, value in shared.items():
            weight = parameters.get(key)
            quantized = getattr(model, "quantization_method", None) is not None if weight is None else is_packed(weight)
            if quantized:
                raise FcitError(
                    f"The shared trainables in {self.folder} cannot be put into this base model, where {key} is quantized; "
                    "take one that is not, or quantize it by `quantization_bit` with `quantization_method: bnb`, which leaves "
                    "the projector as it is."
                )
            if weight is None or weight.shape != value.shape:
                found = "is not in it" if weight is None else f"is {list(value.shape)} there and {list(weight.shape)} in it"
                raise FcitError(
                    f"The shared trainables in {self.folder} do not fit this base model: {key} {found}; give the base model "
                    "that the run was made with."
                )
            put(weight, value, key)

    def _lora_config(self) -> LoraConfig:
        """Of what PEFT could be told, that which a subspace has; the layers are those that its tensors are named after."""
        config = self.source.adapter_config
        given = {key: config[key] for key in ("r", "lora_alpha", "lora_dropout", "use_rslora") if key in config}
        fused = config.get("target_parameters") or None
        holders = tuple(f".{name.rpartition('.')[0]}" for name in fused or ())
        # in a list PEFT would take ends of names
        names = "|".join(re.escape(name) for name in self._layers() if not holders or not f".{name}".endswith(holders))
        return LoraConfig(task_type="CAUSAL_LM", target_modules=f"(?:{names})", target_parameters=fused, **given)

    def _layers(self) -> list[str]:
        """The layers that a subspace is on; PEFT's second layer on the same fused experts is inside of the first."""
        return sorted({name.removesuffix(".base_layer") for name in layers_of(self.state.subspaces[0])})

    def stacked(self, model: PreTrainedModel) -> tuple[PeftModel, Activation]:
        """The base model with all subspaces on it, and the activation that wants weights.

        Raises:
            FcitError: A subspace does not fit the base model.
        """
        there = {name for name, _ in model.named_modules()}
        for name in self._layers() or [""]:
            if name not in there or not name:
                raise FcitError(
                    f"The subspaces in {self.folder} do not fit this base model, which has no layer `{name}`; give the base "
                    "model that the run was made with."
                )
        config = self._lora_config()
        check_fused(model, config.target_parameters or ())
        peft_model = get_peft_model(model, config)
        assert isinstance(peft_model, PeftModel)  # the mixed ones have to be asked for
        if (experts := num_experts(self.state.subspaces[0])) is not None:
            divide(peft_model, ADAPTER, experts)
        blank = read_subspace(peft_model)
        for k, subspace in enumerate(self.state.subspaces):
            what = f"subspace in {self.folder / subspace_folder(k)}"
            check_keys(blank, subspace, what)
            check_shapes(blank, subspace, what)
        return peft_model, attach(peft_model, self.state.subspaces, self.state.projectors)

    def merged(self, model: PreTrainedModel, weights: list[float]) -> torch.nn.Module:
        """The base model with the subspaces added to its own weights, for fixed w [K]: no adapter is left.

        Of subspaces with projectors of their own the model gets the mean by these weights.
        """
        self.check_plain("be merged into a model's own weights")
        peft_model, activation = self.stacked(model)
        activation.remove()
        if self.state.projectors:
            self._write(model, self.projector(weights))
        fold_weights(peft_model, torch.tensor(weights), activation.rank)
        return peft_model.merge_and_unload(adapter_names=[STACKED])

    def check_plain(self, what: str) -> None:
        """Refuse what only plain LoRAs can.

        Raises:
            FcitError: The subspaces have experts.
        """
        if num_experts(self.state.subspaces[0]) is not None:
            raise FcitError(
                f"{self.folder} was trained with `fcit_method: {self.manifest['method']}`, whose experts are weighed again for "
                f"each token: they cannot {what}. Use the folder itself as `adapter_name_or_path` of chat, api or predict."
            )

    def router(
        self,
        model: PreTrainedModel,
        tokenizer,
        pixels: PixelReader | None = None,
        fallback: float | str | None = None,
        trusted: str | None = None,
        unconfirmed: bool = True,
    ) -> Router:
        """From conversations, or images, to weights, as in the run's own evaluation.

        Args:
            model: The base model.
            tokenizer: Its tokenizer, as the template has fixed it.
            pixels: Makes pixel values, for tokens of images.
            fallback: See :class:`~fcit_plugin.knowledge.activation.Router`.
            trusted: The text encoder that the user lets the folder name, where it is not one of the user's own runs.
            unconfirmed: Whether a subspace that one client alone has trained answers, too.

        Raises:
            FcitError: The identity tokens are those of another base model.
        """
        manifest = self.manifest
        source, name, pooling, center = (manifest[f"identity_{key}"] for key in ("source", "encoder", "pooling", "center"))
        if source != "text":
            check_family(model.config, source)
        self._check_encoder(source, name, trusted)
        encoder = make_source(source, name, pooling, center, model, tokenizer, cast("PixelReader", pixels))  # text needs none
        form = FORMS[manifest["identity_form"]]
        dimension, expected = form.width(token_width(encoder)), self.state.tokens.sums.shape[1]
        if dimension != expected:
            raise FcitError(
                f"The identity tokens in {self.folder / TOKENS} have {expected} numbers, those of this base model have "
                f"{dimension}; give the base model that the run was made with."
            )
        shape = manifest["activation"], manifest["temperature"], manifest["identity_turns"]
        routed = None if unconfirmed else self.state.confirmed
        return Router(encoder, self.state.tokens, *shape, fallback, routed, form, self.state.own_cosines)

    def _check_encoder(self, source: str, name: str, trusted: str | None) -> None:
        """Refuse to load a model that nobody but the folder names."""
        if source != "image" and name not in registry("identity_encoders") and trusted != name and not is_own(self.manifest):
            raise FcitError(
                f"{self.folder} names the text encoder `{name}` and is not from a run of your own on this machine; if you "
                f"trust that model, set `fcit_trusted_encoder: {name}` (--trusted-encoder of fcit-cli export-adapters)."
            )

    def fixed_weights(self, given: str | list | None) -> list[float]:
        """The weights w [K] that ``fcit_export_weights`` names; see :func:`fcit_plugin.serving.fixed_weights.fixed_weights`."""
        datasets = {task.name: task.datasets for task in self.source.scenario.tasks}
        return fixed_weights(given, self.state.tasks, self.state.tokens.counts, datasets)

    def export_weights(
        self, fcit: FcitArguments, make_router: Callable[[], Router], model_args, data_args, pixels: PixelReader
    ) -> list[float]:
        """The weights w [K] of an export: fixed ones, or with ``auto`` what an instruction or a dataset activates."""
        if fcit.fcit_export_weights != "auto":
            return self.fixed_weights(fcit.fcit_export_weights)
        given = fcit.fcit_export_instruction
        assert given is not None  # `auto` needs it
        conversations = [user_turns([{"role": "user", "content": given}])]
        images: Sequence[Sequence[Any] | None] = [None]
        catalogue = Catalogue.of(data_args, fcit, cache_dir=model_args.cache_dir)
        if given in catalogue:
            conversations, images = records_of(given, catalogue, model_args, data_args)
        source = self.manifest["identity_source"]
        if source != "text" and not any(images):
            raise FcitError(
                f"`fcit_export_instruction: {given}` shows no image, and {self.folder} was trained with "
                f"`fcit_identity_source: {source}`; name a dataset with images, or set `fcit_export_weights`."
            )
        router = make_router()
        embedded, _ = router.listen(conversations, lambda: LazyPixels(images, pixels))
        return router.weights_of(embedded.mean(axis=0, keepdims=True))[0].tolist()
