"""Why methods and rules cannot be trained with some keys, where several have the same reason."""

WHOLE_GRADIENTS = "adds to gradients, which must be whole and not scaled"
#: Of methods with a LoRA for each stage (:mod:`.stage_loras`) whose terms look at its factors.
STAGE_LORAS = {
    "deepspeed": WHOLE_GRADIENTS,
    "fp16": WHOLE_GRADIENTS,
    "fcit_target_parameters": "looks at the factors of single layers, which in fused experts are of many",
    "fcit_local_stage": "keeps earlier subspaces acting, which the reference model lacks",
}
