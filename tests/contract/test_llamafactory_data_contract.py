"""What we rely on in LLaMA-Factory's datasets and templates. A failure here names the behavior that an upgrade changed."""

import dataclasses
import inspect

import pytest
import torch

from fcit_plugin.recipe.request import DataRequest


def names(function):
    return list(inspect.signature(function).parameters)


class TestData:
    def test_a_user_and_a_tool_have_roles_of_their_own_and_every_template_a_form_for_each(self):
        from llamafactory.data.data_utils import Role
        from llamafactory.data.template import TEMPLATES

        assert (Role.USER, Role.OBSERVATION, Role.SYSTEM) == ("user", "observation", "system")
        forms = ("format_user", "format_assistant", "format_system", "format_observation")
        assert all(getattr(template, form).slots for template in TEMPLATES.values() for form in forms)

    def test_get_dataset_list_takes_names_and_folder(self):
        from llamafactory.data.parser import get_dataset_list

        assert names(get_dataset_list) == ["dataset_names", "dataset_dir"]

    def test_dataset_attr_join_reads_formatting_and_columns_and_shows_its_name(self):
        from llamafactory.data.parser import DatasetAttr

        attributes = DatasetAttr("file", dataset_name="x.json")
        attributes.join({"formatting": "fcit", "columns": {"messages": "c", "images": "i", "prompt": "p", "response": "r"}})
        found = [getattr(attributes, name) for name in ("formatting", "messages", "images", "prompt", "response")]
        assert found == ["fcit", "c", "i", "p", "r"]
        assert (attributes.ranking, attributes.load_from, str(attributes)) == (False, "file", "x.json")
        attributes.media_root, attributes.fcit_dataset = "/somewhere", "x"

    def test_get_dataset_list_takes_entries_in_place_of_a_folder(self):
        from llamafactory.data.parser import get_dataset_list

        entries = {"x": {"file_name": "x.json", "columns": {"prompt": "p"}}, "y": {"hf_hub_url": "someone/y"}}
        found = get_dataset_list(["y", "x"], entries)
        assert [(one.load_from, one.dataset_name, one.prompt) for one in found] == [
            ("hf_hub", "someone/y", "instruction"), ("file", "x.json", "p")
        ]  # fmt: skip

    def test_the_data_arguments_take_an_attribute_along_to_where_a_data_set_is_read(self, loaded, monkeypatch):
        from llamafactory.data import loader

        (model_args, data_args, training_args, *_), module, template = loaded
        data_args.fcit_request = request = DataRequest("/somewhere")
        seen, load = [], loader._load_single_dataset
        monkeypatch.setattr(loader, "_load_single_dataset", lambda *given: seen.append(given[2].fcit_request) or load(*given))
        loader.get_dataset(template, model_args, data_args, training_args, stage="sft", **module)
        assert seen == [request]

    def test_a_file_data_set_may_have_an_absolute_path(self, loaded, text_data):
        from llamafactory.data.loader import _load_single_dataset
        from llamafactory.data.parser import get_dataset_list

        (model_args, data_args, training_args, *_), _, _ = loaded
        (attributes,) = get_dataset_list(["color"], str(text_data))
        attributes.dataset_name = str(text_data / "color_train.json")
        found = _load_single_dataset(attributes, model_args, dataclasses.replace(data_args, dataset_dir="/none"), training_args)
        assert len(found) == 24

    def test_a_converter_is_a_dataclass_of_dataset_attr_and_data_args_and_a_name_is_taken_once(self):
        from llamafactory.data.converter import DatasetConverter, register_dataset_converter

        assert [field.name for field in dataclasses.fields(DatasetConverter)] == ["dataset_attr", "data_args"]
        assert names(register_dataset_converter) == ["name", "dataset_converter"]
        with pytest.raises(ValueError, match="already exists"):
            register_dataset_converter("fcit", DatasetConverter)

    def test_the_standard_form_has_these_columns(self, loaded):
        from llamafactory.data.loader import _get_merged_dataset

        (model_args, data_args, training_args, *_), _, _ = loaded
        found = _get_merged_dataset(["color"], model_args, data_args, training_args, stage="sft")
        assert {"_prompt", "_response", "_system", "_tools", "_images", "_videos", "_audios"} <= set(found.column_names)
        assert [set(turn) for turn in found[0]["_prompt"]] == [{"role", "content"}]
        assert [turn["role"] for turn in found[0]["_prompt"] + found[0]["_response"]] == ["user", "assistant"]

    def test_reading_and_preprocessing_take_these_arguments(self):
        from llamafactory.data import loader

        assert names(loader._load_single_dataset) == ["dataset_attr", "model_args", "data_args", "training_args"]
        assert names(loader.align_dataset) == ["dataset", "dataset_attr", "data_args", "training_args"]
        assert names(loader._get_preprocessed_dataset) == [
            "dataset", "data_args", "training_args", "stage", "template", "tokenizer", "processor", "is_eval"
        ]  # fmt: skip

    @pytest.mark.parametrize("generate", [False, True])
    def test_preprocessing_keeps_the_order_and_predict_with_generate_leaves_the_answer_out(self, loaded, generate):
        from llamafactory.data.loader import _get_merged_dataset, _get_preprocessed_dataset

        (model_args, data_args, training_args, *_), module, template = loaded
        training_args.predict_with_generate = generate
        aligned = _get_merged_dataset(["letter"], model_args, data_args, training_args, stage="sft")
        found = _get_preprocessed_dataset(aligned, data_args, training_args, "sft", template, is_eval=generate, **module)
        assert len(found) == len(aligned)
        for row, record in zip(found, aligned, strict=True):
            prompt, answer = template.encode_oneturn(module["tokenizer"], record["_prompt"] + record["_response"])
            assert row["input_ids"] == (prompt if generate else prompt + answer)

    def test_records_are_packed_by_their_lengths_within_each_batch_of_the_preprocessing(self, loaded):
        from llamafactory.data.loader import _get_merged_dataset, _get_preprocessed_dataset
        from llamafactory.data.processor.processor_utils import greedy_knapsack

        (model_args, data_args, training_args, *_), module, template = loaded
        rows = _get_merged_dataset(["letter"], model_args, data_args, training_args, stage="sft")
        data_args.preprocessing_batch_size = 7

        def process():
            return _get_preprocessed_dataset(rows, data_args, training_args, "sft", template, **module)

        lengths = [len(ids) for ids in process()["input_ids"]]
        data_args.packing, data_args.cutoff_len = True, 40
        packed = process()
        assert len(packed) == sum(len(greedy_knapsack(lengths[i : i + 7], 40)) for i in range(0, len(lengths), 7))
        assert {len(ids) for ids in packed["input_ids"]} == {41}

    def test_the_collator_takes_these_keywords_and_pads_labels(self, loaded):
        from llamafactory.data import SFTDataCollatorWith4DAttentionMask

        _, module, template = loaded
        collate = SFTDataCollatorWith4DAttentionMask(
            template=template,
            model=None,
            pad_to_multiple_of=8,
            label_pad_token_id=-100,
            block_diag_attn=False,
            neat_packing=False,
            attn_implementation="sdpa",
            compute_dtype=torch.float32,
            **module,
        )
        rows = [{"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1], "labels": [-100, 2, 3]},
                {"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [-100, 2]}]  # fmt: skip
        batch = collate(rows)
        assert batch["input_ids"].shape == (2, 8)
        assert (batch["labels"][1] == -100).sum() == 7

    def test_the_collator_pads_on_the_tokenizers_side(self, loaded):
        from llamafactory.data import SFTDataCollatorWith4DAttentionMask

        _, module, template = loaded
        module["tokenizer"].padding_side = "left"
        collate = SFTDataCollatorWith4DAttentionMask(template=template, model=None, pad_to_multiple_of=None, **module)
        batch = collate([{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [0]} for ids in ([5, 6, 7], [8])])
        assert batch["input_ids"].tolist() == [[5, 6, 7], [module["tokenizer"].pad_token_id] * 2 + [8]]


class TestTemplate:
    def test_encode_oneturn_gives_prompt_and_answer_with_a_stop_token(self, loaded):
        _, module, template = loaded
        turns = [{"role": "user", "content": "count"}, {"role": "assistant", "content": "two"}]
        prompt, answer = template.encode_oneturn(module["tokenizer"], turns)
        assert module["tokenizer"].decode(answer).split()[0] == "two"
        assert answer[-1] in template.get_stop_token_ids(module["tokenizer"])
        assert prompt and all(isinstance(token, int) for token in prompt + answer)

    def test_stop_token_ids_hold_eos(self, loaded):
        _, module, template = loaded
        stop = template.get_stop_token_ids(module["tokenizer"])
        assert isinstance(stop, list) and module["tokenizer"].eos_token_id in stop

    def test_templates_are_dataclasses_by_name_with_a_media_plugin(self):
        from llamafactory.data.template import TEMPLATES, get_mm_plugin

        assert {"smollm2", "llava", "vicuna"} <= TEMPLATES.keys()
        assert dataclasses.is_dataclass(TEMPLATES["smollm2"])
        assert type(TEMPLATES["llava"].mm_plugin) is type(get_mm_plugin(name="llava", image_token="<image>"))

    def test_a_reasoning_template_takes_its_thought_off_an_answer(self):
        """Qwen3's tags are no special tokens: without this no answer of such a model would ever match."""
        from llamafactory.data.template import TEMPLATES

        assert TEMPLATES["qwen3"].remove_thought("<think>\n\n</think>\n\nred") == "red"
        assert TEMPLATES["vicuna"].remove_thought("red") == "red"


class TestRecords:
    """What fcit_plugin.data.forms and raw_records say of LLaMA-Factory without importing it."""

    def test_files_are_of_these_kinds(self):
        from llamafactory.extras.constants import FILEEXT2TYPE

        from fcit_plugin.data.raw_records import FILE_KINDS

        assert FILE_KINDS == FILEEXT2TYPE

    @pytest.mark.parametrize(
        "entry",
        [
            {},
            {"formatting": "sharegpt", "ranking": True},
            {"columns": {"prompt": "p", "kto_tag": "t", "images": "i"}},
            {"formatting": "openai", "columns": {"messages": "m"}, "tags": {"role_tag": "role", "user_tag": "user"}},
        ],
    )
    def test_columns_and_tags_are_those_of_an_entry_or_all_of_the_defaults(self, entry):
        from llamafactory.data.parser import DatasetAttr

        from fcit_plugin.data.forms import COLUMNS, TAGS, Form

        attributes, form = DatasetAttr("file", dataset_name="x"), Form.of(entry)
        attributes.join(entry)
        assert (attributes.formatting, attributes.ranking) == (form.formatting, form.ranking)
        for key in (*COLUMNS, "history", "system", "tools", "images", "videos", "chosen", "rejected", "kto_tag"):
            assert getattr(attributes, key) == form.columns.get(key)
        for tag in TAGS:
            assert getattr(attributes, tag) == form.tags.get(tag)

    @pytest.mark.parametrize("use", ["sft", "rm", "kto", "test"])
    def test_processors_leave_records_out_by_their_numbers_of_turns(self, loaded, use):
        from llamafactory.data.loader import _get_dataset_processor

        from fcit_plugin.data.forms import leaves_out

        (_, data_args, *_), module, template = loaded
        stage = "sft" if use == "test" else use
        processor = _get_dataset_processor(data_args, stage, template, **module, do_generate=use == "test")
        turn = {"role": "user", "content": "count"}
        for prompt in range(4):
            for response in range(3):
                row = {"_prompt": [turn] * prompt, "_response": [turn] * response, "_system": "", "_tools": ""}
                if use != "kto" or response == 2:  # LLaMA-Factory takes the answer of the record before for the other one
                    rows = {key: [value] for key, value in (row | dict.fromkeys(("_images", "_videos", "_audios"))).items()}
                    made = processor.preprocess_dataset(rows)
                    assert leaves_out(prompt, response, use) == (not made.get("images")), (prompt, response)

    def test_a_converter_is_made_of_its_name_and_takes_one_record(self, loaded):
        from llamafactory.data.converter import get_dataset_converter
        from llamafactory.data.parser import DatasetAttr

        (_, data_args, *_), _, _ = loaded
        attributes = DatasetAttr("file", dataset_name="x")
        found = get_dataset_converter("alpaca", attributes, data_args)({"instruction": "a", "input": "", "output": "b"})
        assert [turn["content"] for turn in found["_prompt"] + found["_response"]] == ["a", "b"]

    def test_a_text_in_two_parts_is_learned_as_in_pretraining_with_the_empty_template(self):
        """What the guide says in place of `fcit_local_stage: pt`."""
        from llamafactory.data.processor import PretrainDatasetProcessor, SupervisedDatasetProcessor
        from llamafactory.data.template import TEMPLATES
        from llamafactory.hparams import DataArguments
        from tokens import byte_tokenizer

        template, told = TEMPLATES["empty"], DataArguments(template="empty", train_on_prompt=True, cutoff_len=200)
        tokenizer = byte_tokenizer(template)
        record = {key: [None] for key in ("_images", "_videos", "_audios")} | {"_system": [""], "_tools": [""]}

        def features(kind, prompt, response):
            turns = {"_prompt": [[{"role": "user", "content": prompt}]], "_response": [response]}
            return kind(template, tokenizer, None, told).preprocess_dataset(record | turns)

        whole = features(PretrainDatasetProcessor, "the first words and the rest", [])["input_ids"][0]
        parts = features(SupervisedDatasetProcessor, "the first words", [{"role": "assistant", "content": " and the rest"}])
        assert parts["input_ids"][0] == parts["labels"][0] == whole[:-1]
        assert whole[-1] == tokenizer.eos_token_id
