"""A tokenizer that can write any text."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def byte_tokenizer(template=None, special: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """One token for each byte, and the tokens that the template names.

    Args:
        template: LLaMA-Factory's template, which adds its stop words.
        special: Further special tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.add_tokens(["<image>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>", *special], special_tokens=True)
    if template is not None:
        formats = (template.format_user, template.format_assistant, template.format_system, template.format_prefix)
        slots = [slot for part in formats for slot in part.slots]
        fast.add_tokens([slot["token"] for slot in slots if isinstance(slot, dict)], special_tokens=True)
        template.fix_special_tokens(fast)
    return fast
