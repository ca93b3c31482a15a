"""Answers are those of the most likely tokens, whatever the base model's generation_config.json says."""

import pytest
import torch
from llamafactory.hparams import get_train_args
from transformers import AutoModelForCausalLM, GenerationConfig, WatermarkingConfig

from fcit_plugin.engine.open_session import open_session

STEPS = 6
#: What a generation config may say, each far from usual.
ODD = {
    **{"do_sample": True, "num_beams": 3, "num_return_sequences": 2, "early_stopping": True, "length_penalty": 5.0},
    **{"temperature": 9.0, "top_k": 3, "top_p": 0.1, "min_p": 0.9, "top_h": 0.1, "typical_p": 0.1, "penalty_alpha": 0.9},
    **{"epsilon_cutoff": 0.9, "eta_cutoff": 0.9, "repetition_penalty": 8.0, "encoder_repetition_penalty": 0.1},
    **{"no_repeat_ngram_size": 1, "encoder_no_repeat_ngram_size": 1, "renormalize_logits": True, "guidance_scale": 5.0},
    **{"forced_bos_token_id": 7, "forced_eos_token_id": 2, "exponential_decay_length_penalty": (0, 90.0)},
    **{"sequence_bias": [[[7], 90.0]], "min_length": 50, "min_new_tokens": 50, "max_time": 1e-9, "stop_strings": [" "]},
    **{"token_healing": True, "prompt_lookup_num_tokens": 2, "remove_invalid_values": True},
    **{"max_length": 1, "max_new_tokens": 1, "low_memory": True, "decoder_start_token_id": 7},
    **{"output_attentions": True, "output_hidden_states": True, "output_scores": True, "output_logits": True},
    **{"return_dict_in_generate": True, "use_cache": False, "dola_layers": "low", "eos_token_id": 7, "pad_token_id": 7},
    **{"num_beam_groups": 2, "diversity_penalty": 1.0, "constraints": [], "force_words_ids": [[7]], "bos_token_id": 7},
    **{"assistant_early_exit": 1, "watermarking_config": WatermarkingConfig(bias=90.0)},
}
#: What a config may say as well: tokens that the model must never write, and how generation goes about it.
LEFT = {
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "cache_implementation", "cache_config", "compile_config"),
    *("disable_compile", "prefill_chunk_size", "continuous_batching_config", "transformers_version", "is_assistant"),
    *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "max_matching_ngram_size"),
    *("assistant_lookbehind", "target_lookbehind"),
}


@pytest.fixture
def opened(text_recipe):
    session = open_session(*get_train_args(text_recipe(max_new_tokens=STEPS)))
    evaluator = session.evaluator({})
    return evaluator, list(session.pipeline.test("letter").features)[:2]


def most_likely(model, prompt):
    said = []
    for _ in range(STEPS):
        with torch.no_grad():
            said.append(model(torch.tensor([[*prompt, *said]])).logits[0, -1].argmax().item())
    return said


def test_no_setting_of_a_models_own_config_changes_an_answer(opened, text_model):
    evaluator, features = opened
    plain = AutoModelForCausalLM.from_pretrained(text_model).eval()
    right = [most_likely(plain, feature["input_ids"]) for feature in features]
    stops = set(evaluator.stop_ids)
    assert all(len(set(ids)) < STEPS and not stops & set(ids) for ids in right), "else a penalty would change nothing"
    config = evaluator.model.eval().get_base_model().generation_config
    config.do_sample = True  # without it some settings are refused
    known = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert known <= ODD.keys() | LEFT, "what does it do to answers?"
    wrong = {}
    for name in sorted(ODD.keys() & known):
        usual = getattr(config, name)
        setattr(config, name, ODD[name])
        torch.manual_seed(0)
        try:
            found = evaluator.write(features)
        except Exception as error:
            found = error
        setattr(config, name, usual)
        if found != right:
            wrong[name] = found
    assert not wrong


def test_tokens_that_a_model_must_not_write_stay_out(opened):
    evaluator, features = opened
    evaluator.model.eval()
    (first, *_), _ = evaluator.write(features)
    evaluator.model.get_base_model().generation_config.suppress_tokens = [first]
    assert not any(first in ids for ids in evaluator.write(features))
