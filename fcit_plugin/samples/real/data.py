"""Writes four real image-question datasets in the plugin's layout, from packages only.

========================  ============================================  ============
dataset                  source                                        answers
========================  ============================================  ============
``real_digits``           ``sklearn.datasets.load_digits`` (BSD)        10 words
``real_easyvqa``          the PyPI package ``easy-vqa`` (MIT)           13 words
``real_fashion``          the Debian package of Fashion-MNIST (MIT)     10 words
``real_emoji``            two npm packages of emoji, in two styles      9 words
========================  ============================================  ============

Each becomes ``instructions/<name>/train.json`` and ``test.json`` with images under ``datasets/<name>/``, and
``dataset_info.json`` lists them for LLaMA-Factory. No test image occurs in training.
"""

import io
from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FcitError
from ...files import read_bytes, read_json
from ..write import Example, Split, check_place, write_all
from .emoji import CHECKSUMS, GROUPS, read_emoji
from .fashion import read_fashion
from .packages import package_file, require

if TYPE_CHECKING:
    import numpy

SIDE = 56  # pixels: what SmolLM2-VL looks at

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_QUESTIONS = (
    "Which handwritten digit is this?",
    "What number is written in the image?",
    "Read the digit and name it.",
)

CLOTHES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CLOTHES_QUESTIONS = (
    "What piece of clothing is shown?",
    "Name the article in the photo.",
    "Which kind of garment or accessory is this?",
)

EMOJI_QUESTIONS = (
    "Which group does this emoji belong to?",
    "What category of emoji is shown?",
    "Sort this emoji into its group.",
)


def prepare(out: Path, train: int = 640, test: int = 100, seed: int = 0, fashion: str = "debian", emoji: str = "npm") -> None:
    """Writes the datasets; the same arguments give the same files.

    Args:
        out: Folder to write, to be used as ``dataset_dir``. What an earlier call wrote there is replaced.
        train: Training examples per dataset (of the digits there are 1,797 in all, training and test).
        test: Test examples per dataset.
        seed: Decides which examples are drawn, their order and their phrasing.
        fashion: Where Fashion-MNIST comes from: ``debian`` fetches the Debian package, ``none`` leaves
            ``real_fashion`` out, anything else is a folder with its four ``*-ubyte.gz`` files.
        emoji: Where the emoji come from: ``npm`` downloads their packages (136 MB), ``none`` leaves ``real_emoji`` out,
            anything else is a folder that holds both packages.

    Raises:
        MissingPackage: One of the packages of ``fcit-plugin[real]`` is not installed.
        OSError: The Debian package or a package of npm cannot be fetched.
        FcitError: More examples are asked for than there are, or something of another one is in the folder.
    """
    import numpy

    makers: dict[str, Callable[[int, int, numpy.random.Generator], Split]] = {
        "real_digits": digits,
        "real_easyvqa": easyvqa,
    }
    if fashion != "none":
        makers["real_fashion"] = partial(clothes, where=fashion)
    if emoji != "none":
        makers["real_emoji"] = partial(emojis, where=emoji)

    check_place(Path(out), makers)
    # A stream of its own for each dataset: leaving one out changes none of the others.
    streams = {name: numpy.random.default_rng([seed, *name.encode()]) for name in makers}
    write_all(Path(out), {name: make(train, test, streams[name]) for name, make in makers.items()})


def digits(train: int, test: int, stream: "numpy.random.Generator") -> Split:
    """Draws handwritten digits, to be named in words."""
    require("sklearn", "scikit-learn")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, labels = (bunch.images * 255 / 16).astype("uint8"), bunch.target
    order = stream.permutation(len(labels))
    _check(train + test, len(order), "digits")
    pick = _labeled(pixels, labels, DIGITS, DIGIT_QUESTIONS, stream)
    return list(pick(order[:train])), list(pick(order[train : train + test]))


def clothes(train: int, test: int, stream: "numpy.random.Generator", where: str = "debian") -> Split:
    """Draws Fashion-MNIST articles from its own two splits."""
    halves = []
    for (pixels, labels), count in zip(read_fashion(where), (train, test), strict=True):
        _check(count, len(labels), "articles of clothing")
        pick = _labeled(pixels, labels, CLOTHES, CLOTHES_QUESTIONS, stream)
        halves.append(list(pick(stream.permutation(len(labels))[:count])))
    return halves[0], halves[1]


def easyvqa(train: int, test: int, stream: "numpy.random.Generator") -> Split:
    """Draws questions about shapes and colors: half open ones, half to be answered by yes or no.

    The package's own mixture has three yes-or-no questions to each open one, which rewards blind guessing. In this one,
    giving each question its most frequent training answer, image unseen, scores about a half.
    """
    from PIL import Image

    folder = package_file("easy_vqa", "easy-vqa", "data")
    halves = []
    for split, count in (("train", train), ("test", test)):
        asked = read_json(folder / split / "questions.json")
        closed = [row for row in asked if row[1] in ("yes", "no")]
        opened = [row for row in asked if row[1] not in ("yes", "no")]
        rows = []
        for pool, part in ((opened, count - count // 2), (closed, count // 2)):
            _check(part, len(pool), "questions")
            rows += [pool[i] for i in stream.permutation(len(pool))[:part]]
        examples = []
        for i in stream.permutation(len(rows)):
            question, answer, number = rows[i]
            image = Image.open(io.BytesIO(read_bytes(folder / split / "images" / f"{number}.png"))).convert("RGB")
            examples.append(Example(str(number), image, question[0].upper() + question[1:], answer))
        halves.append(examples)
    return halves[0], halves[1]


def emojis(train: int, test: int, stream: "numpy.random.Generator", where: str = "npm") -> Split:
    """Draws emoji, each in one of two styles and as many of each group as there are, to be named by their group."""
    from PIL import Image

    found, image = read_emoji(where)
    groups = [[emoji for emoji in found if emoji.group == group] for group in GROUPS.values()]
    mixed = [[members[i] for i in stream.permutation(len(members))] for members in groups]
    # the first of each group, the second of each, ...: a group that has run out leaves its place to the others
    order = [emoji for row in zip_longest(*mixed) for emoji in row if emoji is not None]
    _check(train + test, len(order), "emoji")
    order = order[: train + test]
    styles, examples = tuple(CHECKSUMS), []
    for i in stream.permutation(len(order)):
        style = styles[stream.integers(len(styles))]
        picture = image(order[i], style).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        question = EMOJI_QUESTIONS[stream.integers(len(EMOJI_QUESTIONS))]
        examples.append(Example(order[i].name, picture, question, order[i].group))
    return examples[:train], examples[train:]


def _labeled(
    pixels: "numpy.ndarray",
    labels: "numpy.ndarray",
    names: tuple[str, ...],
    questions: tuple[str, ...],
    stream: "numpy.random.Generator",
) -> "Callable[[numpy.ndarray], Iterator[Example]]":
    """Returns a function from indices to examples over labeled gray images."""
    from PIL import Image

    def pick(indices: "numpy.ndarray") -> Iterator[Example]:
        for i in indices:
            image = Image.fromarray(pixels[i]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            question = questions[stream.integers(len(questions))]
            yield Example(str(i), image, question, names[labels[i]])

    return pick


def _check(wanted: int, there: int, what: str) -> None:
    if wanted > there:
        raise FcitError(f"{wanted} {what} were asked for, but there are only {there}.")
