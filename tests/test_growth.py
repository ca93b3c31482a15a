"""What a run, its plan and its commands do with long lists of rows grows with the rows, and not with rows times stages.

Each use is counted and not timed: how often a row is looked into, for runs of few stages and of four times as many.
"""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from secure_keys import secure
from transformers import TrainingArguments

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.engine.idle import possible_pieces, why_idle
from fcit_plugin.evaluation.page_tables import Limits, Tables
from fcit_plugin.evaluation.report import Report, table
from fcit_plugin.federation import accounting
from fcit_plugin.federation.program import Program
from fcit_plugin.plan.plan import Plan
from fcit_plugin.plan.secure_sums import secure_sums
from fcit_plugin.plan.text import to_text
from fcit_plugin.plan.work import ClientWork, Payload, Schedule
from fcit_plugin.scenario.tasks import Scenario, Task
from fcit_plugin.state.inspection import _stage_rows
from fcit_plugin.state.progress import Progress

LOOKS = Counter()
CLIENTS, ROUNDS = 5, 3


class Row(dict):
    """Counts how often it is looked into, or compared."""

    def __getitem__(self, key):
        LOOKS["row"] += 1
        return super().__getitem__(key)

    def __eq__(self, other):
        LOOKS["row"] += 1
        return super().__eq__(other)

    __hash__ = None


class Work(ClientWork):
    """The same of a plan's."""

    def __getattribute__(self, name):
        LOOKS["row"] += not name.startswith("__")
        return super().__getattribute__(name)


def trainings(stages):
    return [(t, r, c) for t in range(stages) for r in range(ROUNDS) for c in range(CLIENTS)]


def assignments(stages):
    return [
        Row({"stage": t, "round": r, "client": c, "subspace": t % 2, "cosine": 0.5, "task": f"task{t}"})
        for t, r, c in trainings(stages)
    ]


def report(stages):
    numbers = dict.fromkeys(("last", "avg", "forgetting", "bwt", "fwt"))
    rows = assignments(stages)
    seconds = {"total": 1.0, "train": 1.0, "evaluate": 0.0}
    return Report(
        method="disco", setting="custom", stages=[["a"]] * stages, datasets=["a"], accuracy=[], zero_shot={}, bytes_up=0,
        bytes_down=0, seconds=seconds, assignments=rows, **numbers,
    )  # fmt: skip


def inspect(stages):
    manifest = {"stages": [["a"]] * stages, "rounds": [ROUNDS] * stages}
    shown = _stage_rows(manifest, Progress(assignments=assignments(stages)))
    assert shown[1:] == [[str(t), "a", "3 of 3", f"0, 1, 2, 3, 4 on {t % 2}", "-"] for t in range(stages)]


def spend(stages):
    args = SimpleNamespace(
        adds_noise=True, fcit_dp_noise_multiplier=1.0, fcit_identity_noise=1.0, fcit_dp_delta=1e-5, fcit_dp_clipping_norm=1.0,
        fcit_dp_secret=None, fcit_clients_per_round=CLIENTS, fcit_num_clients=CLIENTS,
    )  # fmt: skip
    found = accounting.spent(args, assignments(stages), assignments(stages), stages)
    assert found["stages"] == [found["stages"][0]] * stages


def ask(stages):
    progress = Progress()
    for t in range(stages):
        for _ in range(ROUNDS):
            progress.add_asked([Row({"stage": t, "client": c, "task": f"task{t}"}) for c in range(CLIENTS)])
    assert [(row["stage"], row["client"]) for row in progress.asked] == [(t, c) for t in range(stages) for c in range(CLIENTS)]


def plan(stages):
    work = tuple(Work(t, r, c, f"task{t}", 10, 1) for t, r, c in trainings(stages))
    schedule = Schedule(work, Payload(((1, 1),), ((1, 1),), (), 1))
    assert len(list(schedule.rounds())) == stages * ROUNDS
    to_text(Plan("a plan", {}, [], [], {"": schedule}, 0, None, []))


USES = {
    "inspect": inspect,
    "privacy": spend,
    "asked for tokens": ask,
    "plan": plan,
    "report": lambda stages: table(report(stages)),
    "page": lambda stages: Tables(report(stages), Limits(3, 3)).subspaces(),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_four_times_the_stages_are_four_times_the_work(use, monkeypatch):
    monkeypatch.setattr(accounting, "gaussian_epsilon", lambda releases, delta: float(sum(n for _, n in releases)))
    monkeypatch.setattr(accounting, "sampled_epsilon", lambda *given: 1.0)
    counted = []
    for stages in (8, 32):
        LOOKS.clear()
        use(stages)
        counted.append(LOOKS["row"])
    assert 0 < counted[1] <= 4.5 * counted[0]


def test_a_thousand_clients_in_turn_are_not_tried_one_by_one(tmp_path):
    asked = Counter()

    def piece(round, place, links):
        asked["piece"] += 1
        return place, links

    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    assert why_idle(args, 10, 10, 1, possible_pieces(piece, 0, 1000)) is None
    assert asked["piece"] < 10
    assert [*possible_pieces(lambda *where: None, 0, 1000)] == [None]
    assert [*possible_pieces(piece, 0, 3)] == [(place, links) for links in (1, 2, 3) for place in range(links)]
    args.warmup_steps = 10**6
    args.warmup_steps = 10
    assert why_idle(args, 1, 1, 1) == "is 1 step long, under a warm-up that begins at a learning rate of 0"
    assert "in a piece of the schedule that is all at" in why_idle(args, 1, 1, 1, [(0, 2)])


def test_secure_sums_are_counted_place_by_place():
    places = Counter()

    class Counted(Scenario):
        def task_of(self, stage, position):
            places[position] += 1
            return super().task_of(stage, position)

    tasks = tuple(Task(name, (name,)) for name in "abcdef")
    scenario = Counted("custom", tasks, tuple((t, (t + 1) % 6, (t + 2) % 6) for t in range(6)))
    given = {
        "fcit_num_clients": 60,
        "fcit_clients_per_round": 5,
        "fcit_setting": "custom",
        "fcit_stages": [[n] for n in "abcdef"],
    }
    program = Program(FcitArguments(**secure() | given), scenario, 42, {"l.lora_B.weight": torch.zeros(1)})
    (note,) = secure_sums(program)
    assert "`fcit_clients_per_round: 9` leaves none out" in note  # three tasks of three clients
    assert max(places.values()) <= 6 * (2 + program.args.fcit_num_rounds)
