"""Which instruction a prompt holds: kept where messages become token ids, otherwise read back from the ids."""

import hashlib
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import FcitError

#: Name of the attribute under which a routed model carries its :class:`~fcit_plugin.serving.routing.Routing`.
ROUTING = "fcit_routing"
#: Name of the keyword argument that hands instructions to a routed model's ``generate``.
KEYWORD = "fcit_instructions"

_PLACEHOLDERS = ("<image>", "<video>", "<audio>")


class Instructions:
    """The latest user instruction of the prompts of a dataset, by their token ids."""

    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}

    def __reduce__(self):
        return Instructions, ()  # datasets fingerprints the arguments: what is kept here changes nothing of its work

    def remember(self, ids: Sequence[int], text: str) -> None:
        """Keep the instruction of a prompt."""
        self._texts[_key(ids)] = text

    def recall(self, ids: Sequence[int]) -> str | None:
        """The instruction of a prompt, None if it was not kept."""
        return self._texts.get(_key(ids))


def _key(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()


def latest_instruction(messages: Sequence[dict[str, Any]]) -> str:
    """The text of the latest message of a user, without media."""
    texts = [message["content"] for message in messages if message["role"] == "user"]
    return without_media(texts[-1] if texts else messages[-1]["content"])


def without_media(text: str) -> str:
    """An instruction without LLaMA-Factory's placeholders for images, videos and audios."""
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, "")
    return text.strip()


def prompt_reader(tokenizer, template) -> Callable[[Sequence[int]], str]:
    """Reads the latest user instruction back from the token ids of a prompt, by the template's own user turn.

    Args:
        tokenizer: The tokenizer, as the template has fixed it.
        template: LLaMA-Factory's template.

    Returns:
        A function of token ids without padding. It raises ValueError where the template does not mark the user's turn.
    """
    from llamafactory.data.template import Llama2Template

    prefix, suffix = _around(template.format_user.slots, tokenizer)
    answer_prefix, _ = _around(template.format_assistant.slots, tokenizer)
    ends = [end for end in (suffix, answer_prefix, "".join(template.thought_words).strip()) if end]
    inside = isinstance(template, Llama2Template)  # Llama 2 and its kin put the system prompt into the first user turn
    _, system_end = _around(template.format_system.slots, tokenizer)
    plugin = template.mm_plugin
    marks = ("image_token", "video_token", "audio_token", "vision_bos_token", "vision_eos_token")
    tokens = {*_PLACEHOLDERS, *tokenizer.all_special_tokens, *(getattr(plugin, mark, None) for mark in marks)}
    media = re.compile("|".join(re.escape(token) for token in sorted(filter(None, tokens), key=len, reverse=True)))

    def read(ids: Sequence[int]) -> str:
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if not prefix:
            raise FcitError(
                "The template does not mark where a user's turn begins, so instructions cannot be read back from token "
                "ids; use chat, api, webchat, or `stage: sft` with `do_predict`, which see the messages."
            )
        text = text.rpartition(prefix)[2]
        for end in ends:
            text = text.partition(end)[0]
        if inside:
            text = text.rpartition(system_end)[2] if system_end else text.strip().removeprefix(template.default_system)
        return media.sub("", text).strip()

    return read


def _around(slots: Sequence[str | dict[str, str] | set[str]], tokenizer) -> tuple[str, str]:
    """The text before and after the content in a template's turn."""

    def text_of(slot: str | dict[str, str] | set[str]) -> str:
        if isinstance(slot, dict):  # {"token": "<|im_start|>"}
            return slot["token"]
        if isinstance(slot, set):  # {"eos_token"}
            return "".join(getattr(tokenizer, name) or "" for name in slot)
        return slot

    before, _, after = "".join(map(text_of, slots)).partition("{{content}}")
    return before.strip(), after.strip()
