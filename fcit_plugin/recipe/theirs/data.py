"""LLaMA-Factory's ``DataArguments``."""

from .row import Rows, learned, refused, shown, without_effect

_TESTS = "recipe/test_evaluation_keys.py"

DATA: Rows = {
    **shown("seams/test_plain_run.py", "", "template"),
    **shown(
        f"{_TESTS}::test_datasets_without_stages_are_offered_both_ways",
        "with `stage: fcit_client` a site's own data; with `stage: fcit` the stages name the datasets",
        "dataset",
    ),
    **shown(
        f"{_TESTS}::test_eval_dataset_names_the_test_records",
        "the test records of the datasets of `fcit_stages`, one for each, in their order",
        "eval_dataset",
    ),
    **shown(
        f"{_TESTS}::test_val_size_keeps_records_back_for_the_test",
        "test records for each dataset that has none, which nobody trains on: a part of it, or a number",
        "val_size",
    ),
    **shown("data/test_plain_data.py", "", "dataset_dir", "media_dir"),
    **learned(
        "",
        cutoff_len=6,
        train_on_prompt=True,
        mask_history=True,
        overwrite_cache=True,
        preprocessing_batch_size=2,
        preprocessing_num_workers=1,
        max_samples=7,
        ignore_pad_token_for_loss=False,
        tool_format="default",
        default_system="please",
        enable_thinking=False,
        preserve_thinking=True,
        data_shared_file_system=True,
    ),
    **refused("clients need all records to be dealt out", "streaming"),
    **refused("it belongs to `streaming`", "buffer_size"),
    **refused(
        "the datasets of a task are dealt out as they are; put a mixture into a file of its own",
        "mix_strategy",
        "interleave_probs",
    ),
    **refused("answers of the evaluation are greedy; beams are for chat and predict", "eval_num_beams"),
    **without_effect("each dataset is always scored by itself", eval_on_each_dataset=True),
    **shown(
        "engine/test_packing.py::test_one_client_learns_what_llamafactory_learns_from_packed_records",
        "",
        "packing",
        "neat_packing",
    ),
    **refused("clients' parts are taken from records as they are read; take it out", "tokenized_path"),
}

GENERATING: Rows = {
    **shown(
        "engine/test_evaluator.py::test_answers_are_those_of_a_greedy_search_free_and_within_the_labels", "", "max_new_tokens"
    ),
    **without_effect(
        "answers of the evaluation are greedy; for chat, api and predict",
        do_sample=False,
        temperature=0.1,
        top_p=0.1,
        top_k=2,
        num_beams=2,
        max_length=8,
        repetition_penalty=2.0,
        length_penalty=2.0,
        skip_special_tokens=False,
    ),
}
