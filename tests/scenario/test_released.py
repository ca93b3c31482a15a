"""Released partition files: matched to the train files record by record, and every defect named."""

import json
import re
import shutil

import pytest
from tables import Table

from fcit_plugin.errors import FcitError
from fcit_plugin.scenario import SETTINGS, Partition, PartitionOptions, get_scenario
from fcit_plugin.scenario.released_partition import released_folder

N = 4
SIZE = 12


def record(dataset, number):
    turns = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": "a"}]
    return {"image": f"{dataset}/{number}.png", "conversations": turns}


def owner(number):
    """Whose a record is; nobody's is every last one of a dataset, as the research code leaves some over."""
    return (number * 7) % N if number < SIZE - 1 else None


@pytest.fixture
def source():
    """Train records of all datasets; in each the records 0 and 1 are the same."""
    names = {name for scenario in SETTINGS.values() for name in scenario.all_datasets()}
    return Table({name: [record(name, max(number, 1)) for number in range(SIZE)] for name in names})


def write(root, setting, source, beta="1.0", order="paper"):
    """Write the partition files of a setting as the research code names them, its tasks numbered by `order`."""
    tasks = SETTINGS[setting].tasks
    numbered = [row[0] for row in get_scenario(setting.replace("het", "hom"), task_order=order).schedule]
    folder = root / "partitioned_data" / ("Task-related/seq" if setting.startswith("task") else "Capability-related/cap")
    for number, task in enumerate(numbered):
        for client in range(N):
            path = folder / beta / f"Task{number + 1}" / f"client_{client}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            mine = [
                source.data[name][index] for name in tasks[task].datasets for index in range(SIZE) if owner(index) == client
            ]
            path.write_text(json.dumps(mine[::-1], indent=4))
    return folder / beta


def parts(root, setting, source, task, num_clients=N, beta=1.0):
    options = PartitionOptions(num_clients, "released", beta, released=released_folder(root, setting, beta))
    return Partition(get_scenario(setting), source, options, seed=0).parts(task)


def expected(setting, task):
    pooled = len(SETTINGS[setting].tasks[task].datasets)
    records = [(d * SIZE + i, owner(i)) for d in range(pooled) for i in range(SIZE)]
    return [[index for index, whose in records if whose == client] for client in range(N)]


@pytest.mark.parametrize("order", ["paper", "research_code"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_client_has_the_records_of_its_file_however_the_folders_are_numbered(tmp_path, source, setting, order):
    write(tmp_path, setting, source, order=order)
    for task in range(len(SETTINGS[setting].tasks)):
        found = [set(part.tolist()) for part in parts(tmp_path, setting, source, task)]
        wanted = [set(part) for part in expected(setting, task)]
        # a record that is twice in the train file may be either for either of its owners, but not one for both
        blur = {index for index in range(SIZE * 4) if index % SIZE < 2}
        assert [part - blur for part in found] == [part - blur for part in wanted]
        assert [len(part) for part in found] == [len(part) for part in wanted]
        assert len(set.union(*found)) == sum(map(len, found))


def test_a_setting_or_beta_that_was_not_released_is_refused(tmp_path, source):
    write(tmp_path, "cap_hom", source)
    write(tmp_path, "cap_hom", source, beta="0.5")
    with pytest.raises(ValueError, match=r"cap/2\.0; set fcit_beta to one of 0\.5, 1\.0\."):
        released_folder(tmp_path, "cap_het", 2)
    with pytest.raises(ValueError, match=r"seq/1\.0; set fcit_data_dir"):
        released_folder(tmp_path, "task_hom", 1.0)
    with pytest.raises(ValueError, match="no released partitions for fcit_setting: custom"):
        released_folder(tmp_path, "custom", 1.0)


def defect(folder, name):
    """Break one thing in the files of the second task."""
    path = folder / "Task2" / ("client_0.json" if "first" in name else "client_2.json")
    held = json.loads(path.read_text())
    if name == "foreign record":
        held[2]["conversations"][1]["value"] = "another answer"
    elif name == "foreign first record":
        held[0]["image"] = "elsewhere.png"
    elif name == "one record too often":
        held.append(held[0])
    elif name == "no conversations":
        del held[1]["conversations"]
    elif name == "no list":
        held = {"records": held}
    path.write_text("[{" if name == "no json" else json.dumps(held))
    if name == "missing file":
        path.unlink()
    if name == "missing folder":
        shutil.rmtree(folder / "Task2")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("foreign record", r"Record 2 of \S+Task2/client_2\.json is not among the train records of the task arxivqa"),
        ("foreign first record", r"Record 0 of \S+Task2/client_0\.json is not among the train records"),
        ("one record too often", r"Record \d+ of \S+Task2/client_2\.json .* more often than there"),
        ("no conversations", r"Record 1 of \S+Task2/client_2\.json has no conversations"),
        ("no list", r"Task2/client_2\.json holds no list of records"),
        ("no json", r"Task2/client_2\.json is not valid JSON"),
        ("missing file", r"no file \S+Task2/client_2\.json \(3 client files are there, fcit_num_clients is 4\)"),
        ("missing folder", r"no file \S+Task2/client_0\.json \(0 client files are there"),
    ],
)
def test_each_defect_is_one_sentence_with_file_and_index(tmp_path, source, name, sentence):
    defect(write(tmp_path, "task_hom", source), name)
    with pytest.raises(FcitError) as caught:
        parts(tmp_path, "task_hom", source, 1)
    assert re.search(sentence, str(caught.value)), caught.value
    parts(tmp_path, "task_hom", source, 0)


def test_another_number_of_clients_is_refused(tmp_path, source):
    write(tmp_path, "task_hom", source)
    with pytest.raises(ValueError, match="files of 4 clients; set fcit_num_clients: 4 instead of 3"):
        parts(tmp_path, "task_hom", source, 0, num_clients=3)
    with pytest.raises(ValueError, match=r"client_4\.json \(4 client files are there, fcit_num_clients is 5\)"):
        parts(tmp_path, "task_hom", source, 0, num_clients=5)
