"""What a recipe leaves to the base model: the identity encoder, and the cosine that belongs to it (``auto``).

A state from which a run goes on says what it was made with: a commit, an earlier run's folder, the state that a site trains
on. So whoever takes part later, and whoever averages without a model, need not look. Only a run that begins asks the base
model, and its first process decides for all.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from llamafactory.extras import logging

from ..arguments.option import AUTO
from ..errors import FcitError, one_line
from ..knowledge.identity_encoders import EMBEDDING, PROMPT
from ..knowledge.nearness import nearness_of
from ..knowledge.prompt_encoder import ENOUGH, PromptEncoder
from ..knowledge.public_lists import public_pairs
from ..recipe.embedded import EMBEDDED_MODELS
from .fingerprint import SETTLED
from .session import Setup

logger = logging.get_logger(__name__)


def settled_by(setup: Setup, manifest: Mapping[str, Any]) -> Setup:
    """The setup with what a state was made with in place of ``auto``."""
    known = {key: manifest.get(name) for key, name in SETTLED.items()}
    return _with(setup, {key: held for key, held in known.items() if held is not None and getattr(setup.args, key) == AUTO})


def settled_at_once(setup: Setup) -> Setup:
    """The setup with `embedding` where no model has to be asked for it: where tokens decide nothing, or are no text's."""
    args = setup.args
    if args.fcit_identity_encoder != AUTO:
        return setup
    if not args.part("methods").load().organizes_by_tokens:
        reason = f"`fcit_method: {args.fcit_method}` does not go by tokens"
    elif args.fcit_identity_source == "image":
        reason = "tokens are made of images"
    elif not args.fcit_identity_center:
        reason = "`fcit_identity_center: false` wants raw tokens"
    else:
        return setup
    return replace(_with(setup, {"fcit_identity_encoder": EMBEDDING}), encoder_choice=f"{EMBEDDING}: {reason}")


def settled_by_model(setup: Setup, model: Any, tokenizer: Any) -> Setup:
    """The setup with the encoder that the base model is fit for in place of ``auto``; the first process decides."""
    if setup.args.fcit_identity_encoder == AUTO:
        name, reason = setup.processes.from_main(choose(model, tokenizer))
        logger.info_rank0(f"Identity tokens are made by `fcit_identity_encoder: {name}`: {reason}.")
        setup = replace(_with(setup, {"fcit_identity_encoder": name}), encoder_choice=f"{name}: {reason}")
    if setup.pool is not None:  # the first process may have had it from a commit
        setup = _with(setup, setup.pool.gather({key: getattr(setup.args, key) for key in SETTLED})[0])
    return setup


def settled_without_weights(setup: Setup) -> Setup:
    """The setup with an encoder to plan with; where a model would have to be asked, `prompt`: its tokens are longer."""
    if setup.args.fcit_identity_encoder != AUTO:
        return setup
    name = EMBEDDING if setup.base_model in EMBEDDED_MODELS else PROMPT
    return replace(_with(setup, {"fcit_identity_encoder": name}), encoder_choice=f"{AUTO}, at most as long as of {name}")


def settled_by_encoder(setup: Setup, encoder: Any) -> Setup:
    """The setup with the encoder's own cosine in place of ``auto``."""
    if setup.args.fcit_similarity_threshold != AUTO:
        return setup
    return _with(setup, {"fcit_similarity_threshold": nearness_of(encoder).threshold})


def choose(model: Any, tokenizer: Any) -> tuple[str, str]:
    """The encoder that a base model is fit for, and why.

    It is `prompt` if the second of at least 15 of 20 public pairs, which ask for the same in other words, is nearest to its own
    first, and else `embedding`.
    """
    try:
        told = PromptEncoder(model, tokenizer).told_pairs()
    except FcitError as error:
        return EMBEDDING, one_line(error).rstrip(".")
    except (MemoryError, torch.OutOfMemoryError):  # the machine's failure says nothing of the model
        raise
    except Exception as error:  # a base model's code may raise anything, and needs no hidden states to be trained
        return EMBEDDING, f"the base model gives no hidden states ({type(error).__name__}: {one_line(error)})"
    found = f"the base model tells {told} of {len(public_pairs())} public pairs of rewordings"
    return (PROMPT, found) if told >= ENOUGH else (EMBEDDING, f"{found}, fewer than {ENOUGH}")


def _with(setup: Setup, values: Mapping[str, Any]) -> Setup:
    """The setup with these values; whatever they are, they are among the keys that decide."""
    args = replace(setup.args, **values) if values else setup.args
    known = {key: getattr(args, key) for key in SETTLED}
    return replace(setup, args=args, keys={**setup.keys, **known})
