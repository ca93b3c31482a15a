"""Keys of the continual methods: what there is to choose about each."""

from dataclasses import dataclass
from typing import Any

from .option import check_at_least, check_positive, option, settle_parameters

#: For each method of our own the keys that it takes, with its defaults.
PARAMETERS: dict[str, dict[str, Any]] = {
    "disco": {},
    "disco_plus": {},
    "fedavg": {},
    "ewc": {"fcit_ewc_lambda": 1000.0, "fcit_ewc_samples": 64},
    "lwf": {"fcit_lwf_alpha": 1.0, "fcit_lwf_temperature": 2.0},
    "o_lora": {"fcit_o_lora_lambda": 0.5},
    "moe_lora": {"fcit_num_experts": 8},
    "replay": {"fcit_replay_samples": 10},
}


@dataclass
class ContinualArguments:
    """The parameters of ``fcit_method``."""

    fcit_ewc_lambda: float | None = option(
        None, "Strength with which ewc holds weights that mattered for earlier stages (default 1000)."
    )
    fcit_ewc_samples: int | None = option(
        None, "Records on which a client of ewc measures how much its weights matter (default 64)."
    )
    fcit_lwf_alpha: float | None = option(None, "Weight of lwf's distillation from the stage's start (default 1).")
    fcit_lwf_temperature: float | None = option(None, "Temperature of lwf's distillation (default 2).")
    fcit_o_lora_lambda: float | None = option(
        None, "Weight of o_lora's term that keeps a stage's LoRA orthogonal to earlier ones (default 0.5)."
    )
    fcit_num_experts: int | None = option(
        None, "Experts that moe_lora divides `lora_rank` into; each token weighs them (default 8)."
    )
    fcit_replay_samples: int | None = option(
        None, "Records of each task that a client of replay keeps, to train on in later stages (default 10)."
    )

    def parse(self) -> None:
        """Nothing comes as text."""

    def check(self) -> None:
        """Refuse values that cannot work and keys of another method, and fill in the method's defaults."""
        settle_parameters(self, "fcit_method", "method", PARAMETERS)
        check_positive(self, "fcit_ewc_lambda", "fcit_lwf_alpha", "fcit_lwf_temperature", "fcit_o_lora_lambda")
        check_at_least(self, 1, "fcit_ewc_samples", "fcit_replay_samples")
        check_at_least(self, 2, "fcit_num_experts")
