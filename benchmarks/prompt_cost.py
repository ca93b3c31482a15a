"""What `fcit_identity_encoder: prompt` costs a request of 64 prompt tokens that is answered with 32.

    python benchmarks/prompt_cost.py --model SmolLM2-135M --dtype bfloat16

The encoder sees the prompt and its sentences in one batch; the answer is generated greedily by the base model alone, which is
faster than through subspaces, so the share shown is the most that it can be. Both are
timed in turn, and the share is the median of the pairs'.
"""

from collections.abc import Sequence
from functools import partial
from statistics import median

import torch
from measure import arguments, show
from timing import alternate, ratio
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from fcit_plugin.knowledge.prompt_encoder import PromptEncoder
from fcit_plugin.knowledge.turns import ways_to_tell
from fcit_plugin.samples.text import text_model_path

PROMPT_TOKENS, ANSWER_TOKENS = 64, 32
#: Sentences of a prompt -> what it says before it is cut to so many tokens.
PROMPTS = {
    1: "Put the following numbers into ascending order and write nothing but the result " + "17 4 256 33 8 91 " * 20,
    2: "Please put these numbers into ascending order. Write nothing but the result " + "17 4 256 33 8 91 " * 20,
    4: "Hello, I hope that you can help me with something. I have a list of numbers here. Could you put them into ascending "
    "order for me? Write nothing but the result " + "17 4 256 33 8 91 " * 20,
}


def encode(encoder: PromptEncoder, ways: Sequence[str]) -> None:
    """Encode texts that the encoder has not seen."""
    encoder.forget()
    encoder.encode(ways)


def answer(model: PreTrainedModel, ids: torch.Tensor) -> None:
    """Answer a prompt with so many tokens."""
    length = {"min_new_tokens": ANSWER_TOKENS, "max_new_tokens": ANSWER_TOKENS}
    model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **length)


def main() -> None:
    """Print the table."""
    args = arguments(__doc__, model="", dtype="float32", repeats=9)
    path = args.model or str(text_model_path())
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, args.dtype)).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(path)
    encoder = PromptEncoder(model, tokenizer)
    rows = []
    for sentences, text in PROMPTS.items():
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][:, :PROMPT_TOKENS].to(model.device)
        ways = ways_to_tell(encoder, tokenizer.decode(ids[0]))

        calls = {"encode": partial(encode, encoder, ways), "answer": partial(answer, model, ids)}
        found = alternate(calls, 1 if args.tiny else args.repeats)
        times = [1000 * median(found[name]) for name in calls]
        rows.append([sentences, len(ways), *times, f"{ratio(found['encode'], found['answer']):.1%}"])
    show(["sentences", "texts encoded", "ms to encode", "ms to answer", "share"], rows)


if __name__ == "__main__":
    main()
