"""A folder to give away: it serves as the run's own does, and holds nothing of clients, records and machines."""

import argparse
import copy
import json
import shutil
import socket
from dataclasses import fields
from pathlib import Path

import pytest
import tiny
from llamafactory.chat import ChatModel
from llamafactory.train.tuner import export_model
from reports import two_stages
from runs import infer_args, run_recipe, weight_bytes
from safetensors.torch import load_file

from fcit_plugin.commands.report import REPORT as REPORT_VERB
from fcit_plugin.engine.continuation import Earlier
from fcit_plugin.errors import FcitError
from fcit_plugin.evaluation.report import Report
from fcit_plugin.knowledge.own_cosines import shown
from fcit_plugin.serving.export_adapters import export_adapters
from fcit_plugin.serving.join import join_folders
from fcit_plugin.serving.publish import REPORT, listed, public_encoder, public_name, publish
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.inspection import inspect

SEED = 816_151_623
GREEDY = {"infer_backend": "huggingface", "max_new_tokens": 4, "do_sample": False}


@pytest.fixture(scope="module")
def published(text_run, tmp_path_factory):
    """What is given away of the session's run."""
    out = tmp_path_factory.mktemp("publish") / "published"
    publish(text_run, out)
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_given_away_is_known_file_by_file(published, text_run):
    of_subspaces = [f"subspaces/{k}/adapter_{name}" for k in range(2) for name in ("config.json", "model.safetensors")]
    assert files_of(published).keys() == {
        "README.md", "accuracy_matrix.csv", "accuracy_matrix.png", "checksums.json", "fcit_manifest.json", "fcit_report.json",
        "identity_tokens.safetensors", *of_subspaces,
    }  # fmt: skip
    for name, data in weight_bytes(published).items():
        assert name == "identity_tokens.safetensors" or data == (text_run / name).read_bytes()
    ours, theirs = (StateFolder(folder).load().tokens for folder in (text_run, published))
    assert ours.tokens.tobytes() == theirs.tokens.tobytes() and ours.counts.min() > 1 and set(theirs.counts) == {1}
    ours, theirs = (StateFolder(folder).load().own_cosines for folder in (text_run, published))
    assert ours.keys() == theirs.keys() == {0, 1} and all(sum(counts) == 100 for counts in theirs.values())
    assert [shown(counts) for counts in ours.values()] == [shown(counts) for counts in theirs.values()]


def test_no_fact_of_clients_records_and_machines_is_in_any_file(text_model, text_data, tmp_path):
    """Byte by byte: labels, instructions, folders, the host and the seed are planted; who took part is a matter of keys."""
    data = shutil.copytree(text_data, tmp_path / "ZZQ-data")
    for path in data.glob("*_train.json"):
        records = json.loads(path.read_text())
        for number, record in enumerate(records):
            record["conversations"][0]["value"] += " ZZQ-instruction"
            record["conversations"][1]["value"] += f" ZZQ-label-{number % 3}"
        path.rename(path.with_name(f"ZZQ-{path.name}")).write_text(json.dumps(records))
    info = (data / "dataset_info.json").read_text()
    for name in tiny.TASKS:
        info = info.replace(f'"{name}_train.json"', f'"ZZQ-{name}_train.json"')
    (data / "dataset_info.json").write_text(info)
    model = shutil.copytree(text_model, tmp_path / "ZZQ-models" / "llama")
    keys = tiny.recipe(
        model, data, tmp_path / "ZZQ-run", seed=SEED, fcit_num_rounds=1, fcit_keep_client_updates=True, run_name="ZZQ-name",
        hub_token="ZZQ-secret", report_to="tensorboard", fcit_server_rule="fedadam", fcit_num_clients=3,
    )  # fmt: skip
    folder = run_recipe(keys)
    home = b"".join(files_of(folder).values())
    secret = [b"ZZQ", str(SEED).encode(), str(tmp_path).encode(), b'"client"', b'"assignments"', b'"partition"', b'"labels"']
    assert [word for word in secret if word not in home] == [], "else the test finds nothing"
    publish(folder, tmp_path / "out")
    secret += [b"ZZQ".lower(), str(Path.home()).encode() + b"/", b'"seed"', b"seed ", b"server_rules.safetensors", b'"dropped"']
    secret += [socket.gethostname().encode()] if len(socket.gethostname()) > 3 else []
    for name, data in files_of(tmp_path / "out").items():
        assert [word for word in secret if word in data] == [], name
    manifest = json.loads((tmp_path / "out" / "fcit_manifest.json").read_text())
    assert manifest["base_model"] == "llama"
    assert [(entry["count"], entry["rounds"], set(entry["tasks"].values())) for entry in manifest["subspaces"]] == [
        (1, 0, {1})
    ] * 2
    report = json.loads((tmp_path / "out" / "fcit_report.json").read_text())
    assert report["arguments"]["model_name_or_path"] == "llama" and report["arguments"]["fcit_num_clients"] == 3


def whole_report() -> Report:
    """A report in which every key has something, and every object a key that nobody has listed."""
    more = {"zzq": "ZZQ"}
    spent = {"epsilon": 1.0, "epsilon_sampled": 0.5, **more}
    privacy = {"delta": 1e-5, "noise": "secret", "total": spent, "stages": [spent], "of_client": {"4": "ZZQ"}, **more}
    arguments = {"learning_rate": 0.1, "fcit_num_clients": 3, "seed": 9, "dataset_dir": "/ZZQ", "lora_target": {"a": "ZZQ"}}
    values = two_stages(arguments=arguments, privacy=privacy).to_dict()
    absence = {"stage": 0, "round": 0, "client": 4, "reason": "ZZQ"}
    values |= {
        "reference": "oracle",
        "earlier": [{"stage": 0, "arguments": dict(arguments), **more}],
        "dropped": [absence],
        "idle": [absence],
        "product_errors": [{"stage": 0, "round": 0, "subspace": 0, "error": 0.5}],
        "partition": [{"task": "a", "dataset": "ZZQ", "records": [5, 7]}],
        "seconds": {**values["seconds"], **more},
        "left_out": {"ZZQ": 3},
        "spread": {"last": 1.0, "zzq": 1.0},
        "clients": {"ZZQ": {"last": 1.0}},
        "encoder_choice": "ZZQ",
        "sites": ["ZZQ"],
        "client_names": ["ZZQ"],
        "site_scores": [
            {"site": "ZZQ", "stage": 1, "dataset": "ZZQ", "metric": "ZZQ", "score": 1.0, "records": 2},
        ],
        "likelihood": [[0.5, 0.25]],
        "subspace_cosines": [[1.0, 0.5], [0.5, 1.0]],
        "likelihood_untuned": {"fcit_a": 1.5},
        "engine": {"name": "ZZQ", "processes": 2, "threads": 1, **more},
    }
    return Report.from_dict(values)


def test_of_every_key_of_the_report_it_is_known_whether_it_is_given_away():
    values = whole_report().to_dict()
    assert [item.name for item in fields(Report) if not values.get(item.name)] == [], "the test walks through all keys"
    given = listed(copy.deepcopy(values), REPORT)
    assert "ZZQ" in json.dumps(values) and "zzq" not in json.dumps(given).lower()
    assert values.keys() - given.keys() == {
        "seed", "assignments", "dropped", "idle", "product_errors", "partition", "left_out", "clients",
        "encoder_choice", "engine", "sites", "client_names", "site_scores", "subspace_cosines",
    }  # fmt: skip
    assert given["arguments"] == given["earlier"][0]["arguments"] == {"learning_rate": 0.1, "fcit_num_clients": 3}
    assert given["privacy"] == {"noise": "secret", "delta": 1e-5, "total": {"epsilon": 1.0, "epsilon_sampled": 0.5}}
    assert Report.from_dict(given).seed is None
    assert listed({**values, "new": {"x": 1}}, REPORT) == given


def test_it_is_served_as_the_run_is(published, text_run, text_keys, tmp_path):
    asked = [f"{instruction} {color}" for instruction, _ in tiny.TASKS.values() for color in ("red", "blue")]

    def answers(folder):
        chat = ChatModel(infer_args(text_keys, folder, **GREEDY))
        return [chat.chat([{"role": "user", "content": text}])[0].response_text for text in asked]

    assert answers(published) == answers(text_run)
    exported = []
    for number, folder in enumerate((published, text_run)):
        args = infer_args(text_keys, folder, export_dir=str(tmp_path / f"merged{number}"), fcit_export_weights="color")
        export_model(args)
        exported.append(load_file(tmp_path / f"merged{number}" / "model.safetensors"))
    assert all(exported[0][key].equal(value) for key, value in exported[1].items())
    with pytest.raises(FcitError, match=r"names the base model `.*` and is not from a run of your own.*--model"):
        export_adapters(published, tmp_path / "adapters")
    export_adapters(published, tmp_path / "adapters", model=text_keys["model_name_or_path"])
    assert (tmp_path / "adapters" / "router.json").is_file()


def test_it_is_held_against_its_own_sums(published, tmp_path):
    assert "sums right (10 files)" in "\n".join(inspect(published).lines) and not inspect(published).corrupt
    broken = shutil.copytree(published, tmp_path / "broken")
    for path in [path for path in broken.rglob("*") if path.is_file()]:
        kept = path.read_bytes()
        path.write_bytes(kept[:-2] + bytes([kept[-2] ^ 1]) + kept[-1:])
        try:
            assert any(path.name in line for line in inspect(broken).corrupt), path
        except FcitError as error:  # a manifest that cannot be read
            assert path.name in str(error)  # noqa: PT017
        path.write_bytes(kept)


def test_what_it_cannot_do_is_said(published, text_run, tmp_path):
    left_out = "was made by `fcit-cli publish`, which leaves out counts, progress and seed; name the output folder of the run"
    for refused in (
        lambda: Earlier.read(published),
        lambda: StateFolder(published).progress(),
        lambda: publish(published, tmp_path / "again"),
    ):
        with pytest.raises(FcitError, match=left_out):
            refused()
    for pair in ((published, text_run), (text_run, published)):
        with pytest.raises(FcitError, match="lacks the counts that a mean with the other run is weighed by"):
            join_folders(*pair, tmp_path / "joined")
    with pytest.raises(FcitError, match="is not empty"):
        publish(text_run, published)


def test_those_who_got_folders_join_them_and_give_that_away(published, tmp_path):
    join_folders(published, shutil.copytree(published, tmp_path / "ZZQ"), tmp_path / "joined")
    publish(tmp_path / "joined", tmp_path / "out")
    found = files_of(tmp_path / "out")
    assert not any(b"ZZQ" in data for data in found.values()) and "fcit_report.json" not in found
    assert not inspect(tmp_path / "out").corrupt


def test_reports_of_both_kinds_stand_side_by_side(published, text_run, tmp_path, capsys):
    REPORT_VERB.run(argparse.Namespace(runs=[str(published), str(text_run)], out=tmp_path, html=False))
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("disco")]
    name = StateFolder(text_run).manifest["base_model"]
    told = [["disco,", f"model_name_or_path={model}"] for model in (name, Path(name).name)]
    assert lines == [*told, *told], "they are two, for a published report does not say which run it is of; none lacks a key"
    assert (tmp_path / "table.csv").read_text().count(",42,") == 1


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("org/model", "org/model"),
        ("/home/me/llava", "llava"),
        ("./x/y/", "y"),
        ("fcit-mini", "fcit-mini"),
        (r"C:\me\llama", "llama"),
    ],
)
def test_a_model_folder_goes_by_its_last_name(name, public):
    assert public_name(name) == public


def test_an_encoder_in_a_folder_has_to_be_named():
    assert [public_encoder(name, "x") for name in ("embedding", "org/encoder")] == ["embedding", "org/encoder"]
    with pytest.raises(FcitError, match=r"text encoder in /home/me/minilm, a folder .*; give --encoder NAME with the name"):
        public_encoder("/home/me/minilm", "give --encoder NAME")
