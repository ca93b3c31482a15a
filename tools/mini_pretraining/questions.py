"""Questions of the pre-training: what the tasks need, in words that the tasks do not use."""

from collections import Counter

import numpy as np

from fcit_plugin.samples.mini.scenes import (
    COLOR_NAMES,
    BarScene,
    LineScene,
    Scene,
    TableScene,
    ThingScene,
    WordScene,
    pick,
    pick_some,
)

Turn = tuple[str, str]

NAMES = {
    "circle": "disc",
    "square": "block",
    "triangle": "wedge",
    "diamond": "rhomb",
    "star": "spark",
    "cross": "plus",
    "house": "hut",
    "tree": "shrub",
    "fish": "carp",
    "boat": "ship",
    "cup": "mug",
    "key": "latch",
    "flower": "bloom",
    "car": "wagon",
    "moon": "crescent",
    "umbrella": "brolly",
}
GRAINS = {"filled": "solid", "outline": "hollow", "hatched": "striped", "noisy": "grainy"}
PATHS = {"rising": "climb", "falling": "sink", "flat": "steady", "peaked": "hump"}
ROWS = {1: ("amid",), 2: ("upper", "lower"), 3: ("upper", "amid", "lower")}
COLUMNS = {1: ("mid",), 2: ("west", "east"), 3: ("west", "mid", "east")}
VERDICT = {True: "holds", False: "fails"}


def ask(rng: np.random.Generator, scene: Scene) -> Turn:
    """One question about a scene and its answer."""
    match scene:
        case ThingScene():
            return _ask_things(rng, scene)
        case WordScene():
            return _ask_word(rng, scene)
        case BarScene():
            position = int(rng.integers(3))
            return f"Level at {scene.colors[position]} column", f"step {scene.levels[position]}"
        case LineScene():
            return _ask_lines(rng, scene)
        case TableScene():
            return _ask_table(rng, scene)


def echo(rng: np.random.Generator, words: tuple[str, ...]) -> Turn:
    """Repeat some words: it teaches every token to be read and written, and nothing about any task."""
    text = " ".join(pick(rng, words) for _ in range(int(rng.integers(2, 6))))
    return f"Repeat: {text}", text


def _spot(scene: ThingScene, cell: tuple[int, int]) -> str:
    return f"{ROWS[scene.cells][cell[0]]} {COLUMNS[scene.cells][cell[1]]}"


def _ask_things(rng: np.random.Generator, scene: ThingScene) -> Turn:
    counts = Counter(thing.color for thing in scene.things)
    single = [thing for thing in scene.things if counts[thing.color] == 1]
    topics = ["tally", "tally", "inspect", "list"] if scene.cells > 1 else ["list"]
    if single:
        topics += ["name", "spot", "spot"] + ["grain"] * (2 if scene.cells < 3 else 0)
    topic = pick(rng, topics)
    if topic == "tally":
        return _tally(rng, scene, counts)
    if topic == "inspect":
        thing, truth = pick(rng, scene.things), bool(rng.integers(2))
        color = thing.color if truth else pick(rng, [c for c in COLOR_NAMES if c not in counts])
        return f"Inspect: {color} seen", VERDICT[truth]
    if topic == "list":
        things = sorted(scene.things, key=lambda thing: thing.cell)[:3]
        return "List marks", " ; ".join(f"{t.color} {NAMES[t.kind]} {_spot(scene, t.cell)}" for t in things)
    thing = pick(rng, single)
    if topic == "name":
        return f"Figure in {thing.color}", f"form {NAMES[thing.kind]}"
    if topic == "spot":
        return f"Spot for {thing.color}", _spot(scene, thing.cell)
    return f"Grain under {thing.color}", f"{GRAINS[thing.style]} grain"


def _tally(rng: np.random.Generator, scene: ThingScene, counts: Counter[str]) -> Turn:
    color = pick(rng, tuple(counts)) if rng.random() < 0.8 else pick(rng, COLOR_NAMES)
    total = len(scene.things)
    return pick(
        rng,
        (
            (f"Tally {color}", f"sum {counts[color]}"),
            (f"Tally without {color}", f"sum {total - counts[color]}"),
            ("Tally everything", f"sum {total}"),
        ),
    )


def _ask_word(rng: np.random.Generator, scene: WordScene) -> Turn:
    position = int(rng.integers(3))
    return pick(
        rng,
        (
            ("Spell", " ".join(scene.word)),
            ("Spell", " ".join(scene.word)),
            ("Spell dashed", "-".join(scene.word)),
            (f"Glyph {position + 1}", f"sign {scene.word[position]}"),
        ),
    )


def _ask_lines(rng: np.random.Generator, scene: LineScene) -> Turn:
    position = int(rng.integers(len(scene.colors)))
    path = (f"Path along {scene.colors[position]}", f"{PATHS[scene.trends[position]]} path")
    if len(scene.colors) == 1:
        return pick(rng, (path, ("Stroke hue", f"hue {scene.colors[0]}")))
    high, low = scene.colors
    truth, over = bool(rng.integers(2)), bool(rng.integers(2))
    first, second = (high, low) if truth == over else (low, high)
    inspect = (f"Inspect: {first} {'over' if over else 'under'} {second}", VERDICT[truth])
    return pick(rng, (path, ("Highest stroke", f"hue {high}"), ("Lowest stroke", f"hue {low}"), inspect, inspect, inspect))


def _ask_table(rng: np.random.Generator, scene: TableScene) -> Turn:
    first, second = pick_some(rng, range(3), 2)
    if rng.random() < 0.55:
        return f"Entry beside {scene.letters[first]}", f"entry {scene.digits[first]}"
    total = scene.digits[first] + scene.digits[second]
    return f"Join {scene.letters[first]} with {scene.letters[second]}", f"entry {total}"
