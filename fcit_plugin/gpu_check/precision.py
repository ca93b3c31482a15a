"""Checks of precisions and kernels: fp16, four bits, FlashAttention, liger."""

import math
from importlib.util import find_spec
from typing import Any

from .bench import Bench
from .check import SkippedError, hold
from .results import check_sound, report_of

#: Methods and rules that change gradients, which a GradScaler has scaled.
_CHANGE_GRADIENTS = ({"fcit_method": "ewc"}, {"fcit_server_rule": "fedprox"}, {"fcit_server_rule": "scaffold"})


def fp16(bench: Bench) -> str:
    """Fp16 trains with its scaler; what changes gradients is refused with it."""
    run = bench.train_here(bench.text("run", fp16=True))
    for k, changes in enumerate(_CHANGE_GRADIENTS):
        _check_refused(bench, bench.text(f"refused_{k}", fp16=True, **changes), "fp16")
    return f"{check_sound(run)}, {len(_CHANGE_GRADIENTS)} refused"


def _check_refused(bench: Bench, keys: dict[str, Any], word: str) -> None:
    from ..errors import FcitError

    try:
        bench.train_here(keys)
    except FcitError as error:
        hold(word in str(error), f"the sentence does not name {word}: {error}")
    else:
        hold(False, f"{word} was not refused with {keys['fcit_method']}")


def four_bits(bench: Bench) -> str:
    """A base model in four bits (QLoRA) trains, is evaluated, and chats."""
    from llamafactory.chat import ChatModel

    _need("bitsandbytes")
    keys = bench.text("run", quantization_bit=4, quantization_method="bnb", bf16=True)
    run = bench.train_here(keys)
    report = report_of(run)
    hold(not report["dropped"], f"replies were dropped: {report['dropped'][:1]}")
    hold(all(math.isfinite(score) for row in report["accuracy"] for score in row if score is not None), "scores are missing")
    given = {key: keys[key] for key in ("model_name_or_path", "template", "default_system", "quantization_bit")}
    model = ChatModel({**given, "adapter_name_or_path": str(run), "max_new_tokens": 4, "do_sample": False})
    hold(bool(model.chat([{"role": "user", "content": "What is 3 + 4?"}])), "it does not answer")
    return check_sound(run)


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise SkippedError(f"{package} is not installed")


def flash_attention(bench: Bench) -> str:
    """FlashAttention 2 trains and answers."""
    _need("flash_attn")
    return check_sound(bench.train_here(bench.text("run", flash_attn="fa2", bf16=True)))


def liger(bench: Bench) -> str:
    """Liger's kernels train; with `lwf`, which needs the logits that they leave out, they are refused."""
    _need("liger_kernel")
    run = bench.train_here(bench.text("run", enable_liger_kernel=True, bf16=True))
    _check_refused(bench, bench.text("refused", enable_liger_kernel=True, fcit_method="lwf"), "liger")
    return check_sound(run)
