"""Runs whose identity tokens are of images: two tasks with one instruction, which only their pictures tell apart."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from llamafactory.chat import ChatModel
from llamafactory.hparams import get_train_args
from PIL import Image
from runs import infer_args, report_of, run_recipe, weight_bytes, weighted_by_peft
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from fcit_plugin.data.media import MEDIA
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.federation.messages import ClientConfig
from fcit_plugin.federation.noise import SimulatedNoise
from fcit_plugin.knowledge.activation import activation_weights
from fcit_plugin.knowledge.reference_images import reference_images
from fcit_plugin.knowledge.vectors import GRID_BITS
from fcit_plugin.recipe.combinations import check_combination
from fcit_plugin.serving.export_adapters import export_adapters
from fcit_plugin.serving.join import join_folders
from fcit_plugin.state.folder import StateFolder

SAME = tiny.TASKS["color"][0]
GREEDY = {"infer_backend": "huggingface", "max_new_tokens": 4, "do_sample": False}
#: One client has a whole task, one round: a subspace's token is the mean over the task's training images.
ONE_CLIENT = {"fcit_num_clients": 1, "fcit_clients_per_round": 1, "fcit_num_rounds": 1}
SHORT = {"fcit_num_rounds": 1, "fcit_eval_every": "never"}


def picture(task, number):
    """The task ``color`` has dark stripes from left to right, ``letter`` a light plane; LLaMA-Factory resizes smaller ones."""
    pixels = np.full((32, 32, 3), 230 - number, np.uint8)
    if task == "color":
        pixels[:] = (200 - 20 * number, 10, 30 + 10 * number)
        pixels[::8] = pixels[1::8] = 0
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def data(image_data, tmp_path_factory):
    """The tiny tasks with the instruction of ``color`` everywhere, each with four pictures of its own."""
    folder = shutil.copytree(image_data, tmp_path_factory.mktemp("alike") / "data")
    for task in tiny.TASKS:
        for number in range(4):
            picture(task, number).save(folder / "datasets" / f"{task}_{number}.png")
        for split in ("train", "test"):
            records = json.loads((folder / f"{task}_{split}.json").read_text())
            for i, record in enumerate(records):
                record["image"] = f"{task}_{i % 4}.png"
                if split == "test":
                    record["text"] = SAME
                else:
                    record["conversations"][0]["value"] = f"<image>\n{SAME}"
            (folder / f"{task}_{split}.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def recipe(llava_model, data, tmp_path_factory):
    """Makes recipes on that data; the projector is trained."""
    folder = tmp_path_factory.mktemp("runs")
    return lambda name, source, **changes: tiny.recipe(
        llava_model,
        data,
        folder / name,
        **{"fcit_identity_source": source, "freeze_multi_modal_projector": False, **ONE_CLIENT, **changes},
    )


@pytest.fixture(scope="module")
def keys(recipe):
    return {**recipe("image", "image"), "fcit_identity_unit": False}


@pytest.fixture(scope="module")
def image_run(keys):
    return run_recipe(keys)


@pytest.fixture(scope="module")
def chat(keys, image_run):
    return ChatModel(infer_args(keys, image_run, **GREEDY))


class Reference:
    """Tokens, weights and answers by transformers and PEFT alone."""

    def __init__(self, model_folder, run):
        self.folder, self.run = model_folder, run
        self.processor = AutoProcessor.from_pretrained(model_folder).image_processor
        self.untuned = AutoModelForImageTextToText.from_pretrained(model_folder).eval()
        self.center = np.mean([self.feature(image) for image in reference_images()], axis=0)

    def pixels(self, image):
        return self.processor(image, return_tensors="pt")["pixel_values"]

    def feature(self, image):
        with torch.no_grad():
            patches = self.untuned.model.vision_tower(self.pixels(image)).last_hidden_state[0, 1:]
        return patches.numpy().mean(axis=0)

    def token(self, image):
        return self.feature(image) - self.center

    def weights(self, token):
        tokens = StateFolder(self.run).load().tokens
        used = tokens.counts > 0
        return activation_weights(token[None], tokens.tokens, used, mode="softmax", temperature=0.05)[0].tolist()

    def answer(self, ids, image, weights):
        base = AutoModelForImageTextToText.from_pretrained(self.folder)
        base.load_state_dict(load_file(self.run / "shared.safetensors"), strict=False)
        model, options = weighted_by_peft(base, self.run, weights), {"do_sample": False, "eos_token_id": 2}
        with torch.inference_mode():
            return model.generate(input_ids=ids, pixel_values=self.pixels(image), max_new_tokens=4, pad_token_id=0, **options)[
                0, ids.shape[1] :
            ]


@pytest.fixture(scope="module")
def reference(llava_model, image_run):
    return Reference(llava_model, image_run)


def prompt(engine, images=1):
    text = f"{'<image>' * 4 * images}\n{SAME}"
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": ""}]
    return engine.template.encode_oneturn(engine.tokenizer, turns)[0]


def ask(chat, *images):
    return chat.chat([{"role": "user", "content": SAME}], images=[*images] or None)[0].response_text.strip()


@pytest.mark.parametrize(("source", "threshold", "expected"), [("text", 0.9, 1), ("both", 0.95, 2)])
def test_equal_instructions_share_a_subspace_unless_images_count(recipe, source, threshold, expected):
    output = run_recipe(recipe(f"alike_{source}", source, fcit_similarity_threshold=threshold, **SHORT))
    assert {row["subspace"] for row in report_of(output)["assignments"]} == set(range(expected))
    assert json.loads((output / "fcit_manifest.json").read_text())["identity_source"] == source


def test_each_task_gets_a_subspace_whose_token_is_the_mean_over_its_images(image_run, reference):
    assert [(row["task"], row["subspace"]) for row in report_of(image_run)["assignments"]] == [("color", 0), ("letter", 1)]
    tokens = StateFolder(image_run).load().tokens.tokens
    for token, task in zip(tokens, ("color", "letter"), strict=True):
        expected = np.mean([reference.token(picture(task, i)) for i in range(4)], axis=0)  # 24 records, 4 pictures
        np.testing.assert_allclose(token, expected, atol=2.0**-GRID_BITS * 8)  # its largest number is between 4 and 8


@pytest.mark.parametrize("task", ["color", "letter"])
def test_chat_answers_through_the_subspaces_that_the_image_activates(chat, reference, task):
    image = picture(task, 1)
    weights = reference.weights(reference.token(image))
    assert weights[("color", "letter").index(task)] > 0.9
    expected = reference.answer(torch.tensor([prompt(chat.engine)]), image, weights)
    assert ask(chat, image) == chat.engine.tokenizer.decode(expected, skip_special_tokens=True).strip()


def spied(chat, monkeypatch):
    seen = []
    routing = chat.engine.model.fcit_routing
    put = routing.activation.set
    monkeypatch.setattr(routing.activation, "set", lambda weights, **more: (seen.append(weights), put(weights, **more)))
    return seen


def test_rows_of_a_batch_get_the_weights_of_their_own_images(chat, reference, monkeypatch):
    """One image, none, two: the rows of ``pixel_values`` are found by the prompts' image tokens."""
    seen, engine = spied(chat, monkeypatch), chat.engine
    one, two = picture("color", 0), picture("letter", 2)
    given = [[one], [], [two, one], [two]]
    tokens = [np.mean([reference.token(image) for image in row], axis=0) if row else np.zeros(16) for row in given]
    expected = [reference.weights(token) for token in tokens]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        rows = [prompt(engine, len(given[i])) for i in order]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        pixels = torch.cat([reference.pixels(image) for i in order for image in given[i]])
        with torch.no_grad():
            engine.model(input_ids=ids, attention_mask=mask, pixel_values=pixels)
            engine.model.generate(input_ids=ids, attention_mask=mask, pixel_values=pixels, max_new_tokens=1)
        for weights in seen:
            np.testing.assert_allclose(weights, [expected[i] for i in order], atol=1e-4)
        assert len(seen) == 2
        seen.clear()
    assert expected[1] == [0.5, 0.5]


def test_a_request_without_an_image_is_left_to_the_base_model_where_a_threshold_says_so(keys, image_run, monkeypatch):
    chat = ChatModel(infer_args(keys, image_run, fcit_fallback_threshold=0.5, fcit_trace_activation=True, **GREEDY))
    seen = spied(chat, monkeypatch)
    ask(chat)
    ask(chat, picture("letter", 0))
    assert [weights.sum(dim=1).round().tolist() for weights in seen] == [[0], [1]]


def test_predict_answers_as_chat_does(keys, data, image_run, chat, tmp_path):
    pytest.importorskip("jieba", reason="LLaMA-Factory's metrics need it")
    plain = {key: value for key, value in keys.items() if not key.startswith("fcit_")}
    plain |= {
        **{"stage": "sft", "do_train": False, "do_predict": True, "predict_with_generate": True},
        **{"eval_dataset": "color,letter", "output_dir": str(tmp_path / "out"), "adapter_name_or_path": str(image_run)},
        **{"max_samples": 3, "do_sample": False, "per_device_eval_batch_size": 4},
    }
    run_recipe(plain)
    lines = (tmp_path / "out" / "generated_predictions.jsonl").read_text().splitlines()
    expected = [ask(chat, picture(task, i)) for task in ("color", "letter") for i in range(3)]
    assert [json.loads(line)["predict"].strip() for line in lines] == expected


def test_the_scores_of_a_run_are_those_of_the_answers_in_chat(image_run, data, chat):
    for task, score in zip(("color", "letter"), report_of(image_run)["accuracy"][-1], strict=True):
        rows = json.loads((data / f"{task}_test.json").read_text())
        right = [ask(chat, picture(task, i % 4)) == row["answer"] for i, row in enumerate(rows)]
        assert score == pytest.approx(100 * np.mean(right))


def test_the_same_recipe_gives_the_same_run(keys, image_run, tmp_path):
    again = run_recipe({**keys, "output_dir": str(tmp_path / "again")})
    assert weight_bytes(again) == weight_bytes(image_run)
    assert report_of(again)["accuracy"] == report_of(image_run)["accuracy"]


def test_text_is_the_default(recipe):
    one, other = (run_recipe(recipe(f"default_{source}", source, **SHORT)) for source in ("text", None))
    assert weight_bytes(one) == weight_bytes(other)


def test_a_run_goes_on_with_images(keys, image_run, tmp_path):
    more = {"adapter_name_or_path": str(image_run), "output_dir": str(tmp_path / "on"), "fcit_stages": [["number"]]}
    went_on = run_recipe({**keys, **more})
    whole = run_recipe({**keys, "output_dir": str(tmp_path / "whole"), "fcit_stages": [["color"], ["letter"], ["number"]]})
    found = {name: data for name, data in weight_bytes(went_on).items() if not name.endswith(MEDIA)}  # each reads its own files
    assert found.items() <= weight_bytes(whole).items()


def test_auto_merges_what_the_images_of_a_data_set_activate(keys, image_run, reference, data, tmp_path):
    from llamafactory.train.tuner import export_model

    more = {"dataset_dir": str(data), "media_dir": str(data / "datasets"), "fcit_export_weights": "auto"}
    args = {**infer_args(keys, image_run, export_dir=str(tmp_path / "merged")), **more}
    export_model({**args, "fcit_export_instruction": "letter"})
    token = np.mean([reference.token(picture("letter", i)) for i in range(4)], axis=0)
    base = AutoModelForImageTextToText.from_pretrained(keys["model_name_or_path"])
    base.load_state_dict(load_file(image_run / "shared.safetensors"), strict=False)
    expected = weighted_by_peft(base, image_run, reference.weights(token)).merge_and_unload().state_dict()
    found = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="`fcit_export_instruction: count how many` shows no image"):
        export_model({**args, "fcit_export_instruction": "count how many"})


def test_adapters_are_exported_without_a_router_alone(image_run, tmp_path):
    with pytest.raises(ValueError, match=r"`fcit_identity_source: image`, and router\.json knows .*--no-router"):
        export_adapters(image_run, tmp_path / "out", adapters_only=True)
    export_adapters(image_run, tmp_path / "out", adapters_only=True, with_router=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["subspace_0", "subspace_1"]


@pytest.mark.parametrize(("source", "changes"), [("image", True), ("both", True), ("text", False)])
def test_other_images_under_the_same_questions_have_noise_of_their_own(source, changes, llava_model, data, tmp_path):
    """Equal noise would drop out of the difference of the two tokens, and tell what has changed in the images."""
    folder = shutil.copytree(data, tmp_path / "data")
    keys = tiny.recipe(llava_model, folder, tmp_path / "out", **ONE_CLIENT, fcit_identity_source=source)
    keys |= {"fcit_identity_noise": 0.5, "fcit_eval_every": "never", "fcit_identity_encoder": "auto"}
    keys |= {} if source == "image" else {"fcit_identity_encoder": "embedding"}

    def noise(number):
        session = open_session(*get_train_args({**keys, "output_dir": str(tmp_path / f"out{number}")}))
        told = session.local(noise=SimulatedNoise(7)).token(ClientConfig("run", 0, 0, 0, 0)).mean
        return told - session.local(noise=_None()).token(ClientConfig("run", 0, 0, 0, 0)).mean

    before, again = noise(0), noise(1)
    assert np.array_equal(before, again) and np.abs(before).max() > 0.2
    picture("letter", 3).save(folder / "datasets" / "color_0.png")
    assert (np.abs(noise(2) - before).max() > 0.2) == changes


class _None:
    """No noise: what is left is the direction."""

    exact = True

    def at(self, stream, *where):
        return SimpleNamespace(mean=lambda name, values, start, deviation: np.mean(values, axis=0))


LIKE_LLAVA_RUN = {"fcit_num_clients": 3, "fcit_clients_per_round": 2, "fcit_num_rounds": 2}
REFUSED = {
    "a tower in training": ({"freeze_vision_tower": False}, "`freeze_vision_tower: false` cannot be used"),
    "an encoder of text": ({"fcit_identity_encoder": "minilm"}, "`fcit_identity_encoder: minilm` is about text, .* both"),
    "its pooling": ({"fcit_identity_pooling": "eos"}, "`fcit_identity_pooling: eos` is about text"),
    "no source": ({"fcit_identity_source": "picture"}, "`fcit_identity_source` is 'picture'; .*text, image, both"),
    "a run by text": ({"adapter_name_or_path": "{llava_run}"}, "`fcit_identity_source` was 'text' and is 'image'"),
    "a state by text": (
        {"stage": "fcit_client", "fcit_client": 0, "fcit_state_dir": "{llava_run}", **LIKE_LLAVA_RUN},
        "`fcit_identity_source` is 'image', but the state .* was made with 'text'",
    ),
    "a run by text evaluated": (
        {"do_train": False, "adapter_name_or_path": "{llava_run}"},
        "`fcit_identity_source` is 'image', but .* has 'text'",
    ),
    "a text model": ({"model_name_or_path": "{text_model}", "template": "vicuna"}, "the types llava, .* of type llama;"),
    "text data": (
        {"dataset_dir": "{text_data}"},
        "needs an image in every training record, and record 0 of the dataset color has none",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_in_a_sentence(recipe, tmp_path, request, changes, sentence):
    folders = {"{" + name + "}": name for name in ("llava_run", "text_model", "text_data")}
    found = {key: str(request.getfixturevalue(folders[v])) if v in folders else v for key, v in changes.items()}
    keys = recipe("refused", "image") | {"output_dir": str(tmp_path / "out")} | found
    with pytest.raises(ValueError, match=sentence):
        run_recipe(keys)


def test_a_tower_that_zero_3_would_divide_is_refused(keys, tmp_path):
    *parts, _ = get_train_args({**keys, "output_dir": str(tmp_path / "out")})
    parts[2].hf_deepspeed_config = SimpleNamespace(is_zero3=lambda: True)
    with pytest.raises(ValueError, match=r"`deepspeed` cannot be used with `fcit_identity_source: image`, .* ZeRO-3 divides"):
        check_combination(*parts, parts[3].fcit_request.args)


def test_a_run_is_resumed_with_its_own_source_alone(recipe):
    run_recipe(recipe("resumed", "image", **SHORT))
    with pytest.raises(ValueError, match="`fcit_identity_source` was 'image' and is 'both'"):
        run_recipe(recipe("resumed", "both", **SHORT))


def test_runs_of_different_sources_are_not_joined(image_run, llava_run, tmp_path):
    with pytest.raises(ValueError, match="identity_source is 'image' in the first and 'text' in the second"):
        join_folders(image_run, llava_run, tmp_path / "joined")


@pytest.mark.parametrize(("source", "made_of"), [("image", "vision tower, 16"), ("both", "embedding and vision tower, 48")])
def test_a_plan_says_what_tokens_are_made_of(recipe, source, made_of, capsys):
    more = {} if source == "image" else {"fcit_identity_encoder": "embedding"}  # auto is not settled in a plan
    run_recipe(recipe(f"plan_{source}", source, fcit_dry_run=True, **more))
    assert f"identity tokens:  {made_of} numbers" in capsys.readouterr().out
