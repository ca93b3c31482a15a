"""The LoRA aggregations that are there, by the name that ``fcit_lora_aggregation`` takes; no torch."""

from collections.abc import Mapping

from ..parts import Part

_HERE = "fcit_plugin.adapters.aggregation"
_PRODUCTS = {"fcit_target_parameters": "takes products of whole layers, and the factors of fused experts are of many layers"}
_CHANGES_BASE = {
    **_PRODUCTS,
    "deepspeed_zero3": "changes the base weights, which ZeRO-3 divides among the processes",
    "quantization_bit": "changes the base weights, which are not there in full precision",
    "fcit_local_stage": "changes the base weights, which preferences are compared with",
}

LORA_AGGREGATIONS: Mapping[str, Part] = {
    "factors": Part(f"{_HERE}:LoraAggregation"),
    "ffa": Part(f"{_HERE}:Ffa"),
    "rotate": Part(f"{_HERE}:Rotate"),
    "refactor": Part(f"{_HERE}:Refactor", cannot_go_with=_PRODUCTS),
    "svd": Part(f"{_HERE}:Svd", cannot_go_with=_PRODUCTS),
    "exact": Part(f"{_HERE}:Exact", cannot_go_with=_CHANGES_BASE),
    "stack": Part(f"{_HERE}:Stack", cannot_go_with=_CHANGES_BASE),
}
