"""The settings of the paper against spec section 5, and every complaint about the user's keys."""

import json

import pytest

from fcit_plugin.errors import FcitError
from fcit_plugin.scenario import SETTINGS, Scenario, Task, get_scenario

TASK_HET = "[1,2,4,5,6] [3,4,5,7,7] [0,2,3,4,5] [0,0,1,3,7] [1,2,4,4,5] [0,3,5,7,7] [2,2,5,7,7] [5,5,5,6,6]"
CAP_HET = "[0,1,1,3,3] [0,2,2,2,3] [1,2,2,3,3] [0,0,0,1,1]"
TASK_ORDER = "imagenet_r arxivqa iconqa clevr_math ocrvqa flickr30k figureqa super_clevr"


def rows(text):
    return tuple(tuple(int(n) for n in row.strip("[]").split(",")) for row in text.split())


@pytest.mark.parametrize(("setting", "text"), [("task_het", TASK_HET), ("cap_het", CAP_HET)])
def test_heterogeneous_schedules_are_those_of_the_paper(setting, text):
    assert get_scenario(setting).schedule == rows(text)


@pytest.mark.parametrize(("setting", "stages"), [("task_hom", 8), ("cap_hom", 4)])
def test_homogeneous_stage_t_has_task_t_for_everyone(setting, stages):
    scenario = get_scenario(setting)
    assert scenario.num_stages == stages
    assert {scenario.task_of(t, i) for t in range(stages) for i in range(50) if scenario.task_of(t, i) != t} == set()


def test_data_sets_come_in_the_order_of_the_paper():
    assert get_scenario("task_hom").all_datasets() == tuple(f"fcit_{name}" for name in TASK_ORDER.split())
    scenario = get_scenario("cap_hom")
    assert [scenario.datasets_of_stage(t) for t in range(4)] == [
        ("fcit_aokvqa", "fcit_iconqa", "fcit_grounding", "fcit_imagenet_r"),
        ("fcit_flickr30k", "fcit_ocrvqa"),
        ("fcit_clevr_math", "fcit_super_clevr", "fcit_tabmwp"),
        ("fcit_arxivqa", "fcit_figureqa", "fcit_dvqa"),
    ]


def test_every_setting_knows_its_name_and_both_variants_share_their_data_sets():
    assert {name: scenario.name for name, scenario in SETTINGS.items()} == {n: n for n in SETTINGS}
    for kind in ("task", "cap"):
        hom, het = SETTINGS[f"{kind}_hom"], SETTINGS[f"{kind}_het"]
        assert set(hom.all_datasets()) == set(het.all_datasets())


def test_seen_sets_follow_a_heterogeneous_schedule():
    scenario = get_scenario("custom", [["a", "b"], ["c"], ["b", "d"]], [[1, 1], [2, 0], [0, 1, 2]])
    assert scenario.datasets_of_stage(1) == ("b", "d", "a")
    assert [scenario.seen_datasets(t) for t in range(3)] == [("c",), ("c", "b", "d", "a"), ("c", "b", "d", "a")]
    assert scenario.all_datasets() == ("c", "b", "d", "a")


#: As ETrain/Fed_utils/process_data.py of the research code lists them.
RESEARCH_TASKS = "arxivqa flickr30k imagenet_r ocrvqa iconqa clevr_math figureqa super_clevr"
RESEARCH_CAPABILITIES = "general chart math other"


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("task_hom", RESEARCH_TASKS),
        ("task_het", RESEARCH_TASKS),
        ("cap_hom", RESEARCH_CAPABILITIES),
        ("cap_het", RESEARCH_CAPABILITIES),
    ],
)
def test_the_research_codes_order_renames_what_the_schedule_counts(setting, names):
    paper, other = get_scenario(setting), get_scenario(setting, task_order="research_code")
    assert other.tasks == paper.tasks
    for stage, row in enumerate(SETTINGS[setting].schedule):
        worked_on = [other.tasks[other.task_of(stage, position)].name for position in range(len(row))]
        assert worked_on == [names.split()[number] for number in row]
    assert get_scenario(setting, task_order=names.split()) == other


def test_an_order_of_ones_own_and_the_papers_own():
    assert get_scenario("cap_hom", task_order=["chart", "math", "other", "general"]).schedule == ((3,), (2,), (1,), (0,))
    names = [task.name for task in SETTINGS["task_het"].tasks]
    assert get_scenario("task_het", task_order=names) == get_scenario("task_het", task_order="paper") == SETTINGS["task_het"]


@pytest.mark.parametrize("order", ["papre", ["general", "chart"], ["general", "chart", "math", "math"], [0, 1, 2, 3], 5])
def test_an_order_that_is_none_is_refused_with_the_names(order):
    with pytest.raises(ValueError, match=r"fcit_task_order must be paper, research_code, .*general, other, math, chart"):
        get_scenario("cap_hom", task_order=order)


def test_positions_wrap_around_the_row():
    scenario = get_scenario("task_het")
    assert [scenario.task_of(0, i) for i in range(7)] == [1, 2, 4, 5, 6, 1, 2]


def test_custom_without_schedule_is_homogeneous():
    scenario = get_scenario("custom", [["a"], ["b", "c"]])
    assert scenario == Scenario("custom", (Task("a", ("a",)), Task("b+c", ("b", "c"))), ((0,), (1,)))


@pytest.mark.parametrize(
    ("arguments", "key", "advice"),
    [
        (("custom", []), "fcit_stages", "give at least one"),
        (("custom", ["a", "b"]), "fcit_stages", "stage 0 must be a list of dataset names, not 'a'"),
        (("custom", "a"), "fcit_stages", "must be a list"),
        (("custom", [["a"], [3]]), "fcit_stages", "stage 1 must be a list of dataset names"),
        (("custom", [["a"], []]), "fcit_stages", "stage 1 is empty"),
        (("custom", [["a", "b", "a"]]), "fcit_stages", "'a' twice"),
        (("custom", [["a"], ["b"]], [[0], [2]]), "fcit_schedule", "stage 1 asks for task 2"),
        (("custom", [["a"], ["b"]], [[0], [-1]]), "fcit_schedule", "numbered from 0 to 1"),
        (("custom", [["a"], ["b"]], [[0, 1], []]), "fcit_schedule", "stage 1 is empty"),
        (("custom", [["a"], ["b"]], [[0, True]]), "fcit_schedule", "must be a list of task indices"),
        (("custom", [["a"], ["b"]], [0, 1]), "fcit_schedule", "must be a list of task indices"),
        (("custom", [["a"], ["b"]], [[0], [0]]), "fcit_schedule", "no stage uses task 1 (b)"),
        (("custom", [["a"]], None, "research_code"), "fcit_task_order", "put fcit_stages into the order"),
    ],
)
def test_a_wrong_key_is_named_with_what_to_do(arguments, key, advice):
    with pytest.raises(FcitError) as caught:
        get_scenario(*arguments)
    assert key in str(caught.value)
    assert advice in str(caught.value)


def test_stages_behind_those_of_another_scenario_keep_its_tasks_and_their_numbers():
    earlier, later = get_scenario("custom", [["a"], ["b", "c"]]), get_scenario("custom", [["d"], ["c", "b"]], [[0, 1], [1]])
    both = earlier.followed_by(later)
    assert [task.datasets for task in both.tasks] == [("a",), ("b", "c"), ("d",)]
    assert both.schedule == ((0,), (1,), (2, 1), (1,))
    assert (both.name, both.first_stage, both.tasks_to_train()) == ("custom", 2, (1, 2))
    assert both.datasets_to_train() == ("d", "b", "c") and both.all_datasets() == ("a", "b", "c", "d")
    assert (earlier.first_stage, earlier.datasets_to_train(), earlier.tasks_to_train()) == (0, ("a", "b", "c"), (0, 1))


def test_a_setting_of_the_paper_can_be_gone_on_from_again_and_again():
    first = get_scenario("cap_het")
    second = first.followed_by(get_scenario("custom", [["x"]]))
    third = second.followed_by(get_scenario("custom", [["y"]]))
    assert (second.name, third.name, third.first_stage) == ("cap_het+custom", "cap_het+custom", 5)
    assert [third.datasets_of_stage(t) for t in range(4)] == [first.datasets_of_stage(t) for t in range(4)]


def test_a_scenario_comes_back_from_json():
    scenario = get_scenario("task_het")
    assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario
    with pytest.raises(ValueError, match="cannot be read"):
        Scenario.from_dict({"name": "x"})
