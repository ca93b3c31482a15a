"""Bad recipes: the file itself, names, values, stages, and keys that cannot go together."""

from bench import Bench, Case


def recipe(name: str, content: str | bytes):
    """The command line for a recipe of this text."""

    def arguments(b: Bench) -> list[str]:
        path = b.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return ["train", str(path)]

    return arguments


FILE = [
    Case(
        "a recipe that is not there",
        ("fcit_missing.yaml", "No such file"),
        arguments=lambda b: ["train", "fcit_missing.yaml"],
    ),
    Case("a recipe that is not YAML", ("recipe.yaml", "line "), extra="fcit_beta: [1.0\nseed: 1\n"),
    Case("a tab in a recipe", ("recipe.yaml", "tab"), extra="\tseed: 1\n"),
    Case("a key given twice", ("recipe.yaml", "duplicate key fcit_num_rounds"), extra="fcit_num_rounds: 2\n"),
    Case("a recipe that is a list", ("list.yaml", "keys and values"), arguments=recipe("list.yaml", "- stage: fcit\n")),
    Case(
        "a recipe that is not UTF-8",
        ("latin.yaml", "UTF-8"),
        arguments=recipe("latin.yaml", "stage: fcit # für alle\n".encode("latin-1")),
    ),
    Case("a recipe in JSON", ("r.json", "YAML"), arguments=recipe("r.json", '{"stage": "fcit"}')),
    Case(
        "an override that is not YAML",
        ("command line", "recipe.yaml"),
        arguments=lambda b: ["train", str(b.recipe), "fcit_stages=[[color]"],
    ),
    Case(
        "flags that are no YAML",
        ("flags", "fix"),
        arguments=lambda b: ["train", "--stage", "fcit", "--fcit_stages", "[[color]"],
    ),
    Case("a value without a flag", ("`extra`", "--key value"), arguments=lambda b: ["train", "--stage", "fcit", "extra"]),
]

NAMES = [
    Case("an unknown fcit key", ("`fcit_num_client`", "`fcit_num_clients`"), {"fcit_num_client": 3}),
    Case("an unknown key of LLaMA-Factory's", ("`lora_rnk`", "`lora_rank`"), {"lora_rnk": 4}),
    Case("an unknown fcit stage", ("fcit_clint", "`fcit_client`"), {"stage": "fcit_clint"}),
    Case("an unknown setting", ("`fcit_setting`", "`task_hom`"), {"fcit_setting": "task_homo"}),
    Case("an unknown method", ("`fcit_method`", "`disco`"), {"fcit_method": "disko"}),
    Case("an unknown partition", ("`fcit_partition`", "`quantity`"), {"fcit_partition": "quantty"}),
    Case("an unknown server rule", ("`fcit_server_rule`", "`fedavg`"), {"fcit_server_rule": "fedavgg"}),
    Case("an unknown activation", ("`fcit_activation`", "`softmax`"), {"fcit_activation": "soft_max"}),
    Case(
        "an identity encoder that is not there",
        ("`fcit_identity_encoder: no/such`", "embedding"),
        {"fcit_identity_encoder": "no/such"},
        loads=True,
    ),
    Case("an unknown template", ("`template`", "`vicuna`"), {"template": "vicunna"}),
    Case("an unknown learning rate schedule", ("`lr_scheduler_type`", "`cosine`"), {"lr_scheduler_type": "cosin"}),
    Case("an unknown optimizer", ("`optim`", "adamw_torch"), {"optim": "adamv"}),
    Case("a bare no, which YAML reads as false", ("`save_strategy`", "quotes"), {"save_strategy": False}),
    Case("an unknown dataset", ("`colour`", "`color`"), {"fcit_stages": [["colour"]]}),
    Case(
        "a dataset without test records",
        ("`color_test`", "`fcit_eval_every: never`"),
        {"fcit_stages": [["color_test"]]},
    ),
    Case(
        "a LoRA target that matches nothing",
        ("`lora_target`", "`gate_proj`"),
        {"lora_target": "up_proj,gate_prj"},
        loads=True,
    ),
]

VALUES = [
    Case("a value of the wrong type", ("`fcit_num_rounds`", "int", "'many'"), {"fcit_num_rounds": "many"}),
    Case("a rank that is not a number", ("`lora_rank`", "int", "'four'"), {"lora_rank": "four"}),
    Case("a learning rate that is not a number", ("`learning_rate`", "float", "'fast'"), {"learning_rate": "fast"}),
    Case("a truth value that is none", ("`pure_bf16`", "bool", "'perhaps'"), {"pure_bf16": "perhaps"}),
    Case(
        "a key without a value",
        ("`fcit_num_rounds`", "take the key out"),
        {"fcit_num_rounds": None},
        extra="fcit_num_rounds:\n",
    ),
    Case("a beta of 0", ("`fcit_beta`", "greater than 0"), {"fcit_beta": 0}),
    Case("a beta that is not a number", ("`fcit_beta`", "nan"), {"fcit_beta": float("nan")}),
    Case("an infinite beta", ("`fcit_beta`", "finite"), {"fcit_beta": float("inf")}),
    Case("a threshold that is no cosine", ("`fcit_similarity_threshold`", "1.5"), {"fcit_similarity_threshold": 1.5}),
    Case("no clients", ("`fcit_num_clients`", "at least 1"), {"fcit_num_clients": 0}),
    Case("a LoRA rank of 0", ("`lora_rank`", "from 1 up"), {"lora_rank": 0}),
    Case("a negative LoRA rank", ("`lora_rank`", "from 1 up, got -4"), {"lora_rank": -4}),
    Case("a negative learning rate", ("`learning_rate`", "got -1"), {"learning_rate": -1}),
    Case("a batch of 0", ("`per_device_train_batch_size`", "from 1 up"), {"per_device_train_batch_size": 0}),
    Case("a negative seed", ("`seed`", "from 0 up"), {"seed": -1}),
    Case("a cutoff of 0", ("`cutoff_len`", "from 1 up"), {"cutoff_len": 0}),
    Case("no epochs", ("`num_train_epochs`", "greater than 0"), {"num_train_epochs": 0}),
]

STAGES = [
    Case("a stage without datasets", ("fcit_stages", "stage 1 is empty"), {"fcit_stages": [["color"], []]}),
    Case("no stage", ("`fcit_stages`",), {"fcit_stages": []}),
    Case("stages that are no list of lists", ("`fcit_stages`", "[[a], [b]]"), {"fcit_stages": [3]}),
    Case("a dataset twice in a stage", ("fcit_stages", "'color' twice"), {"fcit_stages": [["color", "color"]]}),
    Case("two stages alike", ("fcit_stages", "0 and 1", "fcit_schedule"), {"fcit_stages": [["color"], ["color"]]}),
    Case("a schedule for a task that is not there", ("fcit_schedule", "task 7"), {"fcit_schedule": [[0, 1], [7]]}),
    Case("a schedule that leaves a task out", ("fcit_schedule", "task 1"), {"fcit_schedule": [[0], [0]]}),
    Case(
        "a schedule for more clients than a round has",
        ("`fcit_schedule`", "stage 0", "`fcit_clients_per_round`"),
        {"fcit_schedule": [[0, 0, 1], [0]]},
    ),
    Case("stages beside a setting of the paper", ("`fcit_stages`", "custom"), {"fcit_setting": "task_hom"}),
    Case(
        "more clients in a round than there are",
        ("`fcit_clients_per_round` (4)", "`fcit_num_clients` (3)"),
        {"fcit_clients_per_round": 4},
    ),
]

TOGETHER = [
    Case("a fine-tuning type that is not LoRA", ("`finetuning_type: full`", "lora"), {"finetuning_type": "full"}),
    Case("datasets beside the stages", ("`dataset`", "`fcit_stages`"), {"dataset": "color"}),
    Case("packing pairs", ("`packing`", "leave it out"), {"packing": True, "fcit_local_stage": "dpo"}),
    Case("DoRA", ("`use_dora`", "take it out"), {"use_dora": True}),
    Case("an adapter to begin from", ("`adapter_name_or_path`",), {"adapter_name_or_path": "somewhere"}),
    Case("no template", ("`template`", "chat template"), {"template": None}),
    Case("no model", ("`model_name_or_path`", "provide"), {"model_name_or_path": None}),
    Case(
        "a learning rate for the projector of a text model",
        ("`fcit_projector_learning_rate`", "take the key out"),
        {"fcit_projector_learning_rate": 0.1, "freeze_multi_modal_projector": False},
        loads=True,
    ),
    Case(
        "a learning rate for a frozen projector",
        ("`fcit_projector_learning_rate`", "`freeze_multi_modal_projector: false`"),
        {"fcit_projector_learning_rate": 0.1},
    ),
    Case(
        "an fcit key in a recipe of another stage",
        ("`fcit_", "`stage: fcit`"),
        {"stage": "sft", "dataset": "color"},
    ),
    Case("a key of another fcit stage", ("`fcit_client`", "`stage: fcit_client`"), {"fcit_client": 1}),
    Case(
        "a client number that is too high",
        ("`fcit_client` is 3", "0 to 2"),
        {"stage": "fcit_client", "fcit_state_dir": "x", "fcit_client": 3},
    ),
    Case(
        "an fcit stage for chat",
        ("`stage: fcit`", "`llamafactory-cli train`"),
        arguments=lambda b: ["chat", str(b.recipe)],
    ),
]

CASES = [*FILE, *NAMES, *VALUES, *STAGES, *TOGETHER]
