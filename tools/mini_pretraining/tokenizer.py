"""A small fast tokenizer: whole words where they are known, letters and bytes elsewhere."""

import json
import re
import string

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fcit_plugin.samples.mini.tasks import TASKS

from .mixture import draw_scene
from .questions import ask

PAD, BOS, EOS, UNKNOWN, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
SPECIAL = [PAD, BOS, EOS, UNKNOWN, IMAGE]
ROLES = ["USER", "ASSISTANT"]
BYTES = [f"<0x{value:02X}>" for value in range(256)]
_DRAWS = 400


def known_texts() -> list[str]:
    """Texts that hold every word of the tasks and of the pre-training."""
    rng = np.random.default_rng(0)
    texts = ["Repeat:"]
    for task in TASKS.values():
        samples = [task(rng) for _ in range(_DRAWS)]
        texts += [text for sample in samples for text in (sample.question, sample.answer, *sample.references)]
    for _ in range(10 * _DRAWS):
        texts += ask(rng, draw_scene(rng))
    return texts


def words_in(texts: list[str]) -> list[str]:
    """The different words of some texts: runs of letters that are not all capitals."""
    words = {word for text in texts for word in re.findall(r"[A-Za-z][a-z]*", text)}
    return sorted(word for word in words if len(word) > 1 or word.islower())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the base model; always the same one."""
    texts = known_texts()
    openings = sorted({text.split()[0] for text in texts if text[:1].isupper()})
    corpus = words_in(texts) + [f"\n{opening}" for opening in openings if not opening.isupper()]
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex("[A-Z](?![a-z])"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        special_tokens=SPECIAL,
        initial_alphabet=["▁", *string.ascii_letters, *string.digits, *string.punctuation],
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.model = _with_bytes(tokenizer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(role, lstrip=True, normalized=False) for role in ROLES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def _with_bytes(tokenizer: Tokenizer) -> models.BPE:
    """The trained model with a token for each byte, so that any text can be written."""
    trained = json.loads(tokenizer.to_str())["model"]
    vocabulary = trained["vocab"] | {token: len(trained["vocab"]) + i for i, token in enumerate(BYTES)}
    merges = [tuple(merge) for merge in trained["merges"]]
    return models.BPE(vocab=vocabulary, merges=merges, unk_token=UNKNOWN, byte_fallback=True)


def echo_words() -> tuple[str, ...]:
    """What the base model learns to repeat: all known words, and letters, digits and signs as the tasks write them."""
    marks = (*string.ascii_uppercase, *string.digits, *(f"{v}%" for v in range(0, 101, 10)))
    runs = (
        *(f"${v}.00" for v in range(1, 11)),
        "[0.12,",
        "0.37,",
        "0.50,",
        "0.98]",
        "A)",
        "B)",
        "C)",
        "D)",
        "it.",
        "so,",
        "why?",
    )
    letters = string.ascii_uppercase
    triples = tuple(letters[i % 26] + letters[(i * 7 + 3) % 26] + letters[(i * 11 + 5) % 26] for i in range(104))
    return (*words_in(known_texts()), *marks, *runs, *triples)
