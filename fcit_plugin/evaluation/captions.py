"""Scores of captions (docs/reference/metrics.md): ROUGE-L of our own, and those of the COCO caption toolkit."""

import shutil
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

from ..errors import FcitError
from .answers import Answer, texts, words
from .subsequence import in_common

COCO_PARTS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")


def rouge_l(prediction: str, reference: str) -> float:
    """Return ROUGE-L: F-measure of the longest common subsequence of words, from 0 to 1.

    With l its length, P = l / words of the prediction, R = l / words of the reference, F = 2PR / (P + R), which is
    2l / (words of both). Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3, with beta 1.
    """
    return in_common(words(prediction), words(reference))


def coco(predictions: Sequence[str], answers: Sequence[Answer]) -> float:
    """Return 100 times the mean of BLEU-1 to 4, METEOR, ROUGE-L and CIDEr over the corpus, the caption score of the paper.

    CIDEr goes up to 10, so this may pass 100.

    Raises:
        FcitError: pycocoevalcap or Java is missing, or the toolkit does not run here; says what to do.
    """
    return sum(coco_part(part, predictions, answers) for part in COCO_PARTS) / len(COCO_PARTS)


def coco_part(part: str, predictions: Sequence[str], answers: Sequence[Answer]) -> float:
    """Return 100 times one of `COCO_PARTS` over the corpus.

    Raises:
        FcitError: as `coco`.
    """
    return _coco_scores(tuple(predictions), tuple(tuple(texts(answer)) for answer in answers))[part]


#: The metrics of this module that score a whole corpus, by their registered names.
COCO: dict[str, Callable[[Sequence[str], Sequence[Answer]], float]] = {
    "coco": coco,
    **{f"coco_{part}": partial(coco_part, part) for part in COCO_PARTS},
}


@lru_cache(maxsize=8)  # the parts of a corpus are asked for one by one, but the toolkit, slow to start, gives all
def _coco_scores(predictions: tuple[str, ...], references: tuple[tuple[str, ...], ...]) -> dict[str, float]:
    """COCO caption toolkit (Chen et al., "Microsoft COCO Captions", arXiv 1504.00325) with its PTB tokenizer."""
    tokenizer, bleu, meteor, rouge, cider = _toolkit()
    try:
        res = _tokenize(tokenizer(), [(prediction,) for prediction in predictions])
        gts = _tokenize(tokenizer(), references)
        scores = [
            *bleu(4).compute_score(gts, res, verbose=0)[0],
            _meteor(meteor(), gts, res),
            rouge().compute_score(gts, res)[0],
            cider().compute_score(gts, res)[0],
        ]
    except (OSError, ValueError) as error:  # OSError: no temporary file, Java died; ValueError: it answered nonsense
        raise FcitError(
            f"The COCO caption toolkit does not run here ({error}); it needs a Java runtime of version 8 or later, 2 GB "
            "of free memory and the right to write into its package folder."
        ) from error
    return {part: 100 * float(score) for part, score in zip(COCO_PARTS, scores, strict=True)}


def _tokenize(tokenizer: Any, captions: Sequence[Sequence[str]]) -> dict[int, list[str]]:
    """Captions by record, as the toolkit's scorers want them.

    The tokenizer reads one caption a line: whatever breaks a line in Java would move all later captions.
    """
    given = {i: [{"caption": " ".join(text.split())} for text in texts] for i, texts in enumerate(captions)}
    tokenized: dict[int, list[str]] = tokenizer.tokenize(given)
    if {i: len(texts) for i, texts in tokenized.items()} != {i: len(texts) for i, texts in given.items()}:
        raise FcitError("the tokenizer lost captions")
    return tokenized


def _meteor(scorer: Any, gts: dict[int, list[str]], res: dict[int, list[str]]) -> float:
    try:
        return float(scorer.compute_score(gts, res)[0])
    finally:
        if scorer.lock.locked():  # where Java died it stays locked, and the scorer's end would wait for it forever
            scorer.lock.release()


@cache
def _toolkit() -> tuple[Any, ...]:
    instead = "or set `fcit_caption_metric: rouge_l`, which needs neither"
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.rouge.rouge import Rouge
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    except ImportError as error:
        raise FcitError(
            f"The COCO caption scores need pycocoevalcap and a Java runtime ({error}): "
            f'pip install "fcit-plugin[captions]", {instead}.'
        ) from error
    if shutil.which("java") is None:
        raise FcitError(
            f"The COCO caption scores need a Java runtime (8 or later), and there is no `java` on the PATH: "
            f"install one, {instead}."
        )
    return PTBTokenizer, Bleu, Meteor, Rouge, Cider
