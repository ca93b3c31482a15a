"""The text of an answer that is compared: one way for what a record expects and for what a model has generated."""

import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: LLaMA-Factory's roles of an answer in words and of one that is a tool call.
ASSISTANT, CALL = "assistant", "function"

#: What LLaMA-Factory's readers of tool calls raise over text that is none: they expect what they have written.
_NO_CALL = (ValueError, TypeError, LookupError, AttributeError, SyntaxError, RuntimeError)


class AnswerTexts:
    """Turns a record's answer into the output that training asks for, and any output into the text that is compared.

    Args:
        tokenizer: The tokenizer, as the template has fixed it.
        template: LLaMA-Factory's template.
    """

    def __init__(self, tokenizer: Any, template: Any) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._stop_ids = set(template.get_stop_token_ids(tokenizer))
        self._opening, self._closing = (words.strip() for words in template.thought_words)
        self._thought = re.compile(f"{re.escape(self._opening)}.*?{re.escape(self._closing)}", re.DOTALL)
        self._around = {role: _around(getattr(template, f"format_{role}").slots) for role in (ASSISTANT, CALL)}
        ends = {tokenizer.eos_token, *template.stop_words, *(after for _, after in self._around.values())}
        self._end = any_of(ends)
        self._special = any_of(tokenizer.all_special_tokens)

    def expected(self, message: Mapping[str, str]) -> str:
        """The text that is compared of the answer of a record, {"role", "content"}."""
        turn = self._template.format_function if message["role"] == CALL else self._template.format_assistant
        words = {"thought_words": self._template.thought_words, "tool_call_words": self._template.tool_call_words}
        elements = turn.apply(content=message["content"], **(words if message["role"] == CALL else {}))
        return self.compared(_before_end(elements), message["role"])

    def generated(self, ids: Sequence[int], role: str) -> str:
        """The text that is compared of generated token ids.

        Args:
            ids: What the model generated after the prompt, with or without what follows the end of the turn.
            role: That of the record's own answer.
        """
        ids = self._until_end(ids)
        output = self._decode(ids)  # thoughts and calls may be marked by special tokens
        if role != CALL and self._closing not in output and self._opening not in output:
            output = self._tokenizer.decode(ids, skip_special_tokens=True)
        return self.compared(output, role)

    def compared(self, output: str, role: str) -> str:
        """The text that is compared of an output: without thoughts, marks of the turn and special tokens.

        A tool call becomes JSON with sorted keys, [{"arguments", "name"}, ...].

        Args:
            output: The text of an assistant's turn, as the template writes it.
            role: That of the record's own answer; only where it is a call the output is looked at as one.
        """
        text = self._end.split(self.without_thought(output), maxsplit=1)[0]
        before, _ = self._around[role]
        text = text.strip().removeprefix(before)
        if role == CALL and (calls := self._calls(text)) is not None:
            return calls
        return self._special.sub("", text).strip()

    def without_thought(self, text: str) -> str:
        """An answer without what the model thought before it; a thought without an end leaves no answer."""
        if self._closing in text:
            text = self._thought.sub("", text)
            return text.rpartition(self._closing)[2].lstrip("\n")  # some templates open the thought in the prompt
        return "" if text.lstrip().startswith(self._opening) else text

    def thought_length(self, ids: Sequence[int]) -> int:
        """How many of the generated tokens, from the first, are a thought that has ended; 0 without one."""
        if self._closing not in self._decode(ids):
            return 0
        low, high = 0, len(ids)  # the words are in the first high tokens and not in the first low ones
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._closing in self._decode(ids[:middle]) else (middle, high)
        return high

    def blank_length(self, ids: Sequence[int]) -> int:
        """How many of the tokens, from the first, are white space."""
        return next((place for place, token in enumerate(ids) if self._decode([token]).strip()), len(ids))

    def paths(self, content: str, role: str) -> tuple[list[int], list[list[int]]]:
        """The token ids of an answer up to the end of its turn, as training writes them.

        Args:
            content: The answer without a thought.
            role: Its role.

        Returns:
            The ids after a prompt, and those after a thought of the model's own: a thought is a part of the turn, or
            stands before it, as templates for reasoning do with an empty one.
        """
        plain = self._ids(content, role)
        thoughtful = [plain]
        with contextlib.suppress(RuntimeError):  # templates like Llama 2's know no thought before a call
            thoughtful.append(self._ids("".join(self._template.thought_words) + content, role))
        return plain, [ids[self.thought_length(ids) :] for ids in thoughtful]

    def _ids(self, content: str, role: str) -> list[int]:
        turns = [{"role": "user", "content": "."}, {"role": role, "content": content}]
        _, ids = self._template.encode_oneturn(self._tokenizer, turns)
        ids = [*ids, self._tokenizer.eos_token_id]  # some templates leave the end to the training
        end = next(place for place, token in enumerate(ids) if token in self._stop_ids)
        return ids[: end + 1]  # what ChatML has after the end of a turn is never generated

    def _until_end(self, ids: Sequence[int]) -> list[int]:
        end = next((place for place, token in enumerate(ids) if token in self._stop_ids), len(ids))
        return [*ids[:end]]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def _calls(self, text: str) -> str | None:
        """The calls of an output as JSON; None where it holds none."""
        try:
            calls = self._template.extract_tool(text)
        except _NO_CALL:
            return None
        if isinstance(calls, str):
            return None
        named = [{"name": name, "arguments": _json(arguments)} for name, arguments in calls]
        return json.dumps(named, ensure_ascii=False, sort_keys=True)


def message_of(response: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """The answer of a record: the better one of a pair, and with feedback the one that there is."""
    return next((turn for turn in response if turn["content"].strip()), {"role": ASSISTANT, "content": ""})


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _around(slots: Sequence[Any]) -> tuple[str, str]:
    """The text before and after the content in a template's turn."""
    before, _, after = _before_end(slots).partition("{{content}}")
    return before.strip(), after.strip()


def _before_end(elements: Iterable[Any]) -> str:
    """The text of a turn up to its end token, which stands there as a set, as does a token before the turn."""
    turn = itertools.dropwhile(lambda element: not isinstance(element, str), elements)
    return "".join(itertools.takewhile(lambda element: isinstance(element, str), turn))


def any_of(texts: Iterable[str | None]) -> re.Pattern[str]:
    """A pattern of each of these texts, the longest first; without any it matches nothing."""
    found = sorted({text for text in texts if text}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, found)) or "(?!)")
