"""What we rely on in LLaMA-Factory. A failure here names the behavior that an upgrade changed."""

import dataclasses
import importlib
import inspect
import json
import re
import sys

import pytest
import tiny
import wrapt

from fcit_plugin.autoload import SEAMS
from fcit_plugin.state.names import MANIFEST

tuner = importlib.import_module("llamafactory.train.tuner")
parser = importlib.import_module("llamafactory.hparams.parser")


def names(function):
    return list(inspect.signature(function).parameters)


def parsed(text_model, text_data, tmp_path, **changes):
    keys = tiny.recipe(text_model, text_data, tmp_path / "out", stage="sft", dataset="color", **changes)
    return parser.get_train_args({k: v for k, v in keys.items() if not k.startswith("fcit_")})


class TestSeams:
    @pytest.mark.parametrize("name", SEAMS)
    def test_each_seams_module_exists(self, name):
        assert importlib.import_module(name)

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("llamafactory.hparams.parser", "get_train_args"),
            ("llamafactory.hparams.parser", "get_infer_args"),
            ("llamafactory.hparams.parser", "read_args"),
            ("llamafactory.hparams.parser", "get_ray_args"),
            ("llamafactory.launcher", "launch"),
            ("llamafactory.v1.launcher", "launch"),
            ("llamafactory.train.sft.workflow", "run_sft"),
            ("llamafactory.train.dpo.workflow", "run_dpo"),
            ("llamafactory.train.kto.workflow", "run_kto"),
            ("llamafactory.data.parser", "get_dataset_list"),
            ("llamafactory.model.adapter", "init_adapter"),
            # whoever took the name by "from ... import" came after the hook
            ("llamafactory.train.tuner", "get_train_args"),
            ("llamafactory.train.tuner", "read_args"),
            ("llamafactory.train.tuner", "get_ray_args"),
            ("llamafactory.train.tuner", "run_sft"),
            ("llamafactory.train.sft", "run_sft"),
            ("llamafactory.train.tuner", "run_dpo"),
            ("llamafactory.train.tuner", "run_kto"),
            ("llamafactory.data.loader", "get_dataset_list"),
            ("llamafactory.model.loader", "init_adapter"),
            ("llamafactory.model.patcher", "configure_quantization"),
            ("llamafactory.data.loader", "_get_preprocessed_dataset"),
            ("llamafactory.data.loader", "align_dataset"),
            ("llamafactory.chat.hf_engine", "load_model"),
        ],
    )
    def test_the_name_is_hooked_wherever_it_is_used(self, module, name):
        function = getattr(importlib.import_module(module), name)
        if name == "load_model":  # not hooked itself, its module has the hooked init_adapter
            function = sys.modules[function.__module__].init_adapter
        assert isinstance(function, wrapt.FunctionWrapper)

    @pytest.mark.parametrize("name", ["run_sft", "run_dpo", "run_kto"])
    def test_workflows_are_handed_callbacks(self, name):
        assert "callbacks" in names(getattr(tuner, name))

    def test_the_log_callback_hears_of_the_boards_button(self):
        from llamafactory.train.callbacks import LogCallback

        log = LogCallback()
        assert (log.aborted, log.webui_mode) == (False, False)
        log._set_abort(6, None)
        assert log.aborted

    def test_llama_board_tells_checkpoints_by_the_names_in_its_own_module(self):
        from llamafactory.extras import constants
        from llamafactory.webui import control

        assert MANIFEST in control.CHECKPOINT_NAMES > constants.CHECKPOINT_NAMES
        assert "CHECKPOINT_NAMES" in control.list_checkpoints.__code__.co_names

    def test_our_template_and_converter_are_registered(self):
        from llamafactory.data.converter import DATASET_CONVERTERS
        from llamafactory.data.template import TEMPLATES

        assert "smollm2_vl" in TEMPLATES
        assert "fcit" in DATASET_CONVERTERS


class TestArguments:
    def test_read_args_hands_dictionaries_and_lists_through(self):
        assert names(parser.read_args) == ["args"]
        for given in ({"a": 1}, ["--a", "1"]):
            assert parser.read_args(given) is given

    def test_read_args_reads_a_yaml_recipe_with_overrides_from_the_command_line(self, tmp_path, monkeypatch):
        path = tiny.write_recipe(tmp_path / "r.yaml", {"stage": "fcit", "fcit_stages": [["a"], ["b"]], "seed": 1})
        monkeypatch.setattr(sys, "argv", ["train", str(path), "seed=2", "fcit_beta=0.5"])
        assert parser.read_args() == {"stage": "fcit", "fcit_stages": [["a"], ["b"]], "seed": 2, "fcit_beta": 0.5}

    def test_get_train_args_returns_five_objects_in_the_order_that_run_stage_takes(self, train_args):
        kinds = [type(item).__name__ for item in train_args]
        assert kinds == [
            "ModelArguments",
            "DataArguments",
            "TrainingArguments",
            "FinetuningArguments",
            "GeneratingArguments",
        ]

    def test_get_infer_args_returns_four_objects_none_of_them_of_training(self, text_model):
        found = parser.get_infer_args({"model_name_or_path": str(text_model), "template": "vicuna"})
        assert [type(item).__name__ for item in found] == [
            "ModelArguments", "DataArguments", "FinetuningArguments", "GeneratingArguments"
        ]  # fmt: skip

    def test_the_argument_classes_can_be_extended_for_help(self):
        for known in (parser._TRAIN_ARGS, parser._INFER_ARGS):
            assert all(dataclasses.is_dataclass(cls) for cls in known)

    def test_arguments_take_further_attributes(self, train_args):
        train_args[3].fcit_request = 5
        assert train_args[3].fcit_request == 5

    def test_true_to_resume_is_left_to_the_trainer(self, text_model, text_data, tmp_path):
        assert parsed(text_model, text_data, tmp_path, resume_from_checkpoint=True)[2].resume_from_checkpoint is True

    @pytest.mark.parametrize(("held", "expected"), [("checkpoints/round-0003", None), ("checkpoint-7", "checkpoint-7")])
    def test_an_output_folder_with_its_own_checkpoints_alone_is_resumed_by_itself(
        self, text_model, text_data, tmp_path, held, expected
    ):
        (tmp_path / "out" / held).mkdir(parents=True)
        args = parsed(text_model, text_data, tmp_path)[2]
        assert args.resume_from_checkpoint == (str(tmp_path / "out" / expected) if expected else None)

    def test_unknown_keys_are_refused_by_name(self, text_model, text_data, tmp_path):
        with pytest.raises(ValueError, match="no_such_key"):
            parsed(text_model, text_data, tmp_path, no_such_key=1)

    @pytest.mark.parametrize(
        ("index", "attributes"),
        [
            (0, "model_name_or_path adapter_name_or_path use_unsloth block_diag_attn compute_dtype export_dir"),
            (1, "dataset dataset_dir max_samples media_dir template packing neat_packing streaming ignore_pad_token_for_loss"),
            (2, "seed data_seed output_dir process_index world_size report_to disable_tqdm max_steps num_train_epochs"
                " per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps save_strategy"
                " eval_strategy push_to_hub resume_from_checkpoint predict_with_generate overwrite_output_dir"
                " should_log hub_model_id hub_token hub_private_repo hub_revision save_total_limit"),
            (3, "stage finetuning_type freeze_multi_modal_projector additional_target use_dora pissa_init"),
            (4, "max_new_tokens"),
        ],
    )  # fmt: skip
    def test_the_arguments_that_we_read_exist(self, train_args, index, attributes):
        assert [name for name in attributes.split() if not hasattr(train_args[index], name)] == []


class TestWorkflow:
    def test_run_sft_takes_five_argument_objects_then_callbacks(self):
        from llamafactory.train.sft.workflow import run_sft

        assert names(run_sft) == [
            "model_args", "data_args", "training_args", "finetuning_args", "generating_args", "callbacks"
        ]  # fmt: skip

    def test_tuner_calls_run_sft_by_position(self):
        source = inspect.getsource(tuner._training_function)
        assert "run_sft(model_args, data_args, training_args, finetuning_args, generating_args, callbacks)" in source

    @pytest.mark.parametrize("stage", ["dpo", "kto"])
    def test_the_workflows_of_preference_data_take_four_argument_objects_then_callbacks(self, stage):
        workflow = importlib.import_module(f"llamafactory.train.{stage}.workflow")
        assert names(getattr(workflow, f"run_{stage}")) == [
            "model_args", "data_args", "training_args", "finetuning_args", "callbacks"
        ]  # fmt: skip
        called = f"run_{stage}(model_args, data_args, training_args, finetuning_args, callbacks)"
        assert called in inspect.getsource(tuner._training_function)

    @pytest.mark.parametrize("stage", ["dpo", "kto"])
    def test_without_a_reference_model_the_trainer_switches_the_adapter_off(self, stage):
        module = importlib.import_module(f"llamafactory.train.{stage}.trainer")
        trainer = getattr(module, f"Custom{stage.upper()}Trainer")
        assert names(trainer.__init__)[:5] == ["self", "model", "ref_model", "finetuning_args", "processor"]
        source = inspect.getsource(trainer.compute_reference_log_probs)
        assert "if self.ref_model is None:" in source and ".disable_adapter()" in source

    def test_the_trainer_takes_finetuning_args_processor_and_tokenizer_by_name(self):
        from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer

        given = names(CustomSeq2SeqTrainer.__init__)
        assert given[:3] == ["self", "finetuning_args", "processor"]
        assert given[-1] == "kwargs"
        assert 'kwargs.pop("tokenizer")' in inspect.getsource(CustomSeq2SeqTrainer.__init__)

    def test_save_processor_callback_can_be_named(self):
        from llamafactory.train.callbacks import SaveProcessorCallback
        from transformers import TrainerCallback

        assert issubclass(SaveProcessorCallback, TrainerCallback)

    def test_load_tokenizer_returns_tokenizer_and_processor(self, loaded):
        assert set(loaded[1]) == {"tokenizer", "processor"}

    def test_trainer_log_has_the_name_that_llamaboard_reads(self):
        from llamafactory.extras.constants import IGNORE_INDEX, TRAINER_LOG

        assert (TRAINER_LOG, IGNORE_INDEX) == ("trainer_log.jsonl", -100)


class TestModel:
    def test_init_adapter_takes_config_model_arguments_and_is_trainable(self):
        from llamafactory.model.adapter import init_adapter

        assert names(init_adapter) == ["config", "model", "model_args", "finetuning_args", "is_trainable"]

    def test_the_lora_is_made_by_a_name_of_the_module_that_fused_experts_change(self):
        from llamafactory.model import adapter
        from peft import LoraConfig

        assert adapter.LoraConfig is LoraConfig
        assert "LoraConfig" in adapter._setup_lora_tuning.__code__.co_names

    def test_liger_kernels_are_told_by_the_stage_whether_logits_are_needed(self):
        from llamafactory.model import loader
        from llamafactory.model.model_utils.liger_kernel import apply_liger_kernel

        assert names(apply_liger_kernel)[-1] == "require_logits"
        assert 'require_logits=(finetuning_args.stage not in ["pt", "sft"])' in inspect.getsource(loader.load_model)

    def test_composite_models_name_the_projector_of_llava(self, llava_model):
        from llamafactory.model.model_utils.visual import COMPOSITE_MODELS
        from transformers import AutoModelForImageTextToText

        keys = COMPOSITE_MODELS["llava"].projector_keys
        found = [n for n, _ in AutoModelForImageTextToText.from_pretrained(llava_model).named_parameters()]
        assert any(key in name for key in keys for name in found)

    def test_lora_tuning_leaves_the_projector_frozen_so_that_we_must_unfreeze_it(self, llava_model, image_data, tmp_path):
        from llamafactory.model import load_model, load_tokenizer

        keys = tiny.recipe(
            llava_model, image_data, tmp_path / "o", stage="sft", dataset="color", freeze_multi_modal_projector=False
        )
        model_args, _, _, finetuning_args, _ = parser.get_train_args(
            {k: v for k, v in keys.items() if not k.startswith("fcit_")}
        )
        tokenizer = load_tokenizer(model_args)["tokenizer"]
        model = load_model(tokenizer, model_args, finetuning_args, is_trainable=True)
        assert {n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n} == set()

    def test_a_lora_model_is_a_peft_model_with_the_adapter_default(self, loaded):
        from llamafactory.model import load_model

        (model_args, _, _, finetuning_args, _), module, _ = loaded
        model = load_model(module["tokenizer"], model_args, finetuning_args, is_trainable=True)
        assert list(model.peft_config) == ["default"]
        assert json.dumps(sorted(model.peft_config["default"].target_modules)) == '["down_proj", "gate_proj", "up_proj"]'


class TestChat:
    """The chat engine makes token ids of messages in one function, and hands what it returns to ``generate``."""

    def test_the_engine_takes_model_and_messages_by_these_names(self):
        from llamafactory.chat.hf_engine import HuggingfaceEngine

        assert {"model", "messages"} <= set(names(HuggingfaceEngine._process_args))
        assert isinstance(HuggingfaceEngine.__dict__["_process_args"], wrapt.FunctionWrapper)

    @pytest.mark.parametrize("name", ["_chat", "_stream_chat"])
    def test_both_ways_to_chat_pass_all_that_it_returns_to_generate_in_one_thread(self, name):
        from llamafactory.chat.hf_engine import HuggingfaceEngine

        source = inspect.getsource(getattr(HuggingfaceEngine, name))
        assert "HuggingfaceEngine._process_args(" in source
        assert "model.generate(**gen_kwargs)" in source or "Thread(target=model.generate, kwargs=gen_kwargs" in source

    def test_a_stream_is_started_and_read_within_its_place_and_nothing_else_ends_it(self):
        from llamafactory.chat.hf_engine import HuggingfaceEngine

        for name in ("stream_chat", "_stream_chat"):
            assert isinstance(HuggingfaceEngine.__dict__[name], wrapt.FunctionWrapper)
        assert "model" in names(HuggingfaceEngine._stream_chat)
        source = inspect.getsource(HuggingfaceEngine._stream_chat)
        for line in ('gen_kwargs["streamer"] = streamer', "return streamer.__next__()", "raise StopAsyncIteration()"):
            assert line in source
        assert inspect.isasyncgenfunction(HuggingfaceEngine.stream_chat)
        source = inspect.getsource(HuggingfaceEngine.stream_chat)
        assert re.search(r"input_args = \(\s*self\.model,", source), "the model of the engine that it is called on"
        place, start, read = (
            source.index(line)
            for line in (
                "async with self.semaphore:",
                "stream = self._stream_chat(*input_args)",
                "await asyncio.to_thread(stream)",
            )
        )
        assert place < start < read

    @pytest.mark.parametrize("name", ["create_chat_completion_response", "create_stream_chat_completion_response"])
    def test_the_api_answers_in_two_functions_of_request_and_chat_model(self, name):
        from llamafactory.api import app, chat

        assert names(getattr(chat, name)) == ["request", "chat_model"]
        assert isinstance(getattr(chat, name), wrapt.FunctionWrapper) and getattr(app, name) is getattr(chat, name)
        assert f"{name}(request, chat_model)" in inspect.getsource(app.create_app)

    def test_the_api_takes_requests_and_gives_replies_of_the_models_with_our_keys(self):
        from llamafactory.api import app, chat, protocol

        assert "fcit_subspace" in protocol.ChatCompletionRequest.model_fields
        assert app.ChatCompletionRequest is protocol.ChatCompletionRequest
        assert app.ChatCompletionResponse is chat.ChatCompletionResponse is protocol.ChatCompletionResponse
        assert "fcit" in protocol.ChatCompletionResponse.model_fields
        shown = protocol.ChatCompletionResponse.model_json_schema(mode="serialization")["properties"]
        assert {"choices", "usage", "fcit"} <= set(shown), "what /docs shows"

    def test_keyword_arguments_of_a_chat_reach_the_function_that_makes_token_ids(self):
        from llamafactory.chat import chat_model, hf_engine

        for call in ("achat", "astream_chat"):
            assert "**input_kwargs" in inspect.getsource(getattr(chat_model.ChatModel, call)).split("await")[-1]
        assert "input_kwargs" in names(hf_engine.HuggingfaceEngine._process_args)
        assert "chat_model = ChatModel()" in inspect.getsource(chat_model.run_chat)
        assert "chat_model.stream_chat(messages)" in inspect.getsource(chat_model.run_chat)

    def test_the_chat_of_the_command_line_reads_lines_by_a_name_that_its_module_can_have(self):
        from llamafactory.chat import chat_model

        code = chat_model.run_chat.__wrapped__.__code__
        assert "input" in code.co_names and "input" not in vars(chat_model)
        source = inspect.getsource(chat_model.run_chat)
        assert source.count("input(") == 1 and source.index("ChatModel()") < source.index("input(")

    def test_requests_run_in_threads_as_many_as_max_concurrent(self):
        from llamafactory.chat.hf_engine import HuggingfaceEngine

        assert 'asyncio.Semaphore(int(os.getenv("MAX_CONCURRENT", "1")))' in inspect.getsource(HuggingfaceEngine)
        assert "asyncio.to_thread(self._chat, *input_args)" in inspect.getsource(HuggingfaceEngine.chat)
