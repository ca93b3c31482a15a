"""``fcit-cli export-adapters``: what a run learned as standard adapters, and what picks one of them for a prompt."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.extras import logging
from llamafactory.hparams import get_infer_args
from llamafactory.model import load_model, load_tokenizer
from llamafactory.train.tuner import export_model
from transformers import AutoConfig

from ..adapters.lora import Tensors
from ..adapters.peft_folder import fixed_adapter, with_projector, write_adapter
from ..arguments import FcitArguments
from ..data.catalogue import Catalogue
from ..data.pipeline import records_of
from ..data.pixels import PixelReader
from ..errors import FcitError
from ..folders import check_empty, whole_folder
from ..knowledge.activation import Router
from ..knowledge.encoders import make_encoder
from ..knowledge.identity_encoders import EMBEDDING, PROMPT
from ..recipe.embedded import EMBEDDED_MODELS, resolve_model
from ..state.own import is_own
from .other_router import other_router
from .router_files import write_router
from .trained import TrainedRun

logger = logging.get_logger(__name__)

STACKED = "stacked"


def export_adapters(
    folder: Path,
    out: Path,
    *,
    model: str | None = None,
    fcit: FcitArguments | None = None,
    base_copy: Path | None = None,
    adapters_only: bool = False,
    with_router: bool = True,
    dataset_dir: str | None = None,
    trusted_encoder: str | None = None,
    router_encoder: str | None = None,
    router_data: Sequence[str] = (),
) -> None:
    """Write one PEFT folder per subspace, and ``router.json`` with what belongs to it.

    Args:
        folder: Output folder of a run.
        out: The folder to write; new or empty.
        model: The base model; None: the one that the run names.
        fcit: Keys ``fcit_export_weights`` and ``fcit_export_instruction``: also write the one adapter that they mean.
        base_copy: Also write a copy of the base model with the shared trainables (projector) in it.
        adapters_only: Leave the projectors out, the shared one and those of subspaces that have their own.
        with_router: Whether to write the router.
        dataset_dir: Where ``fcit_export_instruction`` finds datasets.
        trusted_encoder: The text encoder that a folder from elsewhere may name.
        router_encoder: The encoder of the router, where it is not to be the run's own: one that servers can run.
        router_data: Datasets whose instructions its tokens are made of, and both routers are compared with.

    Raises:
        FcitError: The folder holds no subspace, something would be lost or overwritten, or the identity encoder cannot
            be written down.
    """
    trained = TrainedRun.read(folder)
    trained.check_plain("be written as LoRA adapters")
    if with_router and trained.manifest["identity_source"] != "text":
        raise FcitError(
            f"{folder} was trained with `fcit_identity_source: {trained.manifest['identity_source']}`, and router.json knows "
            "instructions alone; write the adapters alone (--no-router), or use the folder itself with chat and api."
        )
    other = _other_encoder(trained, router_encoder, router_data) if with_router else None
    for target in filter(None, (out, base_copy)):
        check_empty(target)
    if trained.state.base and base_copy is None:
        raise FcitError(
            f"{folder} has changed the base weights under the subspaces, which a LoRA adapter cannot hold; give --base-copy "
            "DIR for a copy of the base model with the change in it."
        )
    if trained.state.shared and not trained.state.projectors and base_copy is None and not adapters_only:
        names = ", ".join(sorted({key.rpartition(".")[0] for key in trained.state.shared}))
        raise FcitError(
            f"{folder} holds shared trainables beside the subspaces ({names}), which a LoRA adapter cannot hold; give "
            "--base-copy DIR for a copy of the base model with them in it, or --adapters-only to leave them out."
        )
    if base_copy is not None and not (trained.state.shared or trained.state.base):
        raise FcitError(f"{folder} holds nothing but subspaces, for the base model as it is; leave --base-copy out.")
    if model is None and trained.manifest["base_model"] not in EMBEDDED_MODELS and not is_own(trained.manifest):
        raise FcitError(
            f"{folder} names the base model `{trained.manifest['base_model']}` and is not from a run of your own on this "
            "machine; give the base model yourself, with --model."
        )
    keys = {"model_name_or_path": model or trained.manifest["base_model"], "template": trained.manifest["template"]}
    resolve_model(keys)
    given = {"dataset_dir": dataset_dir} if dataset_dir else {}
    model_args, data_args, finetuning_args, _ = get_infer_args({**keys, **given})

    @cache
    def reading() -> tuple[Any, PixelReader]:
        loaded = load_tokenizer(model_args)
        return loaded["tokenizer"], PixelReader(
            get_template_and_fix_tokenizer(loaded["tokenizer"], data_args), loaded["processor"]
        )

    @cache
    def loaded_model() -> Any:
        return load_model(reading()[0], model_args, finetuning_args)

    @cache
    def router() -> Router:
        return trained.router(loaded_model(), *reading(), trusted=trusted_encoder)

    weights = trained.export_weights(fcit, router, model_args, data_args, reading()[1]) if fcit is not None else None
    if base_copy is not None:
        _copy_base(keys, trained, base_copy)
    base_model = str(base_copy.absolute()) if base_copy is not None else keys["model_name_or_path"]
    config = trained.source.adapter_config
    complete = trained.state.projectors and not adapters_only
    if complete:
        logger.info_rank0(
            "Each adapter brings its projector along (`modules_to_save`), which PEFT and LLaMA-Factory load and vLLM does not."
        )
    elif trained.state.projectors:
        logger.warning_rank0(
            "The adapters are without the projectors that the subspaces were trained with, and will answer otherwise."
        )

    def write(target: Path, state: Tensors, config: dict[str, Any], weights: Sequence[float]) -> None:
        parts = with_projector(state, config, trained.projector(weights)) if complete else (state, config)
        write_adapter(target, *parts, base_model)

    adapters = []
    with whole_folder(out) as partial:
        for k, subspace in enumerate(trained.state.subspaces):
            name = f"subspace_{k}"
            write(partial / name, subspace, config, [float(j == k) for j in range(len(trained.state.subspaces))])
            counts = {"tasks": trained.state.tasks[k], "count": int(trained.state.tokens.counts[k])}
            adapters.append({"name": name, "path": name, "rank": config["r"], **counts})
        if weights is not None:
            write(partial / STACKED, *fixed_adapter(trained.state.subspaces, weights, config), weights)
        if with_router:
            chosen, agreement = router(), None
            if other is not None:
                catalogue = Catalogue.of(data_args, fcit or FcitArguments(), cache_dir=model_args.cache_dir)
                said = [turns for name in router_data for turns in records_of(name, catalogue, model_args, data_args)[0]]
                encoder = make_encoder(other, "mean", True, loaded_model(), reading()[0])
                chosen, agreement = other_router(chosen, encoder, said)
                logger.info_rank0(
                    f"router.json goes by `{other}` and not by `{trained.manifest['identity_encoder']}`: {agreement}."
                )
            write_router(partial, chosen, adapters, base_model, agreement)


def _other_encoder(trained: TrainedRun, given: str | None, data: Sequence[str]) -> str | None:
    """The encoder that the router is to have in place of the run's, None for the run's own.

    Raises:
        FcitError: The run's cannot be written down, or there is nothing to make other tokens of.
    """
    own = trained.manifest["identity_encoder"]
    other = (EMBEDDING if own == PROMPT and data else own) if given is None else given
    if other == PROMPT:
        raise FcitError(
            f"{trained.folder} has tokens of `fcit_identity_encoder: {PROMPT}`, the base model's hidden states, which servers "
            "without this plugin do not give; name datasets with --router-data whose instructions another encoder's tokens are "
            "made of (--router-encoder, else embedding), or write the adapters alone (--no-router)."
        )
    if other == own:
        if data:
            raise FcitError(f"--router-data is for another encoder than the run's ({own}); name it with --router-encoder.")
        return None
    if not data:
        raise FcitError(
            f"--router-encoder {other} is not the run's ({own}), and a run keeps no texts: name datasets with --router-data "
            "whose instructions the new tokens are made of."
        )
    return other


def _copy_base(keys: dict[str, str], trained: TrainedRun, target: Path) -> None:
    """LLaMA-Factory's export with no subspace at all: base model, shared trainables, tokenizer, processor."""
    config = AutoConfig.from_pretrained(keys["model_name_or_path"], trust_remote_code=False)
    dtype = getattr(config, "dtype", None) or config.get_text_config().dtype
    export_model(
        {
            **keys,
            "adapter_name_or_path": str(trained.folder),
            "export_dir": str(target),
            "infer_dtype": str(dtype or "float32").removeprefix("torch."),
            "fcit_export_weights": [0.0] * len(trained.state.subspaces),
        }
    )
