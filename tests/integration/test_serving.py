"""An FCIT output folder as ``adapter_name_or_path`` of LLaMA-Factory's chat and export."""

import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from llamafactory.data.template import TEMPLATES
from runs import infer_args, run_recipe, weighted_by_peft
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from fcit_plugin.federation.state import load_state
from fcit_plugin.integration.serving import instruction_reader
from fcit_plugin.knowledge.activation import activation_weights
from fcit_plugin.knowledge.embedding import EmbeddingEncoder


@pytest.mark.parametrize("task", ["color", "letter"])
def test_chat_activates_by_the_request(text_run, text_keys, task):
    question = f"{tiny.TASKS[task][0]} red"
    chat = ChatModel(infer_args(text_keys, text_run, infer_backend="huggingface", max_new_tokens=4, do_sample=False))
    engine = chat.engine
    state, _ = load_state(text_run)
    base = AutoModelForCausalLM.from_pretrained(text_keys["model_name_or_path"]).eval()
    encoder = EmbeddingEncoder(base.get_input_embeddings(), engine.tokenizer, center=True)
    weights = activation_weights(
        encoder.encode([question]), state.tokens.tokens, state.tokens.counts > 0, mode="softmax", temperature=0.05
    )[0]
    reference = weighted_by_peft(base, text_run, weights.tolist())
    ids, _ = engine.template.encode_oneturn(
        engine.tokenizer, [{"role": "user", "content": question}, {"role": "assistant", "content": ""}]
    )
    ids = torch.tensor([ids])
    with torch.inference_mode():
        got = engine.model(input_ids=ids).logits
        torch.testing.assert_close(got, reference(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
    expected = reference.generate(input_ids=ids, max_new_tokens=4, do_sample=False, eos_token_id=2, pad_token_id=0)
    answer = engine.tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True)
    assert chat.chat([{"role": "user", "content": question}])[0].response_text.strip() == answer.strip()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that can write any text: one token per byte, and the markers of some templates."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.add_tokens(["<image>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>"], special_tokens=True)
    return fast


@pytest.mark.parametrize("name", ["llava", "vicuna", "default", "qwen", "llama3", "smollm2_vl", "gemma", "mistral"])
@pytest.mark.parametrize("padding", [0, 3])
def test_the_latest_instruction_is_read_back_from_the_ids(name, padding):
    tokenizer = byte_tokenizer()
    turns = [("user", "first colour"), ("assistant", "red"), ("user", "<image>\nWhich letter, please?"), ("assistant", "")]
    messages = [{"role": role, "content": content} for role, content in turns]
    (first, answer), (latest, _) = TEMPLATES[name].encode_multiturn(tokenizer, messages, system="Be helpful.")
    prompt = [tokenizer.pad_token_id] * padding + first + answer + latest
    assert instruction_reader(tokenizer, name)(torch.tensor(prompt)) == "Which letter, please?"


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("qwen2_vl", "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"),
        ("qwen3_vl", "<|vision_start|><|image_pad|><|vision_end|>"),
        ("llava", "<image><image><image>"),
    ],
)
def test_the_tokens_of_an_image_are_no_part_of_the_instruction(name, image):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"], special_tokens=True)
    messages = [{"role": "user", "content": f"{image}\nWhich letter, please?"}, {"role": "assistant", "content": ""}]
    prompt, _ = TEMPLATES[name].encode_oneturn(tokenizer, messages)
    assert instruction_reader(tokenizer, name)(torch.tensor(prompt)) == "Which letter, please?"


def test_an_fcit_folder_cannot_be_trained_on(text_run, text_keys, text_data, tmp_path):
    keys = {key: value for key, value in text_keys.items() if not key.startswith("fcit_")}
    keys |= {"stage": "sft", "dataset": "color", "output_dir": str(tmp_path / "out"), "report_to": "none"}
    with pytest.raises(ValueError, match="is the output of an fcit run: it can be used for inference"):
        run_recipe({**keys, "adapter_name_or_path": str(text_run)})
