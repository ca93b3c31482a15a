"""What is done with a base model, for tiny random models of many architectures; the slow test makes docs/reference/models.md.

``FCIT_WRITE_PAGE=1 python -m pytest -m slow tests/engine/test_architectures.py`` writes the page again.
"""

import os
from pathlib import Path

import pytest
from architectures import ARCHITECTURES
from walk import STEPS, Walk

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"
#: Flattened tokens, tiles, a projector with LoRA on it, pixels that nobody casts, and the plainest of all.
QUICK = ("llama", "qwen3_next", "mllama", "glm4v", "llama4")
HEAD = """# Base models

Which architectures were walked through, each as a tiny random model in bfloat16 with `lora_target: all`, and with a trained
projector where it sees images. This page is written by the slow test `tests/engine/test_architectures.py`; "yes" says that
the step runs and that its result can be loaded, not that answers are good. A model that is not listed may do as well: before
the first training, a run answers a record of each dataset as it would after the last one.

- plain: LLaMA-Factory by itself trains it (`stage: sft`);
- train, evaluate: two stages of `fcit_method: disco`, with scores;
- apart: in a mixed batch each sample is answered by its own subspaces, to 1e-4 as by PEFT's own weighted sum with the sample
  alone;
- export, chat, predict: `llamafactory-cli export` (merged), `chat`, and `stage: sft` with `do_predict`, on the run's folder.

"""
COLUMNS = ("plain", "train", "evaluate", "apart", "export", "chat", "predict")


def cells(*values: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(values)} |"


def row(name: str, results: dict[str, str | None]) -> str:
    """The row of an architecture.

    Args:
        name: Its name.
        results: For each step that was taken None, or how it failed.
    """
    one = ARCHITECTURES[name]
    marks = ["-" if step not in results else "yes" if results[step] is None else "no" for step in STEPS]
    return cells(one.title, "images" if one.images else "", f"`{one.template}`", *marks, one.fails or "")


def read_page() -> list[str]:
    """The rows of the page."""
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")][2:]


def write_row(name: str, line: str) -> None:
    """Put a row into the page, in its place."""
    known = dict(zip((old.split(" | ")[0] for old in read_page()), read_page(), strict=True)) if PAGE.exists() else {}
    known[line.split(" | ")[0]] = line
    titles = [f"| {one.title}" for one in ARCHITECTURES.values()]
    head = [cells("model", "sees", "template", *COLUMNS, "why not"), cells(*["---"] * (len(COLUMNS) + 4))]
    rows = [known[title] for title in titles if title in known]
    PAGE.write_text(HEAD + "\n".join([*head, *rows]) + "\n", encoding="utf-8")


def walked(walk: Walk, steps: tuple[str, ...]) -> dict[str, str | None]:
    """How each step went; what needs the run is left out if there is none."""
    results: dict[str, str | None] = {}
    for step in steps:
        try:
            getattr(walk, step)()
            results[step] = None
        except Exception as error:  # of LLaMA-Factory, transformers or ours
            results[step] = f"{type(error).__name__}: {error}"
            if step in ("plain", "train"):
                break
    return results


@pytest.fixture
def walk(request, text_data, image_data, tmp_path) -> Walk:
    one = ARCHITECTURES[request.param]
    return Walk(one, image_data if one.images else text_data, tmp_path)


@pytest.mark.parametrize("walk", QUICK, indirect=True)
def test_an_architecture_is_trained_evaluated_and_asked(walk):
    assert walked(walk, ("train", "evaluate", "weigh", "chat")) == dict.fromkeys(("train", "evaluate", "weigh", "chat"))


@pytest.mark.slow
@pytest.mark.parametrize(("walk", "name"), [(name, name) for name in ARCHITECTURES], indirect=["walk"], ids=ARCHITECTURES)
def test_all_that_plain_llamafactory_trains_is_trained_evaluated_exported_and_asked(walk, name):
    results = walked(walk, STEPS)
    failed = {step: how for step, how in results.items() if how is not None}
    if os.environ.get("FCIT_WRITE_PAGE"):
        write_row(name, row(name, results))
    assert bool(failed) == (ARCHITECTURES[name].fails is not None), failed
    assert row(name, results) in read_page()


def test_the_page_has_all_architectures_and_says_why_one_does_not_go():
    rows = read_page()
    assert len(rows) == len(ARCHITECTURES) >= 30
    for one, line in zip(ARCHITECTURES.values(), rows, strict=True):
        assert line.startswith(f"| {one.title} |")
        assert (" no " in line) == (one.fails is not None) and (one.fails or "") in line
