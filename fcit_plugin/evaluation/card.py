"""The model card of an output folder: README.md, with the front matter that the Hugging Face Hub reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..errors import printable
from .report import MATRIX_PNG, PARTITION_PNG, SUBSPACES_PNG, Report, markdown_table, privacy_statement
from .tables import code, escaped

TAGS = ("fcit", "federated-learning", "continual-learning", "llama-factory", "lora")


def model_card(
    report: Report,
    base_model: str,
    template: str,
    *,
    metrics: Mapping[str, str],
    pipeline_tag: str = "text-generation",
    shared: str | None = None,
    num_subspaces: int | None = None,
) -> str:
    """Return README.md for the output directory.

    Args:
        report: of the run.
        base_model: name or path of the model that was tuned.
        template: LLaMA-Factory's chat template of the run.
        metrics: the metric that scored each dataset; a dataset that it lacks goes by "score".
        pipeline_tag: what the Hub files the model under.
        shared: file of the shared trainables (projector), if there are any.
        num_subspaces: how many there are, for a report without clients; None: those that the report's clients trained.
    """
    data = ModelCardData(
        base_model=base_model if is_hub_id(base_model) else None,
        library_name="peft",
        pipeline_tag=pipeline_tag,
        tags=list(TAGS),
        datasets=[*map(_line, report.datasets)] or None,
        metrics=sorted({_line(metrics.get(name, "score")) for name in report.final_scores}) or None,
        model_name=_line(f"fcit-{report.method}-{report.setting}"),
        eval_results=_results(report, metrics, pipeline_tag) or None,
    )
    if not data.eval_results:
        data.model_name = None
    return f"---\n{data.to_yaml()}\n---\n\n{_text(report, base_model, template, shared, num_subspaces)}\n"


def is_hub_id(name: str) -> bool:
    """Whether a model can be a repository of the Hub, and not a folder: the Hub refuses a card that names one."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and not Path(name).exists()


def _results(report: Report, metrics: Mapping[str, str], task: str) -> list[EvalResult]:
    """Each dataset's score after the last stage, and the summaries over all of them."""
    results = [
        EvalResult(
            task_type=task,
            dataset_type=_line(name),
            dataset_name=_line(name),
            metric_type=_line(metrics.get(name, "score")),
            metric_name=f"{_line(metrics.get(name, 'score'))} after stage {len(report.accuracy) - 1}",
            metric_value=round(score, 2),
        )
        for name, score in report.final_scores.items()
    ]
    of_all: dict[str, Any] = {"task_type": task, "dataset_type": "fcit", "dataset_name": _line(f"FCIT, {report.setting}")}
    results += [
        EvalResult(**of_all, metric_type=name.lower(), metric_name=name, metric_value=round(value, 2))
        for name, value in report.summaries.items()
        if value is not None
    ]
    return results


def _line(name: str) -> str:
    """A name in the front matter, which ends at a line of three dashes."""
    return " ".join(printable(name).split())


def _value(text: str) -> str:
    """A text as a value in the example of a recipe."""
    stays = text.isidentifier() and yaml.safe_load(text) == text  # no, null, ... would not
    return text if stays else json.dumps(text, ensure_ascii=not text.isprintable())


def _text(report: Report, base_model: str, template: str, shared: str | None, num_subspaces: int | None) -> str:
    num_clients = len({entry["client"] for entry in report.assignments})
    trained = len({entry["subspace"] for entry in report.assignments})
    cells = {"stages": str(len(report.stages))}
    if report.assignments or num_subspaces is None:
        cells["clients that took part"] = str(num_clients)
    cells["subspaces"] = str(trained if num_subspaces is None else num_subspaces)
    pictures = [f"![Score after each stage]({MATRIX_PNG})"] if report.accuracy else []
    pictures += [f"![Which tasks went to which subspace]({SUBSPACES_PNG})"] if trained else []
    pictures += [f"![Records of each client, task by task]({PARTITION_PNG})"] if report.partition else []
    for heading, number in (("sent by clients", report.bytes_up), ("received by clients", report.bytes_down)):
        cells[heading] = f"{number / 1e6:,.1f} MB"
    beside = f" (of a base model that has the weights in `{shared}`)" if shared else ""
    parts = [
        f"# {escaped(report.title)}",
        f"LoRA subspaces for {code(base_model)}, made by federated continual instruction tuning (FCIT) with the method\n"
        f"{code(report.method)}. Clients send adapter weights, identity tokens and counts; their data stays with them.",
        "\n".join(f"| {' | '.join(row)} |" for row in (cells.keys(), ["---:"] * len(cells), cells.values())),
        "## Results",
        markdown_table(report),
        *pictures,
        *(["## Privacy", f"{privacy_statement(report.privacy)}."] if report.privacy else []),
        "## How to load",
        "With LLaMA-Factory and fcit-plugin installed, this folder is an adapter like any other; each instruction\n"
        "finds its own mixture of subspaces:",
        f"```yaml\nmodel_name_or_path: {_value(base_model)}\n"
        f"adapter_name_or_path: path/to/this/folder\ntemplate: {_value(template)}\n```",
        f"Without the plugin, each folder `subspaces/<k>` is a PEFT adapter on its own{beside}:",
        "```python\nfrom peft import PeftModel\n\n"
        'model = PeftModel.from_pretrained(base_model, "path/to/this/folder/subspaces/0")\n```',
    ]
    return "\n\n".join(parts)
