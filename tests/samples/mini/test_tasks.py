"""Answers are true of the pixels, and the tasks can be told apart by their wording."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from fcit_plugin.samples.mini.build import draw_samples
from fcit_plugin.samples.mini.drawing import CANVAS, COLORS, ICONS
from fcit_plugin.samples.mini.tasks import TASKS
from fcit_plugin.samples.mini.tasks.counting import NUMBER_WORDS

COUNT = 60


def where(pixels: np.ndarray, color: str) -> np.ndarray:
    return (pixels == COLORS[color]).all(-1)


def colors_in(question: str) -> list[str]:
    return [word.strip("?.,;:") for word in question.split() if word.strip("?.,;:") in COLORS]


def occupied_cells(mask: np.ndarray, side: int = 16) -> int:
    return int((mask.reshape(CANVAS // side, side, CANVAS // side, side).sum((1, 3)) > 8).sum())


@pytest.mark.parametrize("key", TASKS)
def test_samples_are_complete(key):
    for sample in draw_samples(key, COUNT, 0):
        assert sample.scene.pixels.shape == (CANVAS, CANVAS, 3)
        assert sample.question and sample.answer
        assert sample.answer not in sample.question.split()


def test_grounding_box_frames_exactly_the_referred_color():
    for sample in draw_samples("fcit_grounding", COUNT, 0):
        rows, columns = np.nonzero(where(sample.scene.pixels, *colors_in(sample.question)))
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert sample.box == pytest.approx(np.array(expected) / CANVAS, abs=0.0051)
        assert sample.answer == "[" + ", ".join(f"{edge:.2f}" for edge in sample.box) + "]"


def test_clevr_math_counts_what_is_left():
    for sample in draw_samples("fcit_clevr_math", COUNT, 0):
        (gone,) = colors_in(sample.question)
        assert where(sample.scene.pixels, gone).any()
        left = sum(occupied_cells(where(sample.scene.pixels, c)) for c in COLORS if c != gone)
        assert sample.answer == str(left)


def test_iconqa_counts_the_icons():
    for sample in draw_samples("fcit_iconqa", COUNT, 0):
        total = sum(occupied_cells(where(sample.scene.pixels, c)) for c in COLORS)
        assert sample.answer == NUMBER_WORDS[total]


def test_dvqa_reads_the_height_of_the_bar():
    for sample in draw_samples("fcit_dvqa", COUNT, 0):
        height = where(sample.scene.pixels, *colors_in(sample.question)).any(1).sum()
        assert sample.answer == f"{height * 100 // 45}%"


def test_figureqa_compares_mean_heights():
    for sample in draw_samples("fcit_figureqa", COUNT, 0):
        first, second = (np.nonzero(where(sample.scene.pixels, c))[0].mean() for c in colors_in(sample.question))
        claim = first < second if "greater" in sample.question else first > second
        assert sample.answer == ("yes" if claim else "no")


def test_arxivqa_color_questions_name_the_color_of_the_curve():
    seen = 0
    for sample in draw_samples("fcit_arxivqa", COUNT, 0):
        if "color" in sample.question:
            options = dict(zip("ABCD", colors_in(sample.question), strict=True))
            assert where(sample.scene.pixels, options[sample.answer]).any()
            seen += 1
    assert seen


def test_flickr30k_names_both_sides():
    for sample in draw_samples("fcit_flickr30k", COUNT, 0):
        first, second = (np.argwhere(where(sample.scene.pixels, c)).mean(0) for c in colors_in(sample.answer))
        axis = 1 if " left of " in sample.answer else 0
        assert first[axis] < second[axis]
        assert len(set(sample.references)) == 5


def test_super_clevr_material_shows_in_the_ink():
    ink = defaultdict(list)
    for sample in draw_samples("fcit_super_clevr", 200, 0):
        mask = where(sample.scene.pixels, *colors_in(sample.question))
        rows, columns = np.nonzero(mask)
        ink[sample.answer].append(mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    means = {material: np.mean(shares) for material, shares in ink.items()}
    assert max(means, key=means.get) == "metal" and min(means, key=means.get) == "rubber"


@pytest.mark.parametrize("key", ["fcit_imagenet_r", "fcit_aokvqa"])
def test_each_object_has_one_answer(key):
    answers = defaultdict(set)
    for sample in draw_samples(key, 200, 0):
        answers[sample.scene.things[0].kind].add(sample.answer)
    assert answers.keys() == ICONS.keys()
    assert all(len(given) == 1 for given in answers.values())
    assert len(set.union(*answers.values())) == len(ICONS)


def test_answers_of_words_and_tables_are_on_the_image():
    for sample in draw_samples("fcit_ocrvqa", COUNT, 0):
        assert sample.answer == sample.scene.word
    for sample in draw_samples("fcit_tabmwp", COUNT, 0):
        prices = dict(zip(sample.scene.letters, sample.scene.digits, strict=True))
        bought = [word.strip("?.") for word in sample.question.split() if word.strip("?.") in prices]
        assert sample.answer == f"${sum(prices[letter] for letter in bought)}.00"


def test_tasks_share_no_answers():
    owner: dict[str, str] = {}
    for key in TASKS:
        for answer in {sample.answer for sample in draw_samples(key, COUNT, 0)}:
            assert owner.setdefault(answer, key) == key


def test_wording_separates_tasks():
    """The mean bag of words of a client's instructions is near to that of its task and far from all others."""
    groups = {key: [sample.question for sample in draw_samples(key, 120, 0)] for key in TASKS}
    words = sorted({word for questions in groups.values() for text in questions for word in text.split()})
    projection = dict(zip(words, np.random.default_rng(0).normal(size=(len(words), 128)), strict=True))

    def token(questions: list[str]) -> np.ndarray:
        bags = [Counter(text.split()) for text in questions]
        return np.mean([sum(n * projection[w] for w, n in bag.items()) / bag.total() for bag in bags], 0)

    halves = np.array([[token(questions[::2]), token(questions[1::2])] for questions in groups.values()])
    halves -= halves.mean((0, 1))
    halves /= np.linalg.norm(halves, axis=-1, keepdims=True)
    cosine = halves[:, 0] @ halves[:, 1].T
    assert cosine.diagonal().min() > 0.9
    assert (cosine - np.diag(cosine.diagonal())).max() < 0.6
