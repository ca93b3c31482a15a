"""How often a schedule has too few clients for a secure sum: counted again from the paper's schedules, and in words."""

from collections import Counter

import pytest
import torch
from secure_keys import secure

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.program import Program
from fcit_plugin.plan.secure_sums import count_sums, secure_sums, sums_note
from fcit_plugin.scenario.settings import get_scenario


def program_of(**keys):
    args = FcitArguments(**secure() | keys)
    scenario = get_scenario(args.fcit_setting, args.fcit_stages, args.fcit_schedule)
    return Program(args, scenario, 42, {"l.lora_B.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("setting", "clients", "reach", "updates"),
    # what the study of secure aggregation has counted for 5, 10 and 20 clients a round
    [("task_het", 5, 3, 8), ("task_het", 10, 26, None), ("task_het", 20, 100, 100), ("cap_het", 5, 18, 30),
     ("cap_het", 10, 64, None), ("cap_het", 20, 100, 100), ("task_hom", 5, 100, 100), ("cap_hom", 3, 100, 100)],
)  # fmt: skip
def test_the_papers_settings_have_the_sums_that_were_counted_before(setting, clients, reach, updates):
    program = program_of(fcit_setting=setting, fcit_clients_per_round=clients)
    rounds = [
        Counter(config.task for config in program.work(stage, round).values())
        for stage in range(program.num_stages)
        for round in range(program.args.fcit_num_rounds)
    ]
    count = count_sums(rounds, 3)
    assert round(100 * (1 - count.small / count.sums)) == reach
    assert updates is None or 100 * (1 - count.lost / count.updates) == pytest.approx(updates, abs=0.51)
    assert bool(secure_sums(program)) == (reach < 100)


def test_the_sentence_says_how_many_are_left_out_and_what_would_do():
    (note,) = secure_sums(program_of(fcit_setting="task_het", fcit_num_clients=50))
    assert "(97 %) have fewer than 3 clients (`fcit_secure_min_clients`)" in note
    assert "370 of 400 updates (92 %) are left out" in note and "leaves none out" in note
    single = program_of(fcit_setting="task_het", fcit_method="sequential")
    assert secure_sums(single) == []


def test_where_no_number_of_clients_does_the_best_is_said():
    counts = {3: count_sums([{0: 2, 1: 1}], 3), 4: count_sums([{0: 3, 1: 1}], 3)}
    assert "with all 4 clients in each round it is 1 of 2 sums" in sums_note(counts, 3, 3)
