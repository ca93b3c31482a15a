"""A plan as text: what a reader looks for is there, and the numbers are those of the plan."""

from dataclasses import replace

from fcit_plugin.plan.disk import Disk
from fcit_plugin.plan.memory import Memory
from fcit_plugin.plan.plan import DataSummary, Plan
from fcit_plugin.plan.text import megabytes, to_text
from fcit_plugin.plan.work import ClientWork, Payload, Schedule, TaskShare

WORK = (ClientWork(0, 0, 3, "red", 1200, 10), ClientWork(0, 0, 5, "blue", 7, 1), ClientWork(0, 0, 8, "red", 30, 2))
PLAN = Plan(
    title="disco, custom, seed 1",
    settings={"model": "tiny"},
    data=[DataSummary("red", 1230, 50, [4, 6]), DataSummary("blue", 7, None, [3])],
    shares=[TaskShare("red", [1200, 30])],
    schedules={"": Schedule(WORK, Payload(((1000, 250),), ((1000, 250),), (), 32))},
    answers=1500,
    memory=Memory(2_000_000_000, 1_000_000, 1_000_000, 2_000_000, 500_000_000),
    notes=["only a test"],
    disks={"": Disk((1_000_000, 3_000_000, 4_000_000), kept=1, replies=2_500_000, updates=0)},
)


def test_the_lines_of_a_plan():
    lines = [" ".join(line.split()) for line in to_text(PLAN).splitlines()]
    assert lines[0] == "FCIT dry run: disco, custom, seed 1. Nothing is trained."
    for line in (
        "model: tiny",
        "red 1,230 50 5, 6 of 2 records",
        "blue 7 - 3, 3 of 1 records",
        "red 30 615 1,200",
        "0 0 13 red: 3 (1,200), 8 (30); blue: 5 (7)",
        "optimizer steps: 13",
        "local trainings: 3",
        "answers generated, at most: 1,500",
        "received by clients: 3.00 MB (1.00 MB a client and round)",
        "activations: about 500.00 MB",
        "together: about 2.50 GB",
        "a commit, and the results: up to 4.00 MB",
        "replies of a round: up to 2.50 MB",
        "a run at most, keeping 1 of its commits (`save_total_limit`): 11.00 MB",
        "Note: only a test",
    ):
        assert line in lines


def test_clients_that_have_names_are_called_by_them():
    names = [f"site {'abcdefghi'[number]}" for number in range(9)]
    lines = [" ".join(line.split()) for line in to_text(replace(PLAN, names=names)).splitlines()]
    assert "0 0 13 red: site d (1,200), site i (30); blue: site f (7)" in lines


def test_a_plan_without_training_says_nothing_of_it():
    text = to_text(Plan("zero_shot", PLAN.settings, PLAN.data, [], {}, 57, None, []))
    assert "Who trains" not in text and "Memory" not in text and "Disk" not in text and "sent by clients" not in text
    assert "57" in text


def test_records_that_are_left_out_are_counted_if_any_is():
    words = "Records left out, as LLaMA-Factory leaves them out: 1,200 of red, 1 of blue_test."
    assert words not in to_text(PLAN)
    plan = replace(PLAN, left_out={"red": 1200, "blue_test": 1})
    assert words in to_text(plan) and plan.to_dict()["left_out"] == {"red": 1200, "blue_test": 1}


def test_sizes_are_decimal():
    assert (megabytes(1_500_000), megabytes(2_345_000_000)) == ("1.50 MB", "2.35 GB")
