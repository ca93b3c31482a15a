"""Which turns of a conversation find its subspace? ``python benchmarks/turns.py``.

Clients of eight tasks have conversations; the real organizer makes subspaces of their identity tokens; each rule of
``fcit_identity_turns`` then says which subspace answers new conversations. Right is one that was opened for the task of the
latest question. Column all: mean over the kinds of conversations, and the worst and the best seed.

With FCIT-mini's model the tasks are FCIT-mini's; with ``--model`` FOLDER of a language model, hand-made ones of text.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from measure import arguments, show
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.knowledge import activation
from fcit_plugin.knowledge.encoders import make_encoder
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.nearness import NEAR, PLAIN
from fcit_plugin.knowledge.organizer import Organizer
from fcit_plugin.knowledge.turns import Turns, learned_tokens
from fcit_plugin.samples.mini.build import base_model_path, mini_root

RULES = ("first", "latest", "mean", "auto")
LIMITS = (0.3, 0.4, 0.5, 0.6, 0.7)
#: Clients have the first half of these, the other half is asked.
FOLLOW_UPS = (
    *("and why?", "another one, please", "Thanks. Go on.", "Could you explain that?", "Please try again.", "ok, and then?"),
    *("Are you sure?", "What do you mean by that?", "Hm, I don't think so.", "Shorter, please.", "Tell me more.", "How come?"),
)
PLACES = ("Spain", "Norway", "Kenya", "Peru", "Japan", "Egypt", "Canada", "Poland")
WORDS = ("happy", "quick", "large", "cold", "brave", "quiet", "strange", "clever")
NUMBERS = tuple(map(str, range(2, 60)))
JOBS = ("sorts a list", "reverses a string", "counts vowels", "merges two dictionaries", "checks for primes")
LINES = (
    "the dog sleeps in the garden",
    "we will meet at the station",
    "my sister likes green apples",
    "the train was late again",
)
NEWS = (
    "The city opens a new bridge after three years.",
    "Farmers expect a poor harvest.",
    "The team won the cup in extra time.",
)
FAULTS = ("He go to scool evry day.", "I has two brothr.", "Their is a bird on teh roof.", "She dont likes tea.")
OPINIONS = ("The food was cold and the waiter rude.", "A lovely film, I cried at the end.", "Never again, the room smelled.")
#: Task -> its questions, the short form of a further one, and what fills them.
TASKS = {
    "translate": (("Translate this sentence into French: {}", "How do you say in French: {}"), "And this one: {}", LINES),
    "sum": (("What is {} plus {}?", "Add {} and {}.", "Work out the sum of {} and {}."), "And {} plus {}?", NUMBERS),
    "mood": (
        ("Is the mood of this review good or bad? {}", "Label the review as positive or negative: {}"),
        "And here? {}",
        OPINIONS,
    ),
    "capital": (("Which city is the capital of {}?", "Name the capital city of {}."), "And of {}?", PLACES),
    "synonym": (("Give me a word that means the same as {}.", "Which word is a synonym of {}?"), "And for {}?", WORDS),
    "code": (("Write a Python function that {}.", "I need Python code which {}."), "And one that {}?", JOBS),
    "headline": (("Write a headline for this article: {}", "Sum up this news in one line: {}"), "Same for this: {}", NEWS),
    "spelling": (("Correct the spelling in: {}", "Fix the mistakes in this sentence: {}"), "Now this: {}", FAULTS),
}
#: Kind of conversation -> its share among those that clients have.
KINDS = {"one turn": 0.3, "follow-up": 0.3, "again": 0.1, "in short": 0.1, "new topic": 0.1, "new, follow-up": 0.1}
CLIENTS, RECORDS, ROUNDS, AT_ONCE = 4, 40, 2, 2


class Tasks:
    """Questions of eight tasks.

    Args:
        mini: FCIT-mini's, which have no short form; else hand-made ones.
    """

    def __init__(self, mini: bool) -> None:
        paths = [layout.train_path for layout in LAYOUT.values()][: len(TASKS)] if mini else []
        self.given = {path: [_text(row) for row in json.loads((mini_root() / path).read_text())] for path in paths}
        self.names = [*(self.given or TASKS)]

    def question(self, task: str, draw: random.Random, short: bool = False) -> str:
        """A question of a task; ``short``: as one asks again."""
        if self.given:
            return draw.choice(self.given[task])
        questions, again, fillings = TASKS[task]
        form = again if short else draw.choice(questions)
        return form.format(*(draw.choice(fillings) for _ in range(form.count("{}"))))

    def conversation(self, kind: str, task: str, follow_ups: Turns, draw: random.Random) -> Turns:
        """What a user says whose latest question is of the task."""
        new = self.question(task, draw)
        other = self.question(draw.choice([name for name in self.names if name != task]), draw)
        after = [draw.choice(follow_ups) for _ in range(draw.choice((1, 1, 2)))]
        said = {
            "one turn": [new],
            "follow-up": [new, *after],
            "again": [self.question(task, draw), *after[1:], new],
            "in short": [self.question(task, draw), self.question(task, draw, short=True)],
            "new topic": [other, *after[1:], new],
            "new, follow-up": [other, new, *after],
        }
        return tuple(said[kind])


def _text(row: dict[str, Any]) -> str:
    return row["conversations"][0]["value"].replace("<image>", "").strip()


def _no_images() -> list[None]:
    return [None] * RECORDS


class Remembering:
    """An encoder that is asked for each text once."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.known = encoder, {}

    def encode(self, texts: list[str]) -> np.ndarray:
        """Identity tokens of the texts, float32 [n, D]."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known |= zip(new, self.encoder.encode(new), strict=True)
        return np.stack([self.known[text] for text in texts])


@cache
def learn(tasks: Tasks, encoder: Any, rule: str, seed: int) -> tuple[SubspaceTokens, list[str]]:
    """Subspaces of a run in which two tasks come at a time, and the task that each was trained on most."""
    draw = random.Random(seed)
    organizer, tokens, owners = Organizer(0.9, None), None, Counter()
    order, number = draw.sample(tasks.names, len(tasks.names)), 0
    for start in range(0, len(order), AT_ONCE):
        for _ in range(ROUNDS):
            clients, tasks_of = [], {}
            for task in order[start : start + AT_ONCE] * CLIENTS:
                kinds = draw.choices([*KINDS], [*KINDS.values()], k=RECORDS)
                said = [tasks.conversation(kind, task, FOLLOW_UPS[:6], draw) for kind in kinds]
                mean = learned_tokens(encoder, said, rule, _no_images).mean(axis=0)
                clients.append(ClientToken(number, mean, RECORDS, RECORDS))
                tasks_of[number], number = task, number + 1
            tokens = SubspaceTokens.empty(len(mean)) if tokens is None else tokens
            assigned = organizer.assign(clients, tokens)
            tokens = organizer.update(tokens, clients, assigned)
            owners.update((k, tasks_of[client]) for client, k in assigned.subspace.items())
    assert tokens is not None
    return tokens, [max(tasks.names, key=lambda name: owners[k, name]) for k in range(tokens.num_subspaces)]


def measure(tasks: Tasks, encoder: Any, learned: str, asked: str, seed: int, count: int) -> list[float]:
    """Percent of conversations of each kind that find their task's subspace, then how many subspaces there are."""
    tokens, owners = learn(tasks, encoder, "first" if learned == "auto" else learned, seed)
    draw = random.Random(seed + 1_000_003)  # the same conversations whatever the rule
    router = activation.Router(encoder, tokens, "argmax", 1.0, asked)
    right = []
    for kind in KINDS:
        said = [(task, tasks.conversation(kind, task, FOLLOW_UPS[6:], draw)) for task in tasks.names for _ in range(count)]
        found = router.weights([turns for _, turns in said]).argmax(axis=1)
        right.append(100 * float(np.mean([owners[k] == task for k, (task, _) in zip(found, said, strict=True)])))
    return [*right, tokens.num_subspaces]


def table(title: str, rows: dict[str, Callable[[int], list[float]]], seeds: int) -> None:
    """Print how often each row is right, over the seeds."""
    shown = []
    for name, of_seed in rows.items():
        found = np.array([of_seed(seed) for seed in range(seeds)])
        overall = found[:, :-1].mean(axis=1)
        spread = f"{overall.mean():.1f} ({overall.min():.1f} to {overall.max():.1f})"
        subspaces = f"{found[:, -1].min():.0f} to {found[:, -1].max():.0f}"
        shown.append((name, *(f"{share:.1f}" for share in found[:, :-1].mean(axis=0)), spread, subspaces))
    show((title, *KINDS, "all", "subspaces"), shown)
    print()


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__, model="", seeds=10, count=25)
    seeds, count = (1, 2) if args.tiny else (args.seeds, args.count)
    path = Path(args.model or base_model_path())
    model = (AutoModelForCausalLM if args.model else AutoModelForImageTextToText).from_pretrained(path).eval()
    tokenizer, tasks = AutoTokenizer.from_pretrained(path), Tasks(mini=not args.model)
    for center in (True, False):
        encoder = Remembering(make_encoder("embedding", "mean", center, model, tokenizer))

        def of(learned: str, asked: str, limit: float = NEAR, encoder=encoder) -> Callable[[int], list[float]]:
            def of_seed(seed: int) -> list[float]:
                with mock.patch.object(activation, "nearness_of", return_value=replace(PLAIN, turn=limit)):
                    return measure(tasks, encoder, learned, asked, seed, count)

            return of_seed

        table("rule" if center else "rule, raw tokens", {rule: of(rule, rule) for rule in RULES}, seeds)
        if center:
            rows = {f"{learned}, {limit}": of(learned, "auto", limit) for learned in RULES[:3] for limit in LIMITS}
            table("auto: learned from, near", rows, seeds)


if __name__ == "__main__":
    main()
