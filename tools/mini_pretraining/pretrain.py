"""Pre-train the base model of FCIT-mini: ``python -m tools.mini_pretraining.pretrain --out DIR``.

Stage 1 teaches the vision tower with dense labels; stage 2 freezes it and trains projector and Llama on questions that
are worded unlike those of the twelve tasks. Everything is drawn afresh in each step, by seed.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration, get_cosine_schedule_with_warmup

from fcit_plugin.samples.mini.scenes import Scene

from .labels import IGNORE
from .mixture import draw_scene
from .model import build_model, build_processor, to_pixel_values
from .naming import naming_loss, word_ids
from .packing import Packer
from .questions import Turn, ask, echo
from .tokenizer import build_tokenizer, echo_words
from .tower import TowerHeads, draw_labeled, see, tower_accuracy, tower_loss

logger = logging.getLogger(__name__)

QUESTIONS_PER_IMAGE = 5
ECHO_SHARE = 0.12
NAMING_WEIGHT = 0.5
LOG_FILE = "pretrain_log.json"


@dataclass
class Recipe:
    """Everything that decides the weights.

    On a shared machine set OMP_WAIT_POLICY=PASSIVE, or waiting threads slow each other down.
    """

    seed: int = 0
    threads: int = 2
    tower_steps: int = 1200
    tower_batch: int = 64
    tower_lr: float = 1.5e-3
    align_steps: int = 2800
    align_batch: int = 16
    align_lr: float = 1.2e-3


@dataclass
class Log:
    """What is shipped beside the weights; ``earlier`` is the log of the run that this one went on from."""

    recipe: Recipe
    records: list[dict] = field(default_factory=list)
    earlier: dict | None = None

    def add(self, **record) -> None:
        """Note and print one record."""
        self.records.append(record)
        logger.info("%s", record)

    def continue_from(self, folder: Path) -> None:
        """Keep the log of an earlier run."""
        self.earlier = json.loads((folder / LOG_FILE).read_text(encoding="utf-8"))

    def save(self, folder: Path) -> None:
        """Write the log file."""
        (folder / LOG_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def train_tower(model: LlavaForConditionalGeneration, recipe: Recipe, log: Log) -> None:
    """Stage 1."""
    tower, heads = model.model.vision_tower, TowerHeads()
    rng = np.random.default_rng([recipe.seed, 1])

    def loss_of_step() -> torch.Tensor:
        pixels, labels = draw_labeled(rng, recipe.tower_batch)
        return tower_loss(heads(see(tower, pixels)), labels)

    def report() -> dict:
        return tower_accuracy(tower, heads, np.random.default_rng([recipe.seed, 2]))

    parameters = [*tower.parameters(), *heads.parameters()]
    _fit("tower", parameters, recipe.tower_steps, recipe.tower_lr, loss_of_step, report, log)


def align(model: LlavaForConditionalGeneration, packer: Packer, recipe: Recipe, log: Log, save: Callable[[], None]) -> None:
    """Stage 2."""
    tower = model.model.vision_tower.requires_grad_(False)
    rng = np.random.default_rng([recipe.seed, 3])
    words, named = echo_words(), word_ids(packer.tokenizer)

    def loss_of_step() -> torch.Tensor:
        scenes = [draw_scene(rng) for _ in range(recipe.align_batch)]
        answers = _answer(model, packer, scenes, [_turns(rng, scene, words) for scene in scenes])
        naming = naming_loss(answers.projected, model.get_input_embeddings()(named), scenes)
        return _mean_per_answer(answers) + NAMING_WEIGHT * naming

    def report() -> dict:
        save()
        return answer_accuracy(model, packer, np.random.default_rng([recipe.seed, 4]))

    parameters = [*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()]
    _fit("align", parameters, recipe.align_steps, recipe.align_lr, loss_of_step, report, log)
    tower.requires_grad_(True)


@torch.no_grad()
def answer_accuracy(
    model: LlavaForConditionalGeneration, packer: Packer, rng: np.random.Generator, batches: int = 8
) -> dict[str, float]:
    """Share of answers whose every token is the most likely one, by family of scene and first word of the question."""
    hits: dict[str, list[bool]] = {}
    for _ in range(batches):
        scenes = [draw_scene(rng) for _ in range(64)]
        turns = [[ask(rng, scene)] for scene in scenes]
        answers = _answer(model, packer, scenes, turns)
        right = answers.logits.argmax(-1) == answers.labels
        for i, scene in enumerate(scenes):
            name = f"{type(scene).__name__.removesuffix('Scene')} {turns[i][0][0].split()[0]}"
            hits.setdefault(name, []).append(bool(right[answers.owner == i].all()))
    scores = {name: round(float(np.mean(values)), 2) for name, values in sorted(hits.items())}
    return scores | {"mean": round(float(np.mean([hit for values in hits.values() for hit in values])), 3)}


def _turns(rng: np.random.Generator, scene: Scene, words: tuple[str, ...]) -> list[Turn]:
    return [echo(rng, words) if rng.random() < ECHO_SHARE else ask(rng, scene) for _ in range(QUESTIONS_PER_IMAGE)]


@dataclass
class _Answers:
    """Logits and labels of the answers' tokens, the answer that each belongs to, and the projected patches."""

    logits: torch.Tensor
    labels: torch.Tensor
    owner: torch.Tensor
    projected: torch.Tensor


def _answer(model: LlavaForConditionalGeneration, packer: Packer, scenes: list[Scene], turns: list[list[Turn]]) -> _Answers:
    packed = packer.pack(turns)
    with torch.no_grad():
        features = see(model.model.vision_tower, to_pixel_values([scene.pixels for scene in scenes]))
    projected = model.model.multi_modal_projector(features)
    embeddings = model.get_input_embeddings()(packed.input_ids)
    embeddings = embeddings.masked_scatter((packed.input_ids == model.config.image_token_id)[..., None], projected)
    hidden = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=packed.attention_mask,
        position_ids=packed.position_ids,
        use_cache=False,
    ).last_hidden_state
    labels = packed.labels[:, 1:]
    wanted = labels != IGNORE
    return _Answers(model.lm_head(hidden[:, :-1][wanted]), labels[wanted], packed.answers[:, 1:][wanted], projected)


def _mean_per_answer(answers: _Answers) -> torch.Tensor:
    """Cross entropy in which every answer weighs the same, however long it is."""
    losses = cross_entropy(answers.logits, answers.labels, reduction="none")
    length = torch.bincount(answers.owner)
    return (losses / length[answers.owner]).sum() / (length > 0).sum()


def _fit(
    stage: str,
    parameters: Iterable[nn.Parameter],
    steps: int,
    learning_rate: float,
    loss_of_step: Callable[[], torch.Tensor],
    report: Callable[[], dict],
    log: Log,
    every: int = 250,
) -> None:
    """AdamW with warm-up and cosine decay; a report from time to time."""
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10 + 1), steps)
    start, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        loss = loss_of_step()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % every == 0 or step == steps:
            seconds = round(time.monotonic() - start, 1)
            log.add(stage=stage, step=step, loss=round(total / ((step - 1) % every + 1), 4), seconds=seconds, **report())
            total = 0.0


def pretrain(out: Path, recipe: Recipe, start_from: Path | None = None) -> None:
    """Train the base model and save it, with its processor and its log, in ``out``.

    Args:
        out: Folder to write; it is written at each report of stage 2, so it always holds the latest state.
        recipe: What to train.
        start_from: Folder of an earlier result to go on from, without stage 1.
    """
    torch.set_num_threads(recipe.threads)
    tokenizer = build_tokenizer()
    model, log = build_model(tokenizer, recipe.seed), Log(recipe)

    def save() -> None:
        model.save_pretrained(out)
        build_processor(tokenizer).save_pretrained(out)
        log.save(out)

    if start_from is None:
        train_tower(model, recipe, log)
    else:
        model.load_state_dict(LlavaForConditionalGeneration.from_pretrained(start_from, dtype=torch.float32).state_dict())
        log.continue_from(start_from)
    save()
    align(model, Packer(tokenizer), recipe, log, save)
    save()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start-from", type=Path)
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    out, start_from = arguments.pop("out"), arguments.pop("start_from")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    pretrain(out, Recipe(**arguments), start_from)


if __name__ == "__main__":
    main()
