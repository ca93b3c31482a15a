"""Keys and limits of MoELoRA; no torch, for recipes are checked with it."""

from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from ...arguments.option import Options, option
from ...errors import FcitError
from ...parts import Part


@dataclass
class MoeLoraOptions(Options):
    """Keys of ``fcit_method: moe_lora``."""

    fcit_num_experts: int = option(8, "Experts that `lora_rank` is divided into; each token weighs them.", least=2)

    @override
    def check_training(self, model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any) -> None:
        if finetuning_args.lora_rank % self.fcit_num_experts:
            raise FcitError(
                f"`lora_rank: {finetuning_args.lora_rank}` cannot be divided into {self.fcit_num_experts} experts; change it "
                "or `fcit_num_experts`."
            )


MOE_LORA = Part(
    "fcit_plugin.continual.moe_lora.method:MoeLora",
    MoeLoraOptions,
    {
        "deepspeed": "puts its routers in after the model is loaded, where ZeRO-3 does not see them",
        "fcit_target_parameters": "weighs a LoRA's parts for each token, and that of fused experts is added to their weights",
        "fcit_local_stage": "changes the adapter's layers, which the reference model switches off",
    },
)
