"""What ``generate`` is told so that a model answers by its most likely tokens, whatever its ``generation_config.json`` says.

Many models come with one that is made for a chat: Qwen2.5's lowers what the prompt already has (``repetition_penalty``), and so
the options that a question offers. What is not said takes its value from there. Tokens that a model must never write
(``suppress_tokens``, ``begin_suppress_tokens``, ``bad_words_ids``) stay out, as with LLaMA-Factory.
"""

from functools import cache
from typing import Any

from transformers import GenerationConfig

_NEUTRAL: dict[str, Any] = {
    # how tokens are chosen
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    **dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")),
    **dict.fromkeys(("penalty_alpha", "dola_layers", "constraints", "force_words_ids")),
    **dict.fromkeys(("guidance_scale", "watermarking_config")),
    **{"num_beam_groups": 1, "diversity_penalty": 0.0, "length_penalty": 1.0, "early_stopping": False},
    # what is made of their logits
    **{"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0},
    **{"no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0},
    **dict.fromkeys(("sequence_bias", "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty")),
    **{"renormalize_logits": False, "remove_invalid_values": False, "token_healing": False},
    # where an answer ends
    **{"min_length": 0, "min_new_tokens": None, "max_time": None, "stop_strings": None},
    # guesses ahead, which are for single prompts
    **dict.fromkeys(("prompt_lookup_num_tokens", "assistant_early_exit")),
    # what comes back
    **dict.fromkeys(("output_attentions", "output_hidden_states", "output_scores", "output_logits"), False),
    "return_dict_in_generate": False,
}


@cache
def greedy() -> dict[str, Any]:
    """The arguments of ``generate``, those that this version of transformers knows."""
    known = vars(GenerationConfig())
    return {key: value for key, value in _NEUTRAL.items() if key in known}
