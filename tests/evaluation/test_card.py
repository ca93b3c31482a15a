"""The model card: its text, and front matter as the Hugging Face Hub's own library reads it."""

import pytest
import yaml
from huggingface_hub import ModelCard
from reports import two_stages, unmeasured

from fcit_plugin.evaluation.card import model_card
from fcit_plugin.evaluation.report import markdown_table


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
