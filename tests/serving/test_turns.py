"""One conversation gets the same weights by whatever way it comes in: for each format, way in, and rule of its turns.

Ways in: the clients' tokens, evaluation, chat, the API, predict, export and the router's files. What is expected stands in the
table by hand, and is computed from the identity tokens on disk.
"""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
import tiny
import torch
from fastapi.testclient import TestClient
from llamafactory.api.app import create_app
from llamafactory.chat import ChatModel
from llamafactory.hparams import get_infer_args, get_train_args
from runs import ROOT, infer_args, run_recipe
from transformers import AutoModelForCausalLM

from fcit_plugin.adapters.stacked import Activation
from fcit_plugin.arguments import FcitArguments
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.knowledge.activation import activation_weights
from fcit_plugin.knowledge.embedding import EmbeddingEncoder
from fcit_plugin.serving.join import join_folders
from fcit_plugin.serving.router_files import write_router
from fcit_plugin.serving.trained import TrainedRun
from fcit_plugin.state.folder import StateFolder

RULES = ("first", "latest", "mean", "auto")
#: What rounding tokens to their grid may change of a weight at temperature 0.05.
ROUNDED = 5e-4
COLOR, LETTER = (f"{tiny.TASKS[task][0]} red" for task in ("color", "letter"))
#: Says nothing of a task.
FOLLOW_UP = "?"
CALL = {"name": "look", "arguments": {"at": "red"}}
#: A conversation up to what is to be answered: (role, text).
CONVERSATIONS = {
    "one turn": [("user", COLOR)],
    "another task": [("user", COLOR), ("assistant", "red"), ("user", LETTER)],
    "a follow-up": [("system", COLOR), ("user", LETTER), ("assistant", "a"), ("user", FOLLOW_UP)],
    "the result of a tool": [("user", LETTER), ("function", json.dumps(CALL)), ("observation", COLOR)],
    "after a tool": [
        *(("system", COLOR), ("user", LETTER), ("function", json.dumps(CALL)), ("observation", COLOR)),
        *(("assistant", "a"), ("user", FOLLOW_UP)),
    ],
}
#: The texts whose mean token tells the conversation, by rule; all else is left out.
COUNTING = {
    "one turn": {rule: [COLOR] for rule in RULES},
    "another task": {"first": [COLOR], "latest": [LETTER], "mean": [COLOR, LETTER], "auto": [LETTER]},
    "a follow-up": {"first": [LETTER], "latest": [FOLLOW_UP], "mean": [LETTER, FOLLOW_UP], "auto": [LETTER]},
    "the result of a tool": {rule: [LETTER] for rule in RULES},
    "after a tool": {"first": [LETTER], "latest": [FOLLOW_UP], "mean": [LETTER, FOLLOW_UP], "auto": [LETTER]},
}
ANSWER = "blue"
ROLES = {
    "fcit": {"user": "human", "assistant": "gpt"},
    "sharegpt": {"user": "human", "assistant": "gpt", "function": "function_call"},
    "openai": {"function": "assistant", "observation": "tool"},
}
TAGS = {
    **{"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    **{"observation_tag": "tool", "function_tag": "function", "system_tag": "system"},
}


def alpaca(turns):
    said = [text for role, text in turns if role != "system"]
    return {
        "instruction": said[-1],
        "output": ANSWER,
        "history": [said[i : i + 2] for i in range(0, len(said) - 1, 2)],
        "system": next((text for role, text in turns if role == "system"), ""),
    }


def messages(name, keys):
    role_key, text_key = keys

    def make(turns):
        roles = ROLES[name]
        told = [{role_key: roles.get(role, role), text_key: text} for role, text in [*turns, ("assistant", ANSWER)]]
        for message, (role, _) in zip(told, turns, strict=False):
            if name == "openai" and role == "function":
                message |= {"content": "", "tool_calls": [{"type": "function", "id": "1", "function": CALL}]}
        return {"conversations": told}

    return make


#: Format -> how a record is written, its entry in dataset_info.json, and the roles that it has.
FORMATS = {
    "alpaca": (alpaca, {"columns": {"history": "history", "system": "system"}}, {"system", "user", "assistant"}),
    "sharegpt": (messages("sharegpt", ("from", "value")), {"formatting": "sharegpt"}, None),
    "openai": (messages("openai", ("role", "content")), {"formatting": "openai", "tags": TAGS}, None),
    "fcit": (messages("fcit", ("from", "value")), {"formatting": "fcit"}, {"user", "assistant"}),
}
#: Name of a dataset of one record -> format and conversation; some formats cannot hold some.
CASES = {
    f"{form}_{number}": (form, title)
    for form, (_, _, roles) in FORMATS.items()
    for number, (title, turns) in enumerate(CONVERSATIONS.items())
    if roles is None or {role for role, _ in turns} <= roles
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One dataset for each case, its one record trained on and asked about."""
    folder, info = tmp_path_factory.mktemp("turns"), {}
    for name, (form, title) in CASES.items():
        write, entry, _ = FORMATS[form]
        record = write(CONVERSATIONS[title])
        (folder / f"{name}.json").write_text(json.dumps([record]))
        if "conversations" in record:
            entry = {**entry, "columns": {"messages": "conversations"}}
        else:
            own = {"prompt": "instruction", "response": "output"}
            entry = {**entry, "columns": {**own, **entry["columns"]}}
        info |= {part: {"file_name": f"{name}.json", **entry} for part in (name, f"{name}_test")}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def runs(text_run, tmp_path_factory):
    """The text run, as if it had been made by each rule."""
    folders = {}
    for rule in RULES:
        folders[rule] = tmp_path_factory.mktemp("run") / rule
        shutil.copytree(text_run, folders[rule])
        said_by(folders[rule], rule)
    return folders


def said_by(folder, rule):
    path = folder / "fcit_manifest.json"
    values = json.loads(path.read_text())
    values.pop("identity_turns")
    path.write_text(json.dumps(values | ({} if rule is None else {"identity_turns": rule})))


@pytest.fixture(scope="module")
def expected(text_run, text_model):
    """Weights by conversation and rule."""
    tokens = StateFolder(text_run).load().tokens
    base = AutoModelForCausalLM.from_pretrained(text_model)
    encoder = EmbeddingEncoder(base.get_input_embeddings(), tiny.tokenizer(), center=True)

    def weights(texts):
        token = encoder.encode(texts).mean(axis=0, keepdims=True)
        used = tokens.counts > 0
        return activation_weights(token, tokens.tokens, used, mode="softmax", temperature=0.05)[0].tolist()

    found = {(title, rule): weights(texts) for title, of in COUNTING.items() for rule, texts in of.items()}
    assert found["another task", "first"][0] > 0.9 and found["another task", "latest"][1] > 0.9, "the weights say nothing"
    assert found["a follow-up", "latest"] != found["a follow-up", "first"]
    return found


@pytest.fixture
def seen(monkeypatch):
    """The weights that were set on any model, a row for each conversation."""
    rows, put = [], Activation.set

    def spy(self, weights, **more):
        rows.extend(weights.tolist())
        put(self, weights, **more)

    monkeypatch.setattr(Activation, "set", spy)
    return rows


def matches(found, expected, rule, titles):
    assert len(found) == len(titles) > 0
    for row, title in zip(found, titles, strict=True):
        assert row == pytest.approx(expected[title, rule], abs=ROUNDED), (title, rule)


@pytest.fixture(scope="module")
def session(text_model, data, tmp_path_factory):
    """A session on all cases, with one model for the tests of clients' tokens and of evaluation."""
    keys = tiny.recipe(
        *(text_model, data, tmp_path_factory.mktemp("session") / "out"),
        **{"fcit_stages": [[name] for name in CASES], "fcit_num_clients": 1, "fcit_clients_per_round": 1},
        **{"fcit_min_client_samples": 1, "cutoff_len": 200, "max_new_tokens": 1},
    )
    return open_session(*get_train_args(keys))


def with_rule(session, rule):
    return dataclasses.replace(session, args=dataclasses.replace(session.args, fcit_identity_turns=rule))


@pytest.mark.parametrize("rule", RULES)
def test_clients_tokens(session, text_run, expected, rule):
    """With auto they are made of the first turns: a client knows no subspace."""
    router = TrainedRun.read(text_run).router(session.model.get_base_model(), session.pipeline.tokenizer)
    changed = with_rule(session, rule)
    for task, (_, title) in enumerate(CASES.values()):
        token = changed.local().token(SimpleNamespace(client=0, task=task))
        weights = router.weights_of(token.mean[None])[0].tolist()
        assert weights == pytest.approx(expected[title, "first" if rule == "auto" else rule], abs=ROUNDED), title


@pytest.mark.parametrize("rule", RULES)
def test_evaluation(session, text_run, expected, seen, rule):
    session.args.fcit_eval_likelihood = False  # which asks once more
    evaluator = with_rule(session, rule).evaluator({})
    state = StateFolder(text_run).load()
    for name in CASES:
        evaluator.evaluate(state, [name], restricted=False)
    matches(seen, expected, rule, [title for _, title in CASES.values()])


@pytest.fixture(scope="module")
def chat(runs, text_keys):
    """LLaMA-Factory's chat on the run by ``first``; other rules are set on its router."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_VERBOSE", "0")
        options = {"infer_backend": "huggingface", "max_new_tokens": 1, "do_sample": False}
        yield ChatModel(infer_args(text_keys, runs["first"], **options))


@pytest.mark.parametrize("rule", RULES)
def test_chat(chat, expected, seen, monkeypatch, rule):
    monkeypatch.setattr(chat.engine.model.fcit_routing.router, "turns", rule)
    for turns in CONVERSATIONS.values():
        system = next((text for role, text in turns if role == "system"), None)
        chat.chat([{"role": role, "content": text} for role, text in turns if role != "system"], system=system)
    matches(seen, expected, rule, list(CONVERSATIONS))


@pytest.mark.parametrize("rule", RULES)
def test_api(chat, expected, seen, monkeypatch, rule):
    monkeypatch.setattr(chat.engine.model.fcit_routing.router, "turns", rule)
    client = TestClient(create_app(chat))
    for turns in CONVERSATIONS.values():
        told = [{"role": {"observation": "tool"}.get(role, role), "content": text} for role, text in turns]
        for message in told:
            if message["role"] == "function":
                call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
                message |= {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = client.post("/v1/chat/completions", json={"model": "any", "messages": told})
        assert answer.status_code == 200, answer.text
    matches(seen, expected, rule, list(CONVERSATIONS))


@pytest.mark.parametrize("rule", RULES)
def test_prompts_that_come_as_token_ids(chat, expected, seen, monkeypatch, rule):
    """As from a script of one's own. Vicuna's template writes the result of a tool like a turn of the user: it is left out."""
    monkeypatch.setattr(chat.engine.model.fcit_routing.router, "turns", rule)
    titles = [title for title, turns in CONVERSATIONS.items() if "observation" not in dict(turns)]
    for title in titles:
        turns = [{"role": role, "content": text} for role, text in CONVERSATIONS[title] if role != "system"]
        ids, _ = chat.engine.template.encode_oneturn(chat.engine.tokenizer, [*turns, {"role": "assistant", "content": ""}])
        chat.engine.model.generate(input_ids=torch.tensor([ids]), max_new_tokens=1, do_sample=False, pad_token_id=0)
    matches(seen, expected, rule, titles)


@pytest.mark.parametrize("rule", RULES)
def test_predict(runs, text_keys, data, tmp_path, expected, seen, rule):
    pytest.importorskip("jieba", reason="LLaMA-Factory's metrics need it")
    keys = {key: value for key, value in text_keys.items() if not key.startswith("fcit_")}
    keys |= {
        **{"stage": "sft", "do_train": False, "do_predict": True, "predict_with_generate": True, "report_to": "none"},
        **{"dataset_dir": str(data), "eval_dataset": ",".join(CASES), "output_dir": str(tmp_path / "out")},
        **{"adapter_name_or_path": str(runs[rule]), "per_device_eval_batch_size": 3, "max_new_tokens": 1, "cutoff_len": 200},
        **{"do_sample": False},
    }
    run_recipe(keys)
    matches(seen, expected, rule, [title for _, title in CASES.values()])


@pytest.mark.parametrize("rule", RULES)
def test_export(session, runs, data, text_keys, expected, rule):
    """Of each dataset; and of the instruction itself, which is a conversation of one turn."""
    trained = TrainedRun.read(runs[rule])
    router = trained.router(session.model.get_base_model(), session.pipeline.tokenizer)
    assert router.turns == rule
    keys = infer_args(text_keys, runs[rule], dataset_dir=str(data))
    model_args, data_args, *_ = get_infer_args(keys)

    def weights(given):
        fcit = FcitArguments(fcit_export_weights="auto", fcit_export_instruction=given)
        return trained.export_weights(fcit, lambda: router, model_args, data_args, None)

    matches([weights(name) for name in CASES], expected, rule, [title for _, title in CASES.values()])
    matches([weights(COLOR)], expected, rule, ["one turn"])


@pytest.mark.parametrize("rule", RULES)
def test_the_routers_files(session, runs, text_model, tmp_path, monkeypatch, expected, rule):
    """By the lines in the docs, which are given what the user says."""
    router = TrainedRun.read(runs[rule]).router(session.model.get_base_model(), session.pipeline.tokenizer)
    write_router(tmp_path / "adapters", router, [{"name": "0"}, {"name": "1"}], str(text_model))
    text = (ROOT / "docs" / "guide" / "serving.md").read_text()
    lines = text.partition("<!-- tested: router -->\n```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(compile(lines, "docs/guide/serving.md", "exec"), found)
    for title, turns in CONVERSATIONS.items():
        said = [text for role, text in turns if role == "user"]
        name, cosine = found["adapter_for"](*said)
        weights = expected[title, rule]
        assert name == str(weights.index(max(weights))), (title, rule)
        embedded, _ = router.listen([tuple(said)])
        assert cosine == pytest.approx(router.cosines(embedded).max(), abs=2e-3), (title, rule)


def test_a_run_from_before_the_key_goes_by_the_first_turn_as_its_evaluation_did(runs, text_run, session, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(text_run, old)
    said_by(old, None)
    assert TrainedRun.read(old).router(session.model.get_base_model(), session.pipeline.tokenizer).turns == "first"
    assert join_folders(old, runs["first"], tmp_path / "joined").places == [0, 1]
    with pytest.raises(ValueError, match="cannot be joined: identity_turns is 'first' in the first and 'auto' in the second"):
        join_folders(old, runs["auto"], tmp_path / "other")
