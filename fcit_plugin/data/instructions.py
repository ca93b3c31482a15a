"""What the user of a prompt has said: kept where messages become token ids, otherwise read back from the ids."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import FcitError
from ..knowledge.turns import Turns
from .answers import any_of

#: Name of the attribute under which a routed model carries its :class:`~fcit_plugin.serving.routing.Routing`.
ROUTING = "fcit_routing"
#: Name of the keyword argument that hands the user's turns of each prompt to a routed model's ``generate``.
KEYWORD = "fcit_instructions"

_PLACEHOLDERS = ("<image>", "<video>", "<audio>")


class Instructions:
    """The user's turns of the prompts of a dataset, by their token ids."""

    def __init__(self) -> None:
        self._turns: dict[bytes, Turns] = {}

    def __reduce__(self):
        return Instructions, ()  # datasets fingerprints the arguments: what is kept here changes nothing of its work

    def remember(self, ids: Sequence[int], turns: Turns) -> None:
        """Keep the user's turns of a prompt."""
        self._turns[_key(ids)] = turns

    def recall(self, ids: Sequence[int]) -> Turns | None:
        """The user's turns of a prompt, None if they were not kept."""
        return self._turns.get(_key(ids))


def _key(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()


def user_turns(messages: Sequence[dict[str, Any]]) -> Turns:
    """What the user says in a conversation, turn by turn, without media: the one answer for all ways in.

    System prompts, results of tools and turns of nothing but images are not among it.

    Args:
        messages: In LLaMA-Factory's standard form, up to the one that is to be answered.

    Returns:
        The texts, the first one first; one empty text where the user says nothing.
    """
    return _spoken(without_media(message["content"]) for message in messages if message["role"] == "user")


def _spoken(texts: Iterable[str]) -> Turns:
    return tuple(filter(None, texts)) or ("",)


def without_media(text: str) -> str:
    """An instruction without LLaMA-Factory's placeholders for images, videos and audios."""
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, "")
    return text.strip()


def prompt_reader(tokenizer, template) -> Callable[[Sequence[int]], Turns]:
    """Reads the user's turns back from the token ids of a prompt, by the template's own user turn.

    What a template writes as if the user had said it is read so: results of tools with some templates, and with Gemma's and
    Mistral's a request's own system prompt.

    Args:
        tokenizer: The tokenizer, as the template has fixed it.
        template: LLaMA-Factory's template.

    Returns:
        A function of token ids without padding. It raises ValueError where the template does not mark the user's turn.
    """
    from llamafactory.data.template import Llama2Template

    prefix, suffix = _around(template.format_user.slots, tokenizer)
    answer_prefix, _ = _around(template.format_assistant.slots, tokenizer)
    observation, _ = _around(template.format_observation.slots, tokenizer)
    of_tool = observation.removeprefix(prefix).strip() if observation.startswith(prefix) else ""
    ends = [end for end in (suffix, answer_prefix, "".join(template.thought_words).strip()) if end]
    inside = isinstance(template, Llama2Template)  # Llama 2 and its kin put the system prompt into the first user turn
    _, system_end = _around(template.format_system.slots, tokenizer)
    plugin = template.mm_plugin
    marks = ("image_token", "video_token", "audio_token", "vision_bos_token", "vision_eos_token")
    tokens = {*_PLACEHOLDERS, *tokenizer.all_special_tokens, *(getattr(plugin, mark, None) for mark in marks)}
    media = any_of(tokens)

    def read(ids: Sequence[int]) -> Turns:
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if not prefix:
            raise FcitError(
                "The template does not mark where a user's turn begins, so instructions cannot be read back from token "
                "ids; use chat, api, webchat, or `stage: sft` with `do_predict`, which see the messages."
            )
        turns = [turn for turn in text.split(prefix)[1:] if not (of_tool and turn.lstrip().startswith(of_tool))]
        for end in ends:
            turns = [turn.partition(end)[0] for turn in turns]
        if inside and turns:
            first = turns[0]
            turns[0] = first.rpartition(system_end)[2] if system_end else first.strip().removeprefix(template.default_system)
        return _spoken(media.sub("", turn).strip() for turn in turns)

    return read


def opening_of(tokenizer, template) -> list[int]:
    """The token ids before a user's first words: what prompts that have no word in common begin with.

    Args:
        tokenizer: The tokenizer, as the template has fixed it.
        template: LLaMA-Factory's template.
    """
    turns = ([{"role": "user", "content": said}, {"role": "assistant", "content": ""}] for said in ("a", "1"))
    first, second = (template.encode_oneturn(tokenizer, turn)[0] for turn in turns)
    differ = (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return first[: next(differ, len(first))]


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
