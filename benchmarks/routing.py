"""How often does a question find its own subspace, for each identity encoder?

    python benchmarks/routing.py --model SmolLM2-135M --half development

Each of 42 kinds of instructions (``benchmarks/routing/``) has a subspace, made of the tokens of its training instructions; the
product's own router is asked in other words, with typos, in polite frames, behind a preamble, as a follow-up turn, in upper
case and in other languages. Printed are tables in Markdown: the share that finds its subspace with a 95 % interval (Wilson),
also with the kinds of ``disco_plus``; the mean weight of the own subspace; what a request and a record cost; and for each pair
of encoders the difference with a 95 % interval by a paired bootstrap that draws whole kinds.

Choose by the development half. The held-out half is for figures, and is read once.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np
from instructions import Case
from measure import arguments, resident
from routed import Remembering, encoder_of, label, load, markdown, paired, questions, router, subspaces, wilson

from fcit_plugin.knowledge.activation import Router
from fcit_plugin.knowledge.turns import ways_to_tell

#: Sets for which encoders are compared with each other, and those tried with kinds of instructions, too.
COMPARED = ("reworded", "polite", "preamble", "typos", "follow-up", "upper")
WITH_KINDS = ("own", "reworded", "polite", "preamble")
TIMED, RECORDS = 24, 32
MIB = 2**20

#: Of each set what every question's own subspace weighs, and whether it weighs most.
Found = dict[str, tuple[np.ndarray, np.ndarray]]


def ask(asked: Router, names: list[str], cases: list[Case]) -> tuple[np.ndarray, np.ndarray]:
    """What each question's own subspace weighs, and whether it weighs most."""
    weights = asked.weights([case.turns for case in cases])
    own = np.array([names.index(case.kind) for case in cases])
    return weights[np.arange(len(cases)), own], weights.argmax(axis=1) == own


def peak(call: Callable[[], object]) -> float:
    """Memory in MiB that a call needs at most beyond what was there."""
    ctypes.CDLL(None).malloc_trim(0)  # else what earlier calls needed is still there
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before) / MIB


def _status(name: str) -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(fields[name].split()[0]) * 1024


def cost(encoder: Remembering, asked: Router, cases: list[Case], records: list[str], added: float) -> list[str]:
    """CPU milliseconds and MiB of a request, one after the other, and of a record in a batch; MiB that the encoder adds."""
    seconds, needed = [], []
    for case in cases[:TIMED]:
        start = time.process_time()
        _anew(encoder, lambda case=case: asked.weights([case.turns]))
        seconds.append(time.process_time() - start)
        needed.append(peak(lambda case=case: _anew(encoder, lambda: asked.weights([case.turns]))))
    start = time.process_time()
    _anew(encoder, lambda: encoder.encode(records))
    batch = time.process_time() - start
    token = encoder.encode(records[:1])
    per_record = peak(lambda: _anew(encoder, lambda: encoder.encode(records))) / len(records)
    ways = np.mean([len(ways_to_tell(encoder, case.turns[-1])) for case in cases])
    return [
        *(f"{1000 * value:.1f}" for value in (median(seconds), batch / len(records))),
        *(f"{value:.1f}" for value in (median(needed), per_record, added, token.nbytes / 1024, ways)),
    ]


def _anew(encoder: Remembering, call: Callable[[], object]) -> None:
    """Call it with an encoder that remembers nothing."""
    known, encoder.known = encoder.known, {}
    if hasattr(encoder.encoder, "forget"):
        encoder.encoder.forget()
    call()
    encoder.known = known


def compare(found: dict[str, Found], sets: dict[str, list[Case]]) -> None:
    """Print the differences of all pairs of encoders, in points."""
    rows = []
    for one, other in combinations(found, 2):
        cells = []
        for name in COMPARED:
            kinds = [case.kind for case in sets[name]]
            middle, low, high = (100 * v for v in paired(found[one][name][1], found[other][name][1], kinds))
            cells.append(f"{middle:+.1f} ({low:+.1f} to {high:+.1f})")
        rows.append([f"{one} - {other}", *cells])
    markdown(["difference in points", *COMPARED], rows)


def main(args: argparse.Namespace) -> None:
    """Print the tables."""
    model, tokenizer = load(args.model)
    kinds, sets = questions(args.half, args.tiny)
    names, found, costs, spread = list(kinds), {}, [], []
    for encoder_name in ("embedding", "prompt") if args.tiny else args.encoders:
        before = resident()
        encoder = encoder_of(encoder_name, model, tokenizer)
        added, name = max(0, resident() - before) / MIB, label(encoder_name)
        encoder.encode([text for texts in kinds.values() for text in texts])
        encoder.encode(
            [way for cases in sets.values() for c in cases for turn in c.turns for way in ways_to_tell(encoder, turn)]
        )
        plain = router(encoder, subspaces(encoder, kinds))
        found[name] = {part: ask(plain, names, cases) for part, cases in sets.items()}
        several = router(encoder, subspaces(encoder, kinds, several=True))
        spread.append([name, *(wilson(ask(several, names, sets[part])[1]) for part in WITH_KINDS)])
        records = [texts[0] for texts in kinds.values()][:RECORDS]
        costs.append([name, *cost(encoder, plain, sets["polite"][::9], records, added)])
    print(f"\n{args.half}: {len(kinds)} kinds, {sum(map(len, kinds.values()))} training instructions\n")
    head = [f"{part}, n = {len(cases)}" for part, cases in sets.items()]
    markdown(["% right", *head], [[name, *(wilson(of[part][1]) for part in sets)] for name, of in found.items()])
    markdown(["% right, with kinds", *WITH_KINDS], spread)
    markdown(["own weight", *sets], [[name, *(f"{of[part][0].mean():.2f}" for part in sets)] for name, of in found.items()])
    per = [f"{unit} a {what}" for unit in ("CPU ms", "MiB") for what in ("request", "record")]
    markdown(["cost", *per, "MiB more", "KiB a token", "texts a request"], costs)
    compare(found, sets)


if __name__ == "__main__":
    options = arguments(__doc__, model="", half="development", encoders=["embedding", "minilm", "prompt"])
    main(options)
