"""What is done with a base model, for tiny random models of many architectures; the slow test makes docs/reference/models.md.

``FCIT_WRITE_PAGE=1 python -m pytest -m slow tests/engine/test_architectures.py`` writes the page again.
"""

import os
from pathlib import Path

import pytest
from architectures import ARCHITECTURES, FUSED
from walk import REFUSED, STEPS, Walk

from fcit_plugin.knowledge.vision_tower import FAMILIES

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
- export, chat, predict: `llamafactory-cli export` (merged), `chat`, and `stage: sft` with `do_predict`, on the run's folder;
- disco_plus: all of this with `fcit_method: disco_plus` where images are seen through a trained projector: in a mixed batch
  each sample through that of its own subspace, to 1e-4 as by PEFT with the sample, the subspace and its projector alone, which
  `fcit-cli export-adapters` gives away together. Subspaces are weighed by instruction and image (`fcit_identity_source: both`)
  where the vision tower is known, else by the instruction alone. "refused" means that a sentence says so before the training;
  without a trained projector `disco_plus` works on every model.

Identity tokens of images (`fcit_identity_source: image` or `both`) are there for the types
IMAGES;
not for a `llava` with Pixtral's tower.

## Mixtures of experts

Under transformers 5 the experts of a layer are fused: a parameter [experts, ., .] for each of their two matrices, which
`lora_target` does not reach. By itself `lora_target: all` trains what is beside them (attention, dense and shared MLPs), and
the log says so. `fcit_target_parameters: experts.gate_up_proj,experts.down_proj` has subspaces act on the experts too: they
are trained by PEFT (`target_parameters`), answer with weights of each sample's own, and are exported, merged and given away
as PEFT adapters, which PEFT and LLaMA-Factory load, and vLLM does not. `tests/adapters/test_fused.py` holds it against merged
weights, for FUSED.

Refused with it by a sentence: experts of another form (Llama-4, Granite 4), `lora_dropout`, `quantization_bit`, ZeRO-3,
`enable_liger_kernel`, `fcit_method` o_lora, c_lora and moe_lora, and `fcit_lora_aggregation` refactor, svd, exact and
stack. In training PEFT writes out W + s B A for all experts of a layer in every forward pass; with gradient checkpointing
one layer's are in memory at a time, without it those of all layers. Answering computes the LoRA beside the weights and
needs no such copy.

## What was walked through

"""
COLUMNS = ("plain", "train", "evaluate", "apart", "export", "chat", "predict", "disco_plus")


def cells(*values: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(values)} |"


def head() -> str:
    """What stands above the table."""
    fused = ", ".join(ARCHITECTURES[name].title for name in FUSED if ARCHITECTURES[name].fails is None)
    return HEAD.replace("FUSED", fused).replace("IMAGES", ", ".join(f"`{kind}`" for kind in FAMILIES))


def row(name: str, results: dict[str, str | None]) -> str:
    """The row of an architecture.

    Args:
        name: Its name.
        results: For each step that was taken None, or how it failed.
    """
    one = ARCHITECTURES[name]
    marks = [_mark(results[step]) if step in results else "-" for step in STEPS]
    return cells(one.title, "images" if one.images else "", f"`{one.template}`", *marks, one.fails or "")


def _mark(failed: str | None) -> str:
    return "yes" if failed is None else REFUSED if failed == REFUSED else "no"


def read_page() -> list[str]:
    """The rows of the page."""
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")][2:]


def write_row(name: str, line: str) -> None:
    """Put a row into the page, in its place."""
    known = dict(zip((old.split(" | ")[0] for old in read_page()), read_page(), strict=True)) if PAGE.exists() else {}
    known[line.split(" | ")[0]] = line
    titles = [f"| {one.title}" for one in ARCHITECTURES.values()]
    columns = [cells("model", "sees", "template", *COLUMNS, "why not"), cells(*["---"] * (len(COLUMNS) + 4))]
    rows = [known[title] for title in titles if title in known]
    PAGE.write_text(head() + "\n".join([*columns, *rows]) + "\n", encoding="utf-8")


def walked(walk: Walk, steps: tuple[str, ...]) -> dict[str, str | None]:
    """How each step went, None if well; left out is what needs a run or a projector where there is none."""
    results: dict[str, str | None] = {}
    for step in steps:
        if step == "disco_plus" and not walk.architecture.images:
            continue
        try:
            results[step] = getattr(walk, step)()
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


@pytest.mark.parametrize("walk", ["qwen3_vl"], indirect=True)
def test_subspaces_have_projectors_of_their_own_and_are_weighed_by_images(walk):
    plus = walk.with_disco_plus()
    assert walked(plus, ("train", "evaluate", "own_projectors", "chat")) == dict.fromkeys(
        ("train", "evaluate", "own_projectors", "chat")
    )


@pytest.mark.slow
@pytest.mark.parametrize(("walk", "name"), [(name, name) for name in ARCHITECTURES], indirect=["walk"], ids=ARCHITECTURES)
def test_all_that_plain_llamafactory_trains_is_trained_evaluated_exported_and_asked(walk, name):
    results = walked(walk, STEPS)
    failed = {step: how for step, how in results.items() if how not in (None, REFUSED)}
    if os.environ.get("FCIT_WRITE_PAGE"):
        write_row(name, row(name, results))
    assert bool(failed) == (ARCHITECTURES[name].fails is not None), failed
    assert row(name, results) in read_page()


def test_the_page_has_all_architectures_and_says_why_one_does_not_go():
    rows = read_page()
    assert len(rows) == len(ARCHITECTURES) >= 30
    assert PAGE.read_text(encoding="utf-8").startswith(head()), "write the page again"
    for one, line in zip(ARCHITECTURES.values(), rows, strict=True):
        assert line.startswith(f"| {one.title} |")
        assert (" no " in line) == (one.fails is not None) and (one.fails or "") in line
