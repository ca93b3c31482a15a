"""A recipe in LLaMA Board's tab FCIT: what is loaded is what Preview shows, whatever stood in the form before."""

import dataclasses
import enum
import json
import shutil
from html import unescape
from types import SimpleNamespace

import pytest
import yaml

gr = pytest.importorskip("gradio", exc_type=ImportError)  # some of its releases do not go with huggingface_hub 1

from fcit_plugin.arguments import FcitArguments  # noqa: E402
from fcit_plugin.board.form import OTHERS, widgets  # noqa: E402
from fcit_plugin.board.load import choices  # noqa: E402
from fcit_plugin.board.refusals import REFUSALS  # noqa: E402
from fcit_plugin.board.texts import LANGUAGES  # noqa: E402
from fcit_plugin.plugins import registry  # noqa: E402
from fcit_plugin.recipe.typed_recipe import HIDDEN, as_typed  # noqa: E402
from fcit_plugin.shipped import shipped_recipes  # noqa: E402

KEYS = {name: yaml.safe_load(path.read_text()) for name, path in shipped_recipes().items()}
OURS = [name for name, keys in KEYS.items() if keys.get("stage") == "fcit"]
OTHER = [name for name in KEYS if name not in OURS]


@pytest.fixture
def form(board, monkeypatch):
    """The board's form: fill a recipe in, read the fields, preview the recipe that they make."""
    _, engine, actions = board
    monkeypatch.setattr("fcit_plugin.board.actions.check", lambda keys: None)  # whether it can run here is another question
    element = engine.manager.get_elem_by_id
    values = {one: _other(one) for one in actions.inputs_of_load}
    values |= {element("top.lang"): "en", element("top.model_name"): None, element("top.checkpoint_path"): ["old"]}

    def load(name, lang="en"):
        given = {**values, element("top.lang"): lang, element("fcit.fcit_recipe"): name}
        found = actions.load(given)
        assert {*found} <= {*actions.loaded}
        for one, value in found.items():
            if isinstance(value, gr.blocks.Block) and "value" not in value.constructor_args:
                continue
            values[one] = value.constructor_args["value"] if isinstance(value, gr.blocks.Block) else value
            one.postprocess(values[one])  # as gradio does, which does not take every value for every element
        return found[element("fcit.fcit_notes")]

    def shown():
        held = {engine.manager.get_id_by_elem(one): values[one] for one in actions.inputs}
        return held | {"fcit.fcit_extra_args": json.loads(held["fcit.fcit_extra_args"] or "{}")}

    def preview():
        notes, command = actions.preview(values)
        assert command.visible, notes
        return yaml.safe_load(command.value.partition("<<'END_OF_RECIPE'\n")[2].partition("\nEND_OF_RECIPE")[0])

    def put(name, value):
        values[element(name)] = value

    return SimpleNamespace(load=load, shown=shown, preview=preview, put=put, values=values)


def _other(element):
    """Something else than what stands in an element at first."""
    if isinstance(element, gr.Slider):
        return element.maximum
    if isinstance(element, gr.Checkbox):
        return not element.value
    if isinstance(element, gr.Number):
        return 77
    if isinstance(element, gr.Dropdown):
        return None if not element.choices else [] if element.multiselect else element.choices[-1][1]
    return "77"


def known():
    from llamafactory.hparams.parser import _TRAIN_ARGS

    found = {}
    for part in (*_TRAIN_ARGS, FcitArguments):
        for item in dataclasses.fields(part):
            value = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
            found[item.name] = value.value if isinstance(value, enum.Enum) else value
    for kind, choice in {"methods": "fcit_method", "server_rules": "fcit_server_rule"}.items():
        for name, part in registry(kind).items():
            found |= {(choice, name, item.name): item.default for item in dataclasses.fields(part.options or FcitArguments)}
    return found


def said(keys):
    """What a recipe says beyond what holds without it."""
    defaults = known()
    found = {}
    for key, value in keys.items():
        default = defaults.get(key)
        for choice in ("fcit_method", "fcit_server_rule"):
            default = defaults.get((choice, keys.get(choice, defaults[choice]), key), default)
        if value != default:
            found[key] = value
    if (stages := found.get("fcit_stages")) is not None:
        found["fcit_stages"] = [[stage] if isinstance(stage, str) else stage for stage in stages]
    return found


#: One of each kind; the others are alike.
_FEW = ("fcit_mini_disco", "fcit_text_tiny", "fcit_llava15_7b_as_released", "fcit_dpo_tiny")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.thorough] * (name not in _FEW)) for name in OURS])
def test_every_shipped_recipe_is_loaded_as_it_is_and_what_preview_shows_is_loaded_to_the_same_form(form, tmp_path, name):
    notes = form.load(name)
    first, recipe = form.shown(), form.preview()
    assert said(recipe) == said(KEYS[name])
    assert ("gradient_accumulation_steps" in recipe) == ("gradient_accumulation_steps" in KEYS[name])
    for key, value in first["fcit.fcit_extra_args"].items():
        assert f"`{key}`" in notes and KEYS[name].get(key) == value
    form.load("fcit_dpo_tiny" if "dpo" not in name else "fcit_mini_het_disco")
    assert form.shown() != first
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    form.load(str(tmp_path / "mine.yaml"))
    assert form.shown() == first and form.preview() == recipe


def test_what_has_a_field_stands_there(form):
    """Of a recipe that sets each kind of field, in this tab and in LLaMA Board's own."""
    form.load("fcit_mini_het_disco")
    shown = form.shown()
    expected = {
        "top.model_path": "fcit-mini",
        "top.template": "llava",
        "top.checkpoint_path": [],
        "train.training_stage": "Supervised Fine-Tuning",
        "train.learning_rate": "0.005",
        "train.num_train_epochs": "4.0",
        "train.compute_type": "fp32",
        "train.cutoff_len": 128,
        "train.batch_size": 8,
        "train.lr_scheduler_type": "cosine",
        "train.lora_dropout": 0.05,
        "train.lora_target": KEYS["fcit_mini_het_disco"]["lora_target"],
        "fcit.fcit_setting": "task_het",
        "fcit.fcit_num_clients": 10,
        "fcit.fcit_partition": "quantity",
        "fcit.fcit_beta": 1.0,
        "fcit.max_new_tokens": 32,
        "fcit.output_dir": "saves/fcit_mini/het_disco",
    }
    assert {key: shown[key] for key in expected} == expected
    assert not {key.rpartition(".")[2] for key in expected} & {*shown["fcit.fcit_extra_args"]}
    form.load("fcit_qwen3_text")
    assert (
        form.shown()["fcit.fcit_stages"] == "medical legal support_en,support_fr"
        and form.shown()["train.compute_type"] == "bf16"
    )


@pytest.mark.parametrize("method", registry("methods"))
def test_the_keys_of_each_method_come_through(form, tmp_path, method):
    own = {key: widget for key, widget in widgets().items() if method in widget.owners and widget.choice == "fcit_method"}
    other = {key: 3 if widget.whole else 0.375 if widget.kind == "number" else widget.value for key, widget in own.items()}
    recipe = (
        KEYS["fcit_text_tiny"] | {"fcit_method": method} | {key: value for key, value in other.items() if value is not None}
    )
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    form.load(str(tmp_path / "mine.yaml"))
    shown = form.shown()
    assert {key: shown[f"fcit.{key}"] for key in own} == other and shown["fcit.fcit_method"] == method
    assert said(form.preview()) == said(recipe)


STRANGE = {
    "fcit_num_clients": "many",
    "fcit_beta": [1],
    "fcit_method": "fedavg",
    "fcit_engine": 3,
    "lora_rank": 5000,
    "learning_rate": "fast",
    "report_to": ["none"],
    "optim": "sgd",
    "do_train": False,
    "adapter_name_or_path": "saves/old",
    "val_size": "much",
    "max_new_tokens": "many",
    "dataset_dir": {"a": "b"},
    "output_dir": "plain",
    "default_system": "",
    "fcit_no_such_key": "汉字 \" '",
    "packing": False,
    "fcit_stages": [["a b"], ["c,d"]],
    "seed": None,
}


@pytest.mark.parametrize("key", STRANGE)
def test_what_no_field_can_hold_is_kept_and_said(form, tmp_path, key):
    """Also what is wrong with it, which Preview then says."""
    recipe = KEYS["fcit_text_tiny"] | {key: STRANGE[key]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
    notes = form.load(str(tmp_path / "mine.yaml"))
    made = form.preview()
    assert said(made) == said({name: value for name, value in recipe.items() if value is not None})
    assert key in notes or key in ("output_dir", "packing")


def test_a_runs_own_recipe_comes_with_its_command_line_and_without_secrets(form, tmp_path, monkeypatch):
    shutil.copy(shipped_recipes()["fcit_text_tiny"], tmp_path / "typed.yaml")
    with (tmp_path / "typed.yaml").open("a") as file:
        file.write("hub_token: hf_abc\n")
    text = as_typed([str(tmp_path / "typed.yaml"), "learning_rate=0.25", "fcit_num_rounds=7", "seed=7"])
    run = tmp_path / "saves/Custom/lora/run"
    run.mkdir(parents=True)
    (run / "fcit_recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert choices() == [*OURS, "saves/Custom/lora/run/fcit_recipe.yaml"]
    for name in (str(run), "saves/Custom/lora/run/fcit_recipe.yaml"):
        notes = form.load(name)
        recipe, shown = form.preview(), form.shown()
        assert said(recipe) == said(KEYS["fcit_text_tiny"] | {"learning_rate": 0.25, "fcit_num_rounds": 7, "seed": 7})
        assert shown["train.learning_rate"] == "0.25" and shown["fcit.fcit_num_rounds"] == 7
        assert "`hub_token`" in notes and "`learning_rate=0.25`" in notes
        assert HIDDEN not in json.dumps(shown)


def test_it_is_said_where_the_output_folder_is_there(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "will resume" not in form.load("fcit_text_tiny")
    (tmp_path / KEYS["fcit_text_tiny"]["output_dir"]).mkdir(parents=True)
    assert "will resume" in form.load("fcit_text_tiny")


BAD = {
    "nothing named": None,
    "blanks": "  ",
    "misspelt": "fcit_mini_disko",
    "not there": "nowhere/mine.yaml",
    "a folder of something else": ".",
    "empty": "",
    "a list": "- a\n",
    "a word": "word\n",
    "keys that are no words": "1: 2\nstage: fcit\n",
    "not YAML": "stage: [fcit\n",
    "not UTF-8": b"stage: \xff\n",
    "deep": "stage: fcit\na: " + "[" * 3000 + "]" * 3000,
    "JSON": '{"stage": "fcit"',
    "another stage": "stage: sft\ndo_train: true\n",
    "one of a site": "stage: fcit_site\n",
    "a misspelt stage": "stage: fct\n",
    "no stages": "stage: fcit\nmodel_name_or_path: m\nfcit_setting: custom\n",
    "stages that are none": "stage: fcit\nfcit_setting: custom\nfcit_stages: 7\n",
    "another tuning": "stage: fcit\nfinetuning_type: full\nfcit_setting: task_hom\nfcit_local_stage: ppo\n",
}


@pytest.mark.parametrize("what", [*BAD, *OTHER])
def test_a_bad_file_ends_in_one_sentence_and_the_form_stays(form, tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    before, name = {**form.values}, what
    if what in BAD:
        name = BAD[what]
        if what not in [*BAD][:5]:
            name = str(tmp_path / "bad.yaml")
            content = BAD[what]
            (tmp_path / "bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    notes = form.load(name)
    assert notes.startswith("**") and notes.endswith(".**") and notes.count("\n") == 0, notes
    assert {one: form.values[one] for one in before} == before


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_is_said_in_the_boards_language(form, lang):
    assert len({form.load("fcit_mini_disco", one) for one in ("en", lang)}) == (1 if lang == "en" else 2)
    assert REFUSALS["no_recipe_named"][LANGUAGES.index(lang)] in unescape(form.load("", lang))


def test_no_field_of_the_tab_is_forgotten(form):
    """A new field has to be filled in, too: what stands in it before is gone after."""
    fields = [f"fcit.{name}" for name in (*widgets(), *OTHERS)]
    before = dict.fromkeys(fields, 77)
    for name, value in before.items():
        form.put(name, value if name != "fcit.fcit_extra_args" else '{"a": 77}')
    form.load("fcit_mini_disco")
    shown = form.shown()
    assert [name for name in fields if shown[name] == before[name] or "a" in str(shown[name]) == "77"] == []
