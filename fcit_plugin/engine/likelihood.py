"""How likely the right answers of test records are to a model: what a score of whole answers does not show."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel

#: In the features of a row that ends with its right answer: how many tokens of it are the answer's.
ANSWER_TOKENS = "answer_tokens"


def with_answer(feature: Mapping[str, Any]) -> dict[str, Any]:
    """The features of a test record with its right answer behind the prompt, as a client is trained on it.

    Args:
        feature: Prompt ("input_ids", "attention_mask") and answer ("labels", with the end of the turn), as LLaMA-Factory
            tokenizes a record to predict.
    """
    answer = list(feature["labels"])
    ids, mask = [*feature["input_ids"], *answer], [*feature["attention_mask"], *[1] * len(answer)]
    return {**feature, "input_ids": ids, "attention_mask": mask, ANSWER_TOKENS: len(answer)}


@torch.no_grad()
def answer_losses(model: PeftModel, inputs: Mapping[str, Any], counts: Sequence[int]) -> list[float]:
    """The mean negative log-likelihood of the last tokens of each row, each given all tokens before it (teacher forced).

    Args:
        model: The model, with its adapter set.
        inputs: Prompts with answers as the model takes them, padded on the right, [n, L].
        counts: How many tokens at the end of each row are its answer's, at least 1.

    Returns:
        For each row the mean over its answer's tokens in nats, computed in float32.
    """
    ids: torch.Tensor = inputs["input_ids"]
    ends = inputs["attention_mask"].sum(dim=1).tolist()
    first = min(end - count for end, count in zip(ends, counts, strict=True)) - 1
    kept = ids.shape[1] - first
    takes = "logits_to_keep" in inspect.signature(model.get_base_model().forward).parameters  # others give those of all
    logits = model(**inputs, use_cache=False, **({"logits_to_keep": kept} if takes else {})).logits[:, -kept:]
    found = []
    for row, end, count in zip(range(len(ids)), ends, counts, strict=True):
        told = logits[row, end - count - 1 - first : end - 1 - first].float()
        found.append(float(torch.nn.functional.cross_entropy(told, ids[row, end - count : end].to(told.device))))
    return found
