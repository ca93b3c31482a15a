"""Keys for using what a run learned: in LLaMA-Factory's own commands, on an FCIT folder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import AUTO, number_or_auto, option
from .reasons import refuse

#: Keys for ``llamafactory-cli export`` of an FCIT folder.
EXPORT_KEYS = ("fcit_export_weights", "fcit_export_instruction")
#: Keys for chat, api, webchat and predict with an FCIT folder.
ROUTING_KEYS = ("fcit_trace_activation", "fcit_fallback_threshold")
#: Keys for all of them.
FOLDER_KEYS = ("fcit_trusted_encoder",)

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class InferenceArguments:
    """How subspaces act after the run."""

    fcit_export_weights: str | None = option(
        None,
        "For export: the number of one subspace, a dataset that it learned, a list of weights, auto, or mean (default: mean).",
    )
    fcit_export_instruction: str | None = option(
        None, "For fcit_export_weights: auto: the instruction that weighs the subspaces, or a dataset whose mean does."
    )
    fcit_trace_activation: bool = option(False, "Log which subspaces each request activates, and how much.")
    fcit_fallback_threshold: float | str | None = option(
        None,
        "An instruction whose best cosine to all identity tokens is lower is answered without any subspace: a number, or auto, "
        "the encoder's own (0.2 for prompt, 0.25 for minilm and other text encoders, none for embedding), or a smaller one "
        "where the run's own clients have instructions that are farther (default: none is).",
    )
    fcit_route_unconfirmed: bool = option(
        True,
        "Whether questions also go to subspaces that one client alone has trained, in chat, api, predict and a run's own "
        "evaluation; false: the other subspaces answer, and the base model where there is no other.",
    )
    fcit_trusted_encoder: str | None = option(
        None,
        "The path or name of the text encoder that a folder from elsewhere may have loaded; those of your own runs need no "
        "such word.",
    )


def parse_inference(args: "FcitArguments") -> None:
    """Turn text from the command line into the values that it means."""
    if args.fcit_export_weights is not None and not isinstance(args.fcit_export_weights, list):
        args.fcit_export_weights = str(args.fcit_export_weights)
    args.fcit_fallback_threshold = number_or_auto(args.fcit_fallback_threshold)


def check_inference(args: "FcitArguments") -> None:
    """Refuse values that cannot work, alone or together."""
    if (args.fcit_export_weights == "auto") != (args.fcit_export_instruction is not None):
        refuse(
            "`fcit_export_weights: auto` and `fcit_export_instruction` belong together: the instruction, or the "
            "dataset, says which subspaces are merged."
        )
    far = args.fcit_fallback_threshold
    number = isinstance(far, (int, float)) and not isinstance(far, bool)
    if far is not None and far != AUTO and not (number and -1 <= float(far) <= 1):
        refuse(f"`fcit_fallback_threshold` is a cosine between -1 and 1, or auto, got {far}.")
