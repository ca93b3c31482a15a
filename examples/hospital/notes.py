"""Writes short made-up notes of four hospitals: four tasks, whose records say which hospital they are of.

    python notes.py --out data

For a run in one process `data/<task>.json` has the records of all hospitals, with the column `hospital`. For sites with data of
their own `data/<hospital>/` has each one's alone, and `data/server/` the test records, each with a `dataset_info.json`.
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

HOSPITALS = ("north", "south", "east", "west")
#: Training records of each hospital and task (the larger hospital has more), and test records of a task.
TRAIN, TEST = {"north": 100, "south": 80, "east": 60, "west": 40}, 40

LETTERS = "ABCDEFGHKLMNPRST"


def ward(draw: random.Random) -> tuple[str, str]:
    """Which ward a patient is taken to: the last letter of the code."""
    code = draw.sample(LETTERS, 4)
    return f"The patient has the code {' '.join(code)}. The ward is its last letter. Which ward?", code[-1]


def triage(draw: random.Random) -> tuple[str, str]:
    """How urgent it is: the points that a nurse has noted, added up."""
    breath, pulse = draw.randint(0, 3), draw.randint(0, 3)
    sheet = " ".join(draw.sample(LETTERS, 2))
    return f"Triage of {sheet}: breath {breath}, pulse {pulse}. Add up the points.", str(breath + pulse)


def dose(draw: random.Random) -> tuple[str, str]:
    """How many tablets are taken in a day."""
    times, tablets = draw.choice(("once", "twice", "three times")), draw.randint(1, 2)
    drug = "".join(draw.sample(LETTERS, 3))
    each_day = tablets * ("once", "twice", "three times").index(times) + tablets
    return f"The label of drug {drug} reads: take {tablets}, {times} a day. Count the tablets of a day.", str(each_day)


def discharge(draw: random.Random) -> tuple[str, str]:
    """Whether a patient may go home, by two signs."""
    eats, walks = draw.choice(("yes", "yes", "no")), draw.choice(("yes", "yes", "no"))
    notes = f"Notes {draw.choice(LETTERS)} {draw.choice(LETTERS)} {draw.randint(1, 9)}"
    return f"{notes}: eats, {eats}; walks, {walks}. Send home today?", "yes" if eats == walks == "yes" else "no"


TASKS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "ward": ward, "triage": triage, "dose": dose, "discharge": discharge
}  # fmt: skip


def records(name: str, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Training records, each of a hospital, and test records; no question comes twice."""
    draw, found = random.Random(f"{name} {seed}"), {}
    while len(found) < sum(TRAIN.values()) + TEST:
        question, answer = TASKS[name](draw)
        found.setdefault(question, answer)
    rows = [{"question": question, "answer": answer} for question, answer in found.items()]
    owners = [hospital for hospital, count in TRAIN.items() for _ in range(count)]
    return [{**row, "hospital": owner} for row, owner in zip(rows, owners, strict=False)], rows[len(owners) :]


def write(path: Path, value: object) -> None:
    """Write a file of JSON, one record a line where it is a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(map(json.dumps, value)) if isinstance(value, list) else None
    path.write_text(f"[\n{lines}\n]\n" if lines else f"{json.dumps(value, indent=2)}\n")


def main() -> None:
    """Write all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    columns = {"columns": {"prompt": "question", "response": "answer"}}
    info: dict[str, dict[str, object]] = {folder: {} for folder in (*HOSPITALS, "server")}
    for name in TASKS:
        train, test = records(name, args.seed)
        for path in (args.out / f"{name}_test.json", args.out / "server" / f"{name}_test.json"):
            write(path, test)
        write(args.out / f"{name}.json", train)
        info["server"][f"{name}_test"] = {"file_name": f"{name}_test.json", **columns}
        for hospital in HOSPITALS:
            write(args.out / hospital / f"{name}.json", [row for row in train if row["hospital"] == hospital])
            info[hospital][name] = {"file_name": f"{name}.json", **columns}
    for folder, entries in info.items():
        write(args.out / folder / "dataset_info.json", entries)
    each = f"each with {sum(TRAIN.values())} records of {len(HOSPITALS)} hospitals and {TEST} for the test"
    print(f"{args.out}: {', '.join(TASKS)}, {each}.")


if __name__ == "__main__":
    main()
