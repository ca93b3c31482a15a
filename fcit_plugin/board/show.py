"""What a run looks like in the tab: plain values for its elements. No gradio."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..data.entries import own_datasets, users_datasets
from ..data.named import ForTest
from ..evaluation.plots import short_name, training_loss
from ..evaluation.report import REPORT_JSON, Report
from ..evaluation.tables import code, escaped, markdown
from ..files import read_text
from ..state.folder import StateFolder
from .form import MAY_BE_NOTHING
from .load import Loaded
from .progress import Look
from .run import Status
from .texts import say, title

#: Of a run's recipe, what a chat with it needs, too.
_OF_CHAT = ("default_system", "quantization_bit", "quantization_method", "rope_scaling", "image_max_pixels", "image_min_pixels")


def dataset_choices(dataset_dir: str, stages: str = "") -> list[str]:
    """The datasets that can be chosen: the user's, then ours; none that a stage has, nor test records.

    Args:
        dataset_dir: Folder of the user's ``dataset_info.json``.
        stages: The stages so far, as typed.

    Raises:
        FcitError: That file is damaged.
    """
    names = dict.fromkeys([*users_datasets(dataset_dir), *own_datasets()])
    taken = {*stages.replace(",", " ").split(), *(str(ForTest(name)) for name in names)}
    return [name for name in names if name not in taken]


def add_stage(stages: str, picked: Sequence[str]) -> tuple[str, list[str]]:
    """The stages with one more behind them, and nothing picked."""
    return f"{stages.strip()} {','.join(picked)}".strip(), []


def status_line(status: Status, seen: Look, lang: str, code: int = 0) -> str:
    """What a run is doing, in a sentence of Markdown.

    Args:
        status: Of the process.
        seen: What its folder shows.
        lang: The board's language.
        code: With what the process ended.
    """
    if status is Status.NONE:
        status = Status.FINISHED if seen.finished else Status.RUNNING if seen.last else Status.NONE
    if status is Status.FAILED:
        return say("failed", lang, code=code)
    if seen.finished:  # the process may take another moment to end
        return say("finished", lang)
    where = _where(seen, lang)
    if status is Status.RUNNING:
        return where or say("loading", lang)
    return f"{say(status.value, lang)} {where}".strip()


def _where(seen: Look, lang: str) -> str:
    line = seen.last
    if line is None:
        return ""
    unknown: Mapping[str, Any] = {"round": "-", "client": "-", "total_steps": "-", "elapsed_time": "-", "remaining_time": "-"}
    words = {**unknown, **line}
    client = words["client"]
    told = {
        "stage": line["stage"],
        "stages": "?" if seen.stages is None else seen.stages,
        "round": words["round"],
        "client": seen.names[client] if isinstance(client, int) and client < len(seen.names) else client,
        "step": line["current_steps"],
        "steps": words["total_steps"],
        "elapsed": words["elapsed_time"],
        "remaining": words["remaining_time"],
    }
    return say("training", lang, **{key: escaped(str(value)) for key, value in told.items()})


def matrix(seen: Look, lang: str) -> str:
    """The accuracy matrix as a Markdown table, with its title."""
    heads, rows = seen.table
    return f"**{title('matrix', lang)}**\n\n{markdown([[short_name(head) for head in heads], *rows])}" if rows else ""


def losses(seen: Look, lang: str) -> Figure | None:
    """The curve of losses; None without a point."""
    log = [{"step": step, "loss": loss, "stage": stage} for step, loss, stage in seen.losses]
    return training_loss(log, title("losses", lang)) if log else None


def last_lines(output: str) -> str:
    """The end of a log as HTML, which is seen first, whatever it holds."""
    style = "max-height:16rem;overflow:auto;display:flex;flex-direction:column-reverse"
    inner = html.escape(output)
    return f'<div role="log" tabindex="0" style="{style}"><pre style="font-size:0.8rem">{inner}</pre></div>' if output else ""


def page_in_frame(page: Path) -> str:
    """The page of a run, in a frame of its own: what it holds cannot reach the board.

    Raises:
        FcitError: It cannot be read.
    """
    inner, style = html.escape(read_text(page), quote=True), "width:100%;height:80vh;border:0"
    return f'<iframe title="{page.name}" sandbox="allow-scripts" style="{style}" srcdoc="{inner}"></iframe>'


def chat_keys(folder: Path) -> dict[str, Any]:
    """LLaMA-Factory's keys for a chat with a finished run, as the run itself had them.

    Raises:
        FcitError: The folder is damaged.
    """
    manifest = StateFolder(folder).manifest
    ran = Report.read(folder).arguments if (folder / REPORT_JSON).is_file() else {}
    keys = {
        "model_name_or_path": ran.get("model_name_or_path") or manifest["base_model"],
        "template": manifest["template"],
        "adapter_name_or_path": str(folder),
        "finetuning_type": "lora",
        "infer_backend": "huggingface",
    }
    return keys | {key: ran[key] for key in _OF_CHAT if ran.get(key) is not None}


def told(recipe: Loaded, name: str, further: Mapping[str, Any], lang: str) -> list[str]:
    """Sentences about a loaded recipe, as Markdown.

    Args:
        recipe: The recipe.
        name: As the user named it.
        further: What stands under *Further keys*.
        lang: The board's language.
    """
    gone = [key for key, value in further.items() if value is None and key not in MAY_BE_NOTHING]
    kept = [key for key in further if key not in gone]
    found = [say("loaded", lang, name=code(name.strip()))]
    for sentence, words in (
        ("loaded_further", kept),
        ("loaded_gone", gone),
        ("loaded_hidden", recipe.hidden),
        ("loaded_empty", recipe.empty),
        ("loaded_behind", recipe.behind),
    ):
        if words:
            found.append(say(sentence, lang, words=_listed(words)))
    return found


def _listed(words: Iterable[str]) -> str:
    return ", ".join(map(code, words))
