"""What a user does with a base model, step by step, for one of the tiny architectures."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from architectures import Architecture
from llamafactory.chat import ChatModel
from llamafactory.hparams import get_train_args
from llamafactory.train.tuner import export_model
from peft import PeftModel
from PIL import Image
from runs import infer_args, report_of, run_recipe, weighted_by_peft
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from fcit_plugin.adapters.projectors import FAMILIES as WITH_OWN_PROJECTORS
from fcit_plugin.engine.open_session import open_session
from fcit_plugin.engine.row import Row
from fcit_plugin.errors import FcitError
from fcit_plugin.knowledge.images import features_by_row
from fcit_plugin.knowledge.vision_tower import check_family
from fcit_plugin.serving.export_adapters import export_adapters
from fcit_plugin.serving.trained import TrainedRun


@dataclass
class Walk:
    """One architecture, its data, and a folder to work in.

    Attributes:
        architecture: The architecture.
        data: The tiny tasks, with images if it sees them.
        folder: Empty.
        changes: Keys of the recipe that are others.
    """

    architecture: Architecture
    data: Path
    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base, self.run = self.folder / "base", self.folder / "run"
        self.architecture.make(self.base)
        images = {"freeze_multi_modal_projector": False} if self.architecture.images else {}
        self.keys = tiny.recipe(
            self.base,
            self.data,
            self.run,
            template=self.architecture.template,
            lora_target=self.architecture.target,
            bf16=True,
            use_cpu=True,
            cutoff_len=128,
            disable_gradient_checkpointing=False,
            per_device_eval_batch_size=4,
            fcit_num_rounds=1,
            max_new_tokens=3,
            fcit_eval_samples=3,
            image_max_pixels=1024,
            **images,
            **self.changes,
        )
        self.model_class: Any = AutoModelForImageTextToText if self.architecture.images else AutoModelForCausalLM

    def plain(self) -> None:
        """LLaMA-Factory alone trains it."""
        keys = {key: value for key, value in self.keys.items() if not key.startswith("fcit_")}
        keys |= {"stage": "sft", "dataset": "color", "max_steps": 1, "save_strategy": "no"}
        run_recipe(keys | {"output_dir": str(self.folder / "plain"), "freeze_multi_modal_projector": True})

    def train(self) -> None:
        """Two stages of DISCO, which are evaluated; whatever can learn has learned."""
        run_recipe(self.keys)
        for k in range(2):
            factors = load_file(self.run / "subspaces" / str(k) / "adapter_model.safetensors")
            still = [key for key, value in factors.items() if ".lora_B." in key and not value.any()]
            assert len(still) < len(factors) / 4, f"nothing was learned in {still[:3]} of {len(factors)}"

    def evaluate(self) -> None:
        """The scores are there."""
        report = report_of(self.run)
        scores = [score for row in report["accuracy"] for score in row if score is not None]
        assert scores and all(math.isfinite(score) for score in scores)

    def weigh(self) -> None:
        """Each sample of a batch is answered as it is alone, by PEFT's own weighted sum of the subspaces."""
        trained, (batch, *alone) = TrainedRun.read(self.run), self._prompts(3)
        weights = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.05]])
        base = self._whole(trained)
        model, activation = trained.stacked(base)
        activation.set(weights, image_tokens=features_by_row(batch["input_ids"], batch, base.config))
        with torch.no_grad():
            found = model.eval()(**batch).logits
            expected = [
                weighted_by_peft(self._whole(trained), self.run, own.tolist())(**inputs).logits[0]
                for own, inputs in zip(weights, alone, strict=True)
            ]
            wrong = weighted_by_peft(self._whole(trained), self.run, weights[1].tolist())(**alone[0]).logits[0]
        apart = max((one - other).abs().max().item() for one, other in zip(found, expected, strict=True))
        matters = (wrong - expected[0]).abs().max().item()
        assert apart < min(1e-4, matters / 10), (apart, matters)

    @property
    def _sees(self) -> bool:
        return self.architecture.images

    def _whole(self, trained: TrainedRun) -> Any:
        base = self.model_class.from_pretrained(self.base, dtype=torch.float32).eval()
        trained.put_shared(base)
        return base

    def _prompts(self, count: int) -> list[dict[str, Any]]:
        """Prompts of equal length as the evaluation has them, all in a batch and each alone."""
        session = open_session(*get_train_args({**self.keys, "output_dir": str(self.folder / "prompts")}))
        evaluator, split = session.evaluator({}), session.pipeline.test("color")
        rows = [Row("color", i, split.features[i], split.instructions[i]) for i in range(count)]
        batches = [evaluator._inputs(batch) for batch in (rows, *([row] for row in rows))]
        return [
            {
                key: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
                for key, value in batch.items()
            }
            for batch in batches
        ]

    def export(self) -> None:
        """Merged it is a model of its own."""
        folder = self.folder / "merged"
        export_model(infer_args(self.keys, self.run, export_dir=str(folder), infer_dtype="float32"))
        model = self.model_class.from_pretrained(folder)
        assert not isinstance(model, PeftModel)
        assert all(value.isfinite().all() for value in model.parameters())

    def chat(self) -> None:
        """It answers, also about an image."""
        chat = ChatModel(infer_args(self.keys, self.run, max_new_tokens=3, do_sample=False, image_max_pixels=1024))
        assert chat.chat([{"role": "user", "content": "name the color red"}])[0].response_length > 0
        if self._sees:
            picture = Image.open(self.data / "datasets" / "blue.png")
            assert chat.chat([{"role": "user", "content": "name the color"}], images=[picture])[0].response_length > 0

    def predict(self) -> None:
        """LLaMA-Factory's own prediction."""
        keys = {key: value for key, value in self.keys.items() if not key.startswith("fcit_")}
        keys |= {"stage": "sft", "do_train": False, "do_predict": True, "predict_with_generate": True, "max_samples": 2}
        keys |= {"eval_dataset": "color,letter", "output_dir": str(self.folder / "predict"), "do_sample": False}
        run_recipe(keys | {"adapter_name_or_path": str(self.run)})
        assert len((self.folder / "predict" / "generated_predictions.jsonl").read_text().splitlines()) == 4

    def disco_plus(self) -> str | None:
        """All of it with `disco_plus`, or its refusal."""
        other = self.with_disco_plus()
        if AutoConfig.from_pretrained(self.base).model_type not in WITH_OWN_PROJECTORS:
            with pytest.raises(FcitError, match="Subspaces with projectors of their own"):
                other.train()
            return REFUSED
        for step in ("train", "evaluate", "own_projectors", "export", "chat", "predict"):
            getattr(other, step)()
        return None

    def with_disco_plus(self) -> "Walk":
        """The same with projectors of the subspaces' own, weighed by instruction and, where the tower is known, by image."""
        config = AutoConfig.from_pretrained(self.base)
        try:
            check_family(config, "both")
            source = "both"
        except FcitError:
            source = "text"
        changes = {"fcit_method": "disco_plus", "fcit_identity_source": source, "learning_rate": 0.05}
        return Walk(self.architecture, self.data, self.folder / "plus", changes)

    def own_projectors(self) -> None:
        """Each sample of a batch is seen with the projector of its subspace, and so is each adapter that is given away."""
        trained, (batch, *alone) = TrainedRun.read(self.run), self._prompts(3)
        first, second = trained.state.projectors
        assert any(not torch.equal(first[key], second[key]) for key in first)
        base = self._whole(trained)
        model, activation = trained.stacked(base)
        activation.set(torch.eye(2)[[0, 1, 0]], image_tokens=features_by_row(batch["input_ids"], batch, base.config))
        folder = self.folder / "adapters"
        export_adapters(self.run, folder, with_router=False)
        with torch.no_grad():
            found = model.eval()(**batch).logits
            expected = [self._apart(trained, k)(**inputs).logits[0] for k, inputs in zip((0, 1, 0), alone, strict=True)]
            wrong = self._apart(trained, 1)(**alone[0]).logits[0]
            given = PeftModel.from_pretrained(self._whole(trained), str(folder / "subspace_0")).eval()(**alone[0]).logits[0]
        apart = max((one - other).abs().max().item() for one, other in zip(found, expected, strict=True))
        matters = (wrong - expected[0]).abs().max().item()
        assert apart < min(1e-4, matters / 10), (apart, matters)
        torch.testing.assert_close(given, expected[0], atol=1e-4, rtol=1e-4)

    def _apart(self, trained: TrainedRun, k: int) -> Any:
        """A subspace by PEFT alone, on a base model that has its projector."""
        base = self.model_class.from_pretrained(self.base, dtype=torch.float32)
        missing = base.load_state_dict(trained.state.projectors[k], strict=False)
        assert not missing.unexpected_keys
        return PeftModel.from_pretrained(base, str(self.run / "subspaces" / str(k))).eval()


STEPS = ("plain", "train", "evaluate", "weigh", "export", "chat", "predict", "disco_plus")
#: What a step gives that ends, as it should, in a sentence.
REFUSED = "refused"
