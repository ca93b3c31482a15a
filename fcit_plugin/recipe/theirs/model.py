"""LLaMA-Factory's ``ModelArguments``."""

from .row import Rows, beside, learned, refused, refused_later, shown, without_effect

_KT = "KTransformers keeps experts on the CPU in a form of its own, which subspaces cannot be written into; take it out"
_OUT_OF_MODEL = "it changes the layers of the base model, which what is learned would have to be used with; take it out"
_TOKENS = (
    "new tokens need embeddings that are trained with the subspaces, and clients train subspaces alone; add them to the base "
    "model first"
)

MODEL: Rows = {
    **shown("engine/test_run_text.py::test_the_manifest_says_how_to_use_the_subspaces", "", "model_name_or_path"),
    **shown(
        "engine/test_continuation.py::test_two_runs_end_in_the_same_bits_as_one",
        "the output folder of a run to go on from",
        "adapter_name_or_path",
    ),
    **refused("a run goes on from an output folder of its own, named by `adapter_name_or_path` alone", "adapter_folder"),
    **learned(
        "",
        cache_dir="{tmp}/cache",
        use_fast_tokenizer=False,
        split_special_tokens=True,
        model_revision="other",
        flash_attn="disabled",
        moe_aux_loss_coef=0.1,
        upcast_layernorm=True,
        upcast_lmhead_output=True,
        offload_folder="{tmp}/offload",
        hf_hub_token="secret",
        ms_hub_token="secret",
        om_hub_token="secret",
        print_param_status=True,
        trust_remote_code=True,
    ),
    **learned("tried on a CPU alone", low_cpu_mem_usage=False),
    **learned(
        "up to the model's own length; beyond, LLaMA-Factory 0.9.5 fails with transformers 5.6 and Llama's configuration",
        rope_scaling="linear",
    ),
    **refused(_TOKENS, "resize_vocab"),
    **refused_later(
        "engine/test_owners.py::test_what_would_be_trained_and_belong_to_nobody_ends_the_run_before_it_is",
        f"where the base model has not these tokens already: {_TOKENS}",
        "add_tokens",
        "add_special_tokens",
        "new_special_tokens_config",
    ),
    **without_effect("it belongs to new tokens, which cannot be added", init_special_tokens="desc_init"),
    **refused(_OUT_OF_MODEL, "shift_attn", "mixture_of_depths"),
    **learned("on a GPU", use_unsloth_gc=beside(True, disable_gradient_checkpointing=False)),
    **shown(
        "engine/test_liger.py::test_every_method_trains_without_logits_or_is_refused_by_name",
        "needs its package and a GPU; refused by name where the method's loss takes logits, and on fused experts",
        "enable_liger_kernel",
    ),
    **refused("Unsloth replaces the model and its trainer; take it out", "use_unsloth"),
    **refused("these kernels replace layers for devices that the plugin is not tested on; take it out", "use_v1_kernels"),
    **refused(
        "the random base model would not be kept, and what is learned fits no other one; take it out", "train_from_scratch"
    ),
    **refused("it is for chat and api; take it out", "infer_backend"),
    **shown("recipe/test_training_keys.py::test_the_same_is_learned", "", "disable_gradient_checkpointing", "use_reentrant_gc"),
    **without_effect("for chat, api and predict", use_kv_cache=False, infer_dtype="float32"),
    **shown("engine/test_qlora.py::test_one_client_learns_what_llamafactory_learns_in_four_bits", "", "quantization_bit"),
    **learned(
        "with `quantization_bit: 4`",
        quantization_type=beside("fp4", quantization_bit=4),
        double_quantization=beside(False, quantization_bit=4),
    ),
    **learned("which package quantizes; bitsandbytes is tested", quantization_method=beside("bnb", quantization_bit=4)),
    **refused("LLaMA-Factory refuses it in training; take it out", "quantization_device_map"),
    **learned(
        "",
        image_max_pixels=beside(100, image_min_pixels=4),
        image_min_pixels=400,
        image_do_pan_and_scan=True,
        crop_to_patches=True,
        video_max_pixels=1024,
        video_min_pixels=64,
        video_fps=1.0,
        video_maxlen=4,
        use_audio_in_video=True,
        audio_sampling_rate=8000,
    ),
    **refused("LLaMA-Factory would quantize the base model in training too; it is for export", "export_quantization_bit"),
    **without_effect(
        "for `llamafactory-cli export`",
        export_dir="{tmp}/export",
        export_size=1,
        export_device="auto",
        export_quantization_dataset="c4",
        export_quantization_nsamples=2,
        export_quantization_maxlen=8,
        export_legacy_format=True,
        export_hub_model_id="somebody/something",
    ),
    **refused(
        _KT,
        "use_kt",
        "kt_weight_path",
        "kt_expert_checkpoint_path",
        "kt_use_lora_experts",
        "kt_lora_expert_num",
        "kt_lora_expert_intermediate_size",
    ),
    **without_effect(
        "for chat and api with vLLM or SGLang",
        vllm_maxlen=8,
        vllm_gpu_util=0.5,
        vllm_enforce_eager=True,
        vllm_max_lora_rank=4,
        vllm_config={"a": 1},
        sglang_maxlen=8,
        sglang_mem_fraction=0.5,
        sglang_tp_size=1,
        sglang_config={"a": 1},
        sglang_lora_backend="flashinfer",
    ),
}
