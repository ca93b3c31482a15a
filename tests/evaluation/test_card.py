"""The model card: its text, and front matter as the Hugging Face Hub's own library reads it."""

from dataclasses import fields

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from markdown_it import MarkdownIt
from reports import two_stages, unmeasured

from fcit_plugin.evaluation.card import model_card
from fcit_plugin.evaluation.report import Report, markdown_table, table


def card_of(report=None, base="llava-hf/llava-1.5-7b-hf", **more):
    report = two_stages() if report is None else report
    return model_card(report, base, "llava", **{"metrics": {"fcit_a": "exact_match", "fcit_b": "coco"}, **more})


def test_the_hubs_library_reads_what_was_meant():
    data = ModelCard(card_of(pipeline_tag="image-text-to-text"), ignore_metadata_errors=False).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == (
        "llava-hf/llava-1.5-7b-hf", "peft", "image-text-to-text"
    )  # fmt: skip
    assert data.tags == ["fcit", "federated-learning", "continual-learning", "llama-factory", "lora"]
    assert (data.datasets, data.metrics) == (["fcit_a", "fcit_b"], ["coco", "exact_match"])
    assert data.model_name == "fcit-disco-custom"
    found = [(r.task_type, r.dataset_name, r.metric_type, r.metric_value) for r in data.eval_results]
    assert found == [
        ("image-text-to-text", "fcit_a", "exact_match", 70.0),
        ("image-text-to-text", "fcit_b", "coco", 80.0),
        *(
            ("image-text-to-text", "FCIT, custom", name, value)
            for name, value in (("last", 75.0), ("avg", 82.5), ("forgetting", 20.0), ("bwt", -20.0), ("fwt", 70.0))
        ),
    ]
    assert {r.metric_name for r in data.eval_results[:2]} == {"exact_match after stage 1", "coco after stage 1"}


def test_the_front_matter_has_the_hubs_form():
    """As https://github.com/huggingface/hub-docs/blob/main/modelcard.md says."""
    front = yaml.safe_load(card_of().split("---\n")[1])
    assert set(front) == {
        "base_model", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"
    }  # fmt: skip
    (index,) = front["model-index"]
    assert set(index) == {"name", "results"}
    for result in index["results"]:
        assert set(result) == {"task", "dataset", "metrics"}
        assert set(result["dataset"]) == {"name", "type"}
        assert all({"type", "value", "name"} <= metric.keys() for metric in result["metrics"])


@pytest.mark.parametrize("base", ["/models/base: #1", "no", "fcit-mini", "a/b/c", "models/base"])
def test_a_base_model_that_is_no_repository_is_named_in_the_text_alone(tmp_path, monkeypatch, base):
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    card = ModelCard(card_of(base=base), ignore_metadata_errors=False)
    assert card.data.base_model is None
    assert f"LoRA subspaces for `{base}`" in card.text
    loading = yaml.safe_load(card.text.split("```yaml\n")[1].split("```")[0])
    assert loading["model_name_or_path"] == base


def test_table_pictures_and_how_to_load():
    report = two_stages()
    card = card_of(report, shared="shared.safetensors")
    assert markdown_table(report) in card
    for picture in ("accuracy_matrix", "subspaces", "partition"):
        assert f"({picture}.png)" in card
    assert "| 2 | 2 | 2 | 2.5 MB | 4.0 MB |" in card
    assert "template: llava\n" in card
    assert "the weights in `shared.safetensors`" in card
    assert "shared" not in card_of()


def test_without_evaluation_there_are_no_results():
    card = ModelCard(card_of(unmeasured(), metrics={}), ignore_metadata_errors=False)
    assert card.data.eval_results is None and card.data.metrics is None
    assert "model-index" not in card.content and ".png" not in card.content


HOSTILE = (
    "</script><img src=x onerror=alert(1)>", "<!-- ", "a|b", "a\\|b\\", "x\n---\ny", "---", "---\nbase_model: other/model\n---",
    "\x1b[31m", "\u202eabc", "[l](javascript:alert(1))", "![i](https://example.org/x.png)", "https://example.org",
    "www.example.org", "a@example.org", "```\n# h", "`` ` ``", "`", "**b** _e_ ~~s~~ $x$", "&lt;b&gt;", "\n\n# new",
    "!!python/object:os.system", "*a", "&a", "'", '"', "{a: 1}", "[1]", "%", "a: b", "a #b",
    "-", "? x", "null", "\u2028x", "\x00", "\u0301",
)  # fmt: skip
#: Fields of the report without text of anybody's.
NO_TEXT = {
    "seed", "last", "avg", "forgetting", "bwt", "fwt", "bytes_up", "bytes_down", "accuracy", "accuracy_restricted", "seconds",
    "product_errors", "likelihood", "subspace_cosines",
}  # fmt: skip


def planted(text: str) -> Report:
    """A report with a text in every place that can hold one."""
    values = two_stages().to_dict()
    names = {"fcit_a": f"A{text}", "fcit_b": f"B{text}"}
    absence = {"stage": 0, "round": 0, "client": 4, "reason": text}
    spent = {"delta": 1e-5, "noise": text, "relation": text, "total": {"epsilon": 1.0, text: text}}
    values |= {
        "method": text, "reference": text, "setting": text, "arguments": {text: text}, "earlier": [{"stage": 0, text: text}],
        "stages": [[names["fcit_a"]], [names["fcit_b"], names["fcit_a"]]], "datasets": [*names.values()],
        "zero_shot": dict.fromkeys(names.values(), 1.0), "scores_other": [{names["fcit_a"]: {text: 95.0}}, {}],
        "assignments": [{**row, "task": text} for row in values["assignments"]], "dropped": [absence], "idle": [absence],
        "privacy": spent, "partition": [{"task": text, "dataset": text, "records": [5]}], "left_out": {text: 3},
        "spread": {"last": 1.0, text: 1.0}, "clients": {text: {text: 1.0}},
        "engine": {"name": text, "processes": 1, "threads": 1}, "encoder_choice": text, "likelihood": [[0.5, None]],
        "likelihood_untuned": {names["fcit_a"]: 2.0}, "sites": [text, text], "client_names": [text],
        "subspace_cosines": [[1.0]],
        "site_scores": [{"site": text, "stage": 1, "dataset": text, "metric": text, "score": 1.0, "records": 2}],
    }  # fmt: skip
    return Report(**values)  # a file with control characters in it is not read at all


def test_the_test_plants_in_every_field_that_can_hold_a_text():
    values = planted("ZZQ").to_dict()
    assert [item.name for item in fields(Report) if "ZZQ" not in repr(values[item.name])] == [
        item.name for item in fields(Report) if item.name in NO_TEXT
    ]


def shape(card: str) -> list:
    """What stands in a card's text but for words: kinds of tokens, and where links and pictures lead."""
    body = card.split("\n---\n", 1)[1]
    found = []
    for token in MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").enable("strikethrough").parse(body):
        found += [(part.type, part.attrs) for part in (token, *(token.children or ())) if part.type != "text"]
    return [entry for entry in found if entry[0] != "softbreak"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_of_others_does_anything_in_a_card_but_stand_there(text):
    names = {"metrics": {f"A{text}": f"exact_match{text}", f"B{text}": text}, "template": text, "base": text}

    def made(text, base, template, metrics):
        return model_card(planted(text), base, template, metrics=metrics)

    card, plain = made(text, **names), made("x", "x", "x", {"Ax": "x", "Bx": "x"})
    assert shape(card) == shape(plain)
    assert not any(letter in card + markdown_table(planted(text)) + table(planted(text)) for letter in "\x1b\x00\u202e\u2028\r")
    parsed = ModelCard(card, ignore_metadata_errors=False)
    front = yaml.safe_load(REGEX_YAML_BLOCK.search(card)[2])
    assert front.keys() - {"base_model"} == {"library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"}
    assert all(isinstance(name, str) for name in (*front["datasets"], *front["metrics"], front["model-index"][0]["name"]))
    assert parsed.data.base_model is None and parsed.data.pipeline_tag == "text-generation" and len(parsed.data.datasets) == 2
    loading = yaml.safe_load(parsed.text.split("```yaml\n")[1].split("\n```\n")[0])
    assert (loading["model_name_or_path"], loading["template"]) == (text, text), "to be copied as it is"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_a_card_shows_is_the_name(text):
    """The words of the heading and of the tables, as a reader of the page sees them."""
    if text.isprintable() and text == " ".join(text.split()):
        card = card_of(planted(text)).split("\n---\n", 1)[1]
        tokens = MarkdownIt("commonmark").enable("table").parse(card)
        seen = ["".join(part.content for part in token.children) for token in tokens if token.type == "inline"]
        assert f"FCIT: {text}, {text}, seed 3" in seen and f"A{text}" in seen
