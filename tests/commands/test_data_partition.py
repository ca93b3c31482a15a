"""``fcit-cli data partition``: what a run will do, from the files alone."""

import csv
import json
import subprocess
import sys

import pytest
from matplotlib.image import imread
from runs import report_of
from tiny import write_recipe

from fcit_plugin.arguments import aliases
from fcit_plugin.commands import COMMANDS
from fcit_plugin.commands.command import make_parser
from fcit_plugin.commands.data_partition import partition_of
from fcit_plugin.errors import FcitError, printable
from fcit_plugin.samples.mini.build import mini_root
from fcit_plugin.scenario import SETTINGS
from fcit_plugin.scenario.partition import PartitionOptions


def verb(*arguments):
    args = make_parser(COMMANDS).parse_args(["data", "partition", *map(str, arguments)])
    return args.command.run(args)


def whole(keys):
    partition = partition_of(keys)
    return partition.table(range(len(partition.scenario.tasks)))


def test_it_shows_the_partition_of_the_run(text_run, text_keys):
    assert whole(text_keys) == report_of(text_run)["partition"]


def test_keys_that_decide_nothing_may_follow_the_recipe(text_keys, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", text_keys)
    verb(recipe)
    plain = capsys.readouterr().out
    verb(recipe, "output_dir=saves/x", "model_name_or_path=elsewhere", "max_steps=3")
    assert capsys.readouterr().out == plain


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("quantity", "quantity, beta 0.5, at least 7 records"),
        ("iid", "iid, at least 7 records"),
        ("natural", "natural"),
        ("released", "released, beta 0.5"),
    ],
)
def test_the_partition_says_what_it_goes_by(method, said):
    assert str(PartitionOptions(3, method=method, beta=0.5, min_samples=7)) == said


def test_table_file_and_picture_hold_the_same_numbers(text_keys, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", text_keys)
    verb(recipe, "fcit_beta=0.3", "seed=5", "--csv", tmp_path / "new" / "p.csv", "--plot", tmp_path / "p.png")
    table = whole({**text_keys, "fcit_beta": 0.3, "seed": 5})
    assert table != whole(text_keys)
    with (tmp_path / "new" / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [
        {"client": str(client), "task": row["task"], "dataset": row["dataset"], "records": str(count)}
        for row in table
        for client, count in enumerate(row["records"])
    ]
    assert rows == expected
    assert imread(tmp_path / "p.png").std() > 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in table:
        low, middle, high = sorted(row["records"])
        assert [row["task"], row["dataset"], "24", *map(str, (low, middle, high)), "0"] in shown
    for client in range(3):
        assert [str(client), *(str(row["records"][client]) for row in table)] in shown


def test_very_many_clients_are_summed_up_only(capsys):
    keys = ["fcit_num_clients=101", "fcit_min_client_samples=1", "fcit_partition=mixture"]
    verb("fcit_setting=cap_het", *keys)
    shown = capsys.readouterr().out
    assert "--csv FILE" in shown and "Records of each client" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fcit_bta=0.5"], ["`fcit_bta`", "`fcit_beta`"]),
        (["sed=3"], ["`sed`", "`seed`"]),
        (["a.yaml", "b.yaml"], ["a.yaml and b.yaml", "one recipe"]),
        (["nowhere.yaml"], ["nowhere.yaml cannot be read", "No such file"]),
        (["fcit_stages=[[a"], ["command line after fcit-cli data partition is not valid YAML"]),
        (["fcit_setting=custom", "fcit_stages=[[nowhere]]"], ["`nowhere`", "dataset_info.json"]),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(arguments, words):
    with pytest.raises(FcitError) as caught:
        verb(*arguments)
    assert [word for word in words if word not in str(caught.value)] == []


def test_no_model_code_is_loaded_for_it(text_keys, tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", text_keys | {"model_name_or_path": "/no/such/model"})
    program = f"""
import sys
sys.argv = ["fcit-cli", "data", "partition", {str(recipe)!r}]
from fcit_plugin.cli import main
try:
    main()
finally:
    print({{name for name in ("llamafactory", "transformers", "peft") if name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("setting", ["task_het", "cap_hom"])
def test_released_partition_files_are_read_as_they_are(tmp_path, setting):
    """The partition that one run draws, written as the released files are, is what another one reads."""
    drawn = {"fcit_setting": setting, "fcit_num_clients": 6, "fcit_beta": 0.5, "fcit_min_client_samples": 10}
    partition = partition_of(drawn)
    (tmp_path / "instructions").symlink_to(mini_root() / "instructions")
    kind = "Task-related/seq" if setting == "task_het" else "Capability-related/cap"
    for task in range(len(SETTINGS[setting].tasks)):
        pairs = zip(partition.records(task).column("image"), partition.records(task).column("conversations"), strict=True)
        records = [{"image": image, "conversations": turns} for image, turns in pairs]
        for client, part in enumerate(partition.parts(task)):
            path = tmp_path / "partitioned_data" / kind / "0.5" / f"Task{task + 1}" / f"client_{client}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([records[index] for index in part]))
    released = {**drawn, "fcit_data_dir": str(tmp_path), "fcit_partition": "released"}
    assert whole(released) == whole(drawn)


#: What means something to rich, to a terminal or to CSV, and what is wide or no letter.
NAMES = (
    "shop[/old]",
    "[red]",
    "[/]",
    "a[b",
    "b]",
    ":car:",
    "x\\",
    "\\[bold]",
    "[link=http://x]y[/link]",
    "a\x1b[31mb",
    "店[1]",
    "100%",
    "$a$",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_datasets_and_clients_stand_there_letter_for_letter(name, tmp_path, capsys):
    dataset = name if name.isprintable() else "a"  # that of a dataset has no others
    records = [{"instruction": "a", "output": "b", "site": site} for site in (name, "other") for _ in range(3)]
    (tmp_path / "records.json").write_text(json.dumps(records))
    entry = {"file_name": "records.json", "columns": {"prompt": "instruction", "response": "output"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({dataset: entry}))
    keys = {"stage": "fcit", "dataset_dir": str(tmp_path), "fcit_setting": "custom", "fcit_stages": [[dataset]]}
    keys |= {"fcit_partition": "natural", "fcit_partition_column": "site", "fcit_num_clients": 2, "fcit_clients_per_round": 1}
    verb(write_recipe(tmp_path / "r.yaml", keys), "--plot", tmp_path / "p.png")
    summary, listed = capsys.readouterr().out.split("Records of each client\n")
    assert [line.split()[:2] for line in summary.splitlines() if line.strip().endswith(" 0")] == [[dataset, dataset]], summary
    *_, header, _, first, second = [line.split() for line in listed.splitlines() if line.strip() and "Written" not in line]
    assert sorted([first, second]) == sorted([[printable(name), "3"], ["other", "3"]])
    assert header == ["client", dataset] and "\x1b" not in summary + listed


def test_keys_by_their_old_names_count_as_they_do_in_a_run(text_keys, monkeypatch):
    monkeypatch.setattr(aliases, "KEYS", {"fcit_clients": "fcit_num_clients", "fcit_skew": "fcit_beta", **aliases.KEYS})
    new = {**text_keys, "fcit_num_clients": 3, "fcit_clients_per_round": 1, "fcit_beta": 0.3, "fcit_bound": "local"}
    old = {old: new.pop(name) for old, name in aliases.KEYS.items()}
    assert whole({**new, **old}) == whole({**new, **{aliases.KEYS[name]: value for name, value in old.items()}})
    for name, value in old.items():
        with pytest.raises(FcitError, match=f"`{name}` is the old name of `{aliases.KEYS[name]}`, which is there, too"):
            whole({**new, **old, aliases.KEYS[name]: value})


def test_keys_by_their_old_names_may_stand_on_the_command_line(text_keys, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(aliases, "KEYS", {"fcit_clients": "fcit_num_clients", **aliases.KEYS})
    recipe = write_recipe(tmp_path / "r.yaml", {key: value for key, value in text_keys.items() if key != "fcit_num_clients"})
    verb(recipe, "fcit_clients=3")
    told = capsys.readouterr().out
    verb(recipe, "fcit_num_clients=3")
    assert told == capsys.readouterr().out


@pytest.mark.parametrize("name", ["beta=0.5/fcit.yaml", "lr=1e-4.yml", "fcit_beta=0.5.yaml"])
def test_a_recipe_whose_name_looks_like_a_key_is_the_recipe(name, text_keys, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    verb(write_recipe(tmp_path / "plain.yaml", text_keys), "seed=5")
    plain = capsys.readouterr().out
    write_recipe(tmp_path / name, text_keys)
    verb(name, "seed=5")
    assert capsys.readouterr().out == plain
