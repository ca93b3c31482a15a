"""Can the base model of FCIT-mini learn each of the twelve tasks by itself?

Tunes one fresh LoRA per task and prints its score before and after: ``python tools/mini_learnability.py``. It uses
PEFT alone, so it says something about data and base model only. A caption counts when it is one of the references.
"""

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np
import torch
from mini_pretraining.packing import PROMPT, Packer
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from fcit_plugin.fcit_benchmark.layout import LAYOUT
from fcit_plugin.samples.mini.build import mini_root

BASE = Path(__file__).parents[1] / "fcit_plugin" / "samples" / "mini" / "base_model"
TARGETS = {
    "all": r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
    "mlp": r".*language_model.*\.(gate|up|down)_proj",
}


def read_rows(root: Path, key: str) -> tuple[list[dict], list[dict]]:
    """Train and test rows as {image, question, answer}; answer is a list when several are right."""
    layout = LAYOUT[key]
    train = [
        {
            "image": r["image"],
            "question": r["conversations"][0]["value"].split("\n", 1)[1],
            "answer": r["conversations"][1]["value"],
        }
        for r in json.loads((root / layout.train_path).read_text())
    ]
    test = [
        {"image": r["image"], "question": r["text"], "answer": r["answer"], "box": r.get("answer_bbox"), "captions": []}
        for r in json.loads((root / layout.test_path).read_text())
    ]
    if layout.captions_file:
        coco = json.loads((root / "instructions" / layout.folder / layout.captions_file).read_text())
        for note in coco["annotations"]:
            test[note["image_id"]]["captions"].append(note["caption"])
    return train, test


def is_right(row: dict, text: str) -> bool:
    """Exact match, IoU above one half, or one of the captions."""
    if row["box"]:
        numbers = [float(n) for n in re.findall(r"\d+\.\d+", text)]
        return len(numbers) == 4 and _iou(numbers, row["box"]) > 0.5
    return text.strip().upper() in {answer.upper() for answer in [row["answer"], *row["captions"]]}


def _iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(wide, 0.0) * max(high, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union > 0 else 0.0


def pixels_of(processor, root: Path, rows: list[dict]) -> torch.Tensor:
    """Pixel values of the images of some rows."""
    images = [Image.open(root / "datasets" / row["image"]) for row in rows]
    return processor.image_processor(images, return_tensors="pt")["pixel_values"]


@torch.no_grad()
def answer_all(model, processor, root: Path, rows: list[dict], batch: int = 50) -> list[str]:
    """Greedy answers."""
    answers = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        inputs = processor(
            text=[PROMPT.format(question=row["question"]) for row in part],
            images=[Image.open(root / "datasets" / row["image"]) for row in part],
            padding=True,
            return_tensors="pt",
        )
        inputs.pop("token_type_ids", None)
        output = model.generate(**inputs, max_new_tokens=32)
        answers += processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def tune(model, processor, root: Path, rows: list[dict], steps: int, batch: int, lr: float, seed: int) -> float:
    """Train the adapter; return the seconds per step."""
    packer, rng = Packer(processor.tokenizer), np.random.default_rng(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: 0.5 * (1 + np.cos(np.pi * s / steps)) * min(1, (s + 1) / 5)
    )
    start = time.monotonic()
    for _ in range(steps):
        part = [rows[int(i)] for i in rng.integers(len(rows), size=batch)]
        packed = packer.pack([[(row["question"], row["answer"])] for row in part])
        loss = model(
            input_ids=packed.input_ids,
            pixel_values=pixels_of(processor, root, part),
            attention_mask=(packed.input_ids != processor.tokenizer.pad_token_id).long(),
            labels=packed.labels,
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    return (time.monotonic() - start) / steps


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=BASE)
    parser.add_argument("--tasks", nargs="*", default=list(LAYOUT))
    parser.add_argument("--targets", choices=TARGETS, default="all")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="Answers to print of each task.")
    options = parser.parse_args()
    root, processor = mini_root(), AutoProcessor.from_pretrained(options.model)
    print(f"{'task':18} zero-shot  tuned  s/step")
    for key in options.tasks:
        torch.manual_seed(options.seed)
        model = LlavaForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32)
        config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=TARGETS[options.targets])
        model = get_peft_model(model, config)
        train, test = read_rows(root, key)
        before = answer_all(model.eval(), processor, root, test)
        seconds = tune(model.train(), processor, root, train, options.steps, options.batch, options.lr, options.seed)
        after = answer_all(model.eval(), processor, root, test)
        scores = [np.mean([is_right(row, text) for row, text in zip(test, texts, strict=True)]) for texts in (before, after)]
        print(f"{key:18} {scores[0]:9.2f} {scores[1]:6.2f} {seconds:7.2f}", flush=True)
        for row, *texts in list(zip(test, before, after, strict=True))[: options.show]:
            print("   ", row["answer"], "|", " | ".join(texts))


if __name__ == "__main__":
    main()
