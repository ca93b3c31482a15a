"""Several questions about one image in one sequence, each blind to the others.

A row is ``prefix | question answer | question answer | ...``: the prefix (with the image) is computed once, positions
start again after it for each question, and the mask lets a question see only the prefix and itself. So each question is
trained exactly as if it stood alone.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from transformers import PreTrainedTokenizerFast

from .labels import IGNORE, SIDE
from .questions import Turn
from .tokenizer import IMAGE

PROMPT = "USER: <image>\n{question} ASSISTANT:"
"""What LLaMA-Factory's template ``llava`` makes of a question when ``default_system`` is empty."""


@dataclass
class Packed:
    """Tensors of a batch of packed rows."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    answers: torch.Tensor
    """Running number of the question that a token belongs to, over the whole batch."""
    position_ids: torch.Tensor
    attention_mask: torch.Tensor


class Packer:
    """Turns lists of questions and answers into packed rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        image = tokenizer.convert_tokens_to_ids(IMAGE)
        head = self._encode(PROMPT)
        self._start = head.index(image) + 1
        self.prefix = head[: self._start - 1] + [image] * SIDE**2
        self.question = lru_cache(maxsize=100_000)(self._question)
        self.answer = lru_cache(maxsize=100_000)(self._answer)

    def pack(self, rows: list[list[Turn]]) -> Packed:
        """Pack one row per image."""
        packed = [self._row(turns) for turns in rows]
        longest = max(len(ids) for ids, *_ in packed)
        size = (len(packed), longest)
        ids = torch.full(size, self.tokenizer.pad_token_id)
        labels, positions = torch.full(size, IGNORE), torch.zeros(size, dtype=torch.long)
        blocks = torch.full(size, -1)
        for i, (row_ids, row_labels, row_positions, row_blocks) in enumerate(packed):
            length = len(row_ids)
            ids[i, :length], labels[i, :length] = torch.tensor(row_ids), torch.tensor(row_labels)
            positions[i, :length], blocks[i, :length] = torch.tensor(row_positions), torch.tensor(row_blocks)
        first = torch.tensor([0] + [len(turns) for turns in rows[:-1]]).cumsum(0)
        return Packed(ids, labels, blocks - 1 + first[:, None], positions, _mask(blocks))

    def _row(self, turns: list[Turn]) -> tuple[list[int], list[int], list[int], list[int]]:
        ids, count = list(self.prefix), len(self.prefix)
        labels, positions, blocks = [IGNORE] * count, list(range(count)), [0] * count
        for block, (question, answer) in enumerate(turns, start=1):
            asked, answered = self.question(question), self.answer(answer)
            length = len(asked) + len(answered)
            ids += asked + answered
            labels += [IGNORE] * len(asked) + answered
            positions += range(count, count + length)
            blocks += [block] * length
        return ids, labels, positions, blocks

    def _question(self, question: str) -> list[int]:
        return self._encode(PROMPT.format(question=question))[self._start :]

    def _answer(self, answer: str) -> list[int]:
        return [*self._encode(answer), self.tokenizer.eos_token_id]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _mask(blocks: torch.Tensor) -> torch.Tensor:
    """True where a token [batch, 1, query, key] may look: backwards, at the prefix and at its own block."""
    length = blocks.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    query, key = blocks[:, :, None], blocks[:, None, :]
    return ((query == key) | (key == 0)).logical_and(causal)[:, None]
