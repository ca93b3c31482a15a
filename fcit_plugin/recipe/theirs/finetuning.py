"""LLaMA-Factory's ``FinetuningArguments``."""

from .row import Rows, beside, learned, refused, shown, without_effect

_FREEZE = "it belongs to `finetuning_type: freeze`, and subspaces are LoRA adapters"
_OFT = "it belongs to `finetuning_type: oft`, and subspaces are LoRA adapters"
_PISSA = "PiSSA takes the adapter's first value out of the base weights, which all subspaces share; take it out"
_PPO = "it belongs to `stage: ppo`, and clients train with `fcit_local_stage` sft, dpo or kto"
_GALORE = "GaLore is for optimizers of whole weights, and clients train LoRA adapters"
_APOLLO = "APOLLO is for optimizers of whole weights, and clients train LoRA adapters"
_BADAM = "BAdam is for optimizers of whole weights, and clients train LoRA adapters"
_REFERENCE = "the reference is the base model with the subspace switched off; take it out"
_ASFT = "ASFT compares with a second copy of the model, which clients do not have; take it out"
_SWANLAB = "recipe/test_callbacks.py::test_swanlab_hears_of_a_run_what_report_to_would"
_DPO, _KTO = {"fcit_local_stage": "dpo"}, {"fcit_local_stage": "kto"}

FINETUNING: Rows = {
    **shown("recipe/test_arguments.py::test_a_good_recipe_parses_to_sft_with_our_arguments_beside", "", "stage"),
    **shown(
        "recipe/test_arguments.py::test_a_recipe_that_cannot_work_gives_one_sentence_that_names_the_key",
        "lora; others are refused",
        "finetuning_type",
    ),
    **learned("with `use_llama_pro: true`", freeze_trainable_layers=beside(1, use_llama_pro=True)),
    **learned("", use_llama_pro=beside(True, freeze_trainable_layers=1)),
    **refused(_FREEZE, "freeze_trainable_modules", "freeze_extra_modules"),
    **refused("clients train subspaces alone; put these modules into `lora_target`", "additional_target"),
    **refused(_OFT, "module_dropout", "oft_rank", "oft_block_size", "oft_target"),
    **refused("each subspace is a new adapter; take it out", "create_new_adapter"),
    **learned(
        "",
        lora_alpha=3,
        lora_dropout=0.3,
        lora_rank=2,
        lora_target="q_proj,up_proj",
        loraplus_lr_ratio=4.0,
        loraplus_lr_embedding=beside(1e-3, loraplus_lr_ratio=4.0),
        use_rslora=True,
        use_muon=True,
        use_dft_loss=True,
        use_eaft_loss=True,
        eaft_alpha=beside(0.5, use_eaft_loss=True),
        disable_shuffling=True,
    ),
    **refused("DoRA's magnitudes cannot be averaged with the factors; take it out", "use_dora"),
    **refused(_PISSA, "pissa_init", "pissa_iter", "pissa_convert"),
    **learned("with `fcit_local_stage` dpo or kto", pref_beta=beside(0.5, **_DPO), pref_ftx=beside(0.5, **_DPO)),
    **learned(
        "with `fcit_local_stage: dpo`",
        pref_bco_weight=beside(0.5, **_DPO),
        pref_loss=beside("ipo", **_DPO),
        dpo_label_smoothing=beside(0.1, **_DPO),
        simpo_gamma=beside(0.1, pref_loss="simpo", **_DPO),
        ld_alpha=beside(0.5, **_DPO),
    ),
    **learned("with `fcit_local_stage: kto`", kto_chosen_weight=beside(2.0, **_KTO), kto_rejected_weight=beside(2.0, **_KTO)),
    **refused(
        _PPO,
        "ppo_buffer_size",
        "ppo_epochs",
        "ppo_score_norm",
        "ppo_target",
        "ppo_whiten_rewards",
        "reward_model",
        "reward_model_adapters",
        "reward_model_quantization_bit",
        "reward_model_type",
    ),
    **refused(_REFERENCE, "ref_model", "ref_model_adapters", "ref_model_quantization_bit"),
    **refused(
        _GALORE,
        "use_galore",
        "galore_target",
        "galore_rank",
        "galore_update_interval",
        "galore_scale",
        "galore_proj_type",
        "galore_layerwise",
    ),
    **refused(
        _APOLLO,
        "use_apollo",
        "apollo_target",
        "apollo_rank",
        "apollo_update_interval",
        "apollo_scale",
        "apollo_proj",
        "apollo_proj_type",
        "apollo_scale_type",
        "apollo_layerwise",
        "apollo_scale_front",
    ),
    **refused(
        _BADAM,
        "use_badam",
        "badam_mode",
        "badam_start_block",
        "badam_switch_mode",
        "badam_switch_interval",
        "badam_update_ratio",
        "badam_mask_mode",
        "badam_verbose",
    ),
    **shown(
        _SWANLAB,
        "what `report_to` gets of a run goes to SwanLab",
        "use_swanlab",
        "swanlab_project",
        "swanlab_workspace",
        "swanlab_run_name",
        "swanlab_mode",
        "swanlab_api_key",
        "swanlab_logdir",
        "swanlab_lark_webhook_url",
        "swanlab_lark_secret",
    ),
    **shown("engine/test_dry_run.py::test_keys_that_need_devices_are_counted_without_them", "on a GPU", "pure_bf16"),
    **refused("it is for tuning all weights; take `optim` for another optimizer", "use_adam_mini"),
    **refused("Megatron has trainers and weights of its own; take it out, and USE_MCA=1 too", "use_mca"),
    **refused("HyperParallel tunes all weights; take it out", "use_hyper_parallel", "hyper_parallel_args"),
    **refused(_ASFT, "use_asft_loss", "asft_alpha"),
    **refused("clients train subspaces and the projector, which alone are averaged; take it out", "freeze_vision_tower"),
    **shown(
        "engine/test_run_llava.py::test_the_projector_is_trained_and_saved_under_the_base_models_names",
        "",
        "freeze_multi_modal_projector",
    ),
    **refused("subspaces sit in the language model; take it out", "freeze_language_model"),
    **refused(
        "answers are scored by the datasets' metrics (`fcit_metric` in dataset_info.json); take it out", "compute_accuracy"
    ),
    **refused(
        "each client trains as long as the recipe says, so that rounds can be compared; take it out", "early_stopping_steps"
    ),
    **without_effect("a run always draws its loss", plot_loss=True),
    **without_effect("a run's report has the seconds of its training", include_effective_tokens_per_second=True),
}
