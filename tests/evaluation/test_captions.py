"""ROUGE-L by hand; the COCO scores against the toolkit's own classes, called as its own evaluation does."""

import math
import shutil
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcit_plugin.evaluation import captions
from fcit_plugin.evaluation.answers import words
from fcit_plugin.evaluation.captions import COCO_PARTS, coco, coco_part, rouge_l
from fcit_plugin.evaluation.metrics import METRICS, score

PREDICTIONS = ["A dog runs, fast.", "", "two men\rplay with a\nball", "a cat's toy on the (old) table"]
ANSWERS = [
    ["The dog is running!", "A dog runs very fast"],
    "nobody is here",
    ["Two men play ball.", "men \u2028 playing with a ball", "some people"],
    ["a toy of a cat on an old table"],
]


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("A dog runs.", "a dog runs", 1),
        ("police killed the gunman", "police kill the gunman", 3 / 4),
        ("the gunman kill police", "police kill the gunman", 2 / 4),
        ("a dog", "a black dog runs", 2 * 2 / 6),
        ("a a a", "a b", 2 / 5),
        ("cat", "dog", 0),
        ("", "dog", 0),
        ("", "", 0),
    ],
)
def test_rouge_l_by_hand(prediction, reference, expected):
    assert rouge_l(prediction, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop: 3.5 e-mails!", ["don't", "stop", "3.5", "e", "mails"]),
        ("e\N{COMBINING ACUTE ACCENT}té", ["été"]),
        ("我喜欢猫。", ["我", "喜", "欢", "猫"]),
        ("カメラは、早い", ["カ", "メ", "ラ", "は", "早", "い"]),
        ("ง่าย", ["ง่", "า", "ย"]),
        ("ខ្មែរ", ["ខ្", "មែ", "រ"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("GPT 用法", ["gpt", "用", "法"]),
        ("😀 ...", []),
    ],
)
def test_words_are_those_of_unicode_and_single_letters_where_no_spaces_are_written(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(("prediction", "reference"), [("我喜欢猫", "我喜欢狗"), ("แมวดำ", "แมวขาว"), ("カメラ", "カメラマン")])
def test_without_spaces_like_texts_are_neither_equal_nor_unlike(prediction, reference):
    assert 0.4 < rouge_l(prediction, reference) < 1


def test_of_several_references_the_best_counts():
    assert score("rouge_l", ["a cat"], [["a dog", "the cat", "a cat sleeps"]]) == pytest.approx(80)


def longest_common(x, y):
    if not x or not y:
        return 0
    if x[0] == y[0]:
        return 1 + longest_common(x[1:], y[1:])
    return max(longest_common(x[1:], y), longest_common(x, y[1:]))


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_rouge_l_equals_the_recursive_definition(x, y):
    common = longest_common(x, y)
    precision, recall = (common / len(x), common / len(y)) if common else (0, 0)
    expected = 2 * precision * recall / (precision + recall) if common else 0
    assert rouge_l(" ".join(x), " ".join(y)) == pytest.approx(expected)


def test_without_the_package_or_java_the_message_says_what_to_do(monkeypatch):
    captions._toolkit.cache_clear()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
        with pytest.raises(ValueError, match=r"pip install \"fcit-plugin\[captions\]\".*fcit_caption_metric: rouge_l"):
            coco(["no package"], ["a"])
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"no `java` on the PATH.*fcit_caption_metric: rouge_l"):
        coco(["no java"], ["a"])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 1", "the tokenizer lost captions"),
        ('case "$*" in *meteor*) exit 1;; *) for file; do :; done; cat "$file";; esac', "could not convert|Broken pipe"),
    ],
)
def test_a_java_that_fails_is_said_in_words_and_hangs_nothing(script, message, monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap")
    (tmp_path / "java").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ValueError, match=f"COCO caption toolkit does not run here .*({message})"):
        coco(["a dog", "a cow"], ["a cat", "a cow"])


@pytest.mark.parametrize("answer", [[], [1, 2], ["a", 1]])
def test_answers_must_be_texts(answer):
    with pytest.raises(ValueError, match="neither a text nor a list of texts"):
        coco_part("cider", ["a"], [answer])
    with pytest.raises(ValueError, match="neither a text nor a list of texts"):
        score("rouge_l", ["a"], [answer])


@pytest.fixture(scope="module")
def meteor():
    """METEOR, which takes long to start, once for all tests of this file."""
    module = pytest.importorskip("pycocoevalcap.meteor.meteor")
    if shutil.which("java") is None:
        pytest.skip("no Java runtime")
    started = module.Meteor()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Meteor", lambda: started)
        captions._toolkit.cache_clear()
        yield started
    captions._toolkit.cache_clear()


@pytest.mark.thorough
def test_coco_scores_are_the_toolkits_and_their_mean_the_specs_score(meteor, monkeypatch):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def captions_of(lists):
        lines = [[text.replace("\r", " ").replace("\u2028", "") for text in texts] for texts in lists]
        return PTBTokenizer().tokenize({f"{i}": [{"caption": text} for text in texts] for i, texts in enumerate(lines)})

    res = captions_of([[prediction] for prediction in PREDICTIONS])
    gts = captions_of([[answer] if isinstance(answer, str) else answer for answer in ANSWERS])
    scores = Bleu(4).compute_score(gts, res, verbose=0)[0]
    scores += [scorer.compute_score(gts, res)[0] for scorer in (meteor, Rouge(), Cider())]
    assert min(scores) > 0

    found = [METRICS[f"coco_{part}"](PREDICTIONS, ANSWERS) for part in COCO_PARTS]
    assert found == pytest.approx([100 * value for value in scores])
    # words: 4 + 0 + 6 + 10 (lower-cased brackets are words to the toolkit), of which 4 + 0 + 6 + 6 are in a reference;
    # the references that are nearest in length have 4 + 3 + 5 + 9
    assert found[0] == pytest.approx(100 * 16 / 20 * math.exp(1 - 21 / 20))

    monkeypatch.setattr(captions, "_toolkit", None)  # the corpus was scored: the toolkit is not started again
    assert score("coco", PREDICTIONS, ANSWERS) == pytest.approx(sum(found) / 7)
