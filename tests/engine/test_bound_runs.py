"""The bounds (``fcit_bound``) against recipes that say the same at length, and against each other."""

import json
import statistics
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from runs import ROOT, report_of, run_recipe, weight_bytes

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.evaluation.report import Report, table
from fcit_plugin.evaluation.side_by_side import compare, summary_rows
from fcit_plugin.recipe.bounds import bound_recipe
from fcit_plugin.scenario.partitioners import PARTITIONERS
from fcit_plugin.scenario.sampling import sample_clients
from fcit_plugin.state.checkpoints import FOLDER
from fcit_plugin.state.folder import StateFolder


def weights_of(folder):
    """The adapters and the projector of one run, without its commits."""
    return {name: data for name, data in weight_bytes(folder).items() if FOLDER not in Path(name).parts}


def rewritten(recipe):
    """LLaMA-Factory's keys and the fcit keys of a recipe's bound."""
    rest = {key: value for key, value in recipe.items() if not key.startswith("fcit_")}
    fcit = FcitArguments(**{key: value for key, value in recipe.items() if key.startswith("fcit_")})
    return rest, bound_recipe(rest, fcit)


class TestCentralized:
    def test_the_mini_recipe_becomes_one_client_with_all_data_and_rank_64(self):
        recipe = yaml.safe_load((ROOT / "recipes" / "fcit_mini_disco.yaml").read_text())
        rest, fcit = rewritten(recipe | {"fcit_bound": "centralized"})
        assert (rest["lora_rank"], rest["lora_alpha"], rest["num_train_epochs"]) == (64, 128, 4.0)
        names = ["imagenet_r", "arxivqa", "iconqa", "clevr_math", "ocrvqa", "flickr30k", "figureqa", "super_clevr"]
        assert fcit.fcit_stages == [[f"fcit_{name}" for name in names]]
        assert (fcit.fcit_num_clients, fcit.fcit_clients_per_round, fcit.fcit_num_rounds) == (1, 1, 1)
        assert (fcit.fcit_setting, fcit.fcit_method) == ("custom", "sequential")

    @pytest.mark.parametrize(("name", "rank", "epochs"), [("fcit_llava15_7b_task", 64, 1.0), ("fcit_llava15_7b_cap", 32, 1.0)])
    def test_the_papers_recipes_get_its_total_rank_and_one_pass(self, name, rank, epochs):
        recipe = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())
        rest, _ = rewritten(recipe | {"fcit_bound": "centralized"})
        assert (rest["lora_rank"], rest["lora_alpha"], rest["num_train_epochs"]) == (rank, 2 * rank, epochs)

    def test_at_equal_passes_a_record_is_seen_as_often_as_in_the_federated_run_and_no_oftener(self):
        """3 rounds of 3 of 10 clients in each of 8 stages of one task: 0.9 of the records, once for each of the epochs."""
        recipe = yaml.safe_load((ROOT / "recipes" / "fcit_mini_disco.yaml").read_text())
        rest, fcit = rewritten(recipe | {"fcit_bound": "centralized_equal"})
        assert rest["num_train_epochs"] == pytest.approx(0.9 * 4.0)
        assert (rest["lora_rank"], fcit.fcit_num_clients) == (64, 1)

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({"num_train_epochs": 2.0}, {"num_train_epochs": 6.0}),  # 6 rounds of 2 of 4 clients pass 3 times
            ({}, {"num_train_epochs": 9.0}),  # LLaMA-Factory's default is 3
            ({"max_steps": 5}, {"max_steps": 5 * 6 * 2 * 2}),  # two stages
            ({"lora_rank": 4}, {"lora_rank": 8, "lora_alpha": 16}),
            ({"lora_rank": 4, "lora_alpha": 4}, {"lora_rank": 8, "lora_alpha": 8}),
            ({}, {"lora_rank": 16, "lora_alpha": 32}),
        ],
    )
    def test_it_passes_over_the_data_as_often_and_is_as_large(self, keys, expected):
        fcit = {"fcit_setting": "custom", "fcit_stages": [["a"], ["b"]], "fcit_bound": "centralized"}
        fcit |= {"fcit_num_clients": 4, "fcit_clients_per_round": 2, "fcit_num_rounds": 6}
        rest, _ = rewritten(keys | fcit)
        assert {key: rest[key] for key in expected} == expected

    @pytest.mark.parametrize("bound", ["centralized", "centralized_equal"])
    @pytest.mark.parametrize("rslora", [True, False])
    @pytest.mark.parametrize("tasks", [1, 2, 3, 4, 8])
    def test_peft_scales_it_as_it_scales_a_subspace(self, bound, rslora, tasks):
        lora = {"lora_rank": 4, "lora_alpha": 8, "use_rslora": rslora}
        stages = {"fcit_setting": "custom", "fcit_stages": [[f"t{k}"] for k in range(tasks)], "fcit_bound": bound}
        rest, _ = rewritten(lora | stages)

        def scale(keys):
            names = {"r": "lora_rank", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora"}
            config = LoraConfig(target_modules=["0"], **{name: keys[key] for name, key in names.items()})
            return get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config).base_model.model[0].scaling["default"]

        assert rest["lora_rank"] == 4 * tasks
        assert scale(rest) == pytest.approx(scale(lora), rel=1e-12)

    def test_it_runs_where_alpha_is_no_whole_number(self, text_recipe):
        recipe = text_recipe(use_rslora=True, fcit_bound="centralized", fcit_num_rounds=1, fcit_zero_shot=False)
        config = StateFolder(run_recipe(recipe)).adapter_config
        assert (config["r"], config["lora_alpha"]) == (8, 8 * 2**0.5)

    @pytest.mark.parametrize("name", PARTITIONERS)
    def test_whoever_had_which_records_one_client_has_all(self, name):
        keys = {"fcit_partition": name, "fcit_setting": "task_hom", "fcit_bound": "centralized"}
        _, fcit = rewritten(keys | ({"fcit_partition_column": "who"} if name == "natural" else {}))
        assert (fcit.fcit_partition, fcit.fcit_partition_column) == ("iid", None)

    def test_it_is_the_run_that_a_recipe_of_one_client_describes(self, llava_recipe):
        both = {"freeze_multi_modal_projector": False, "fcit_eval_restricted": False}
        found = run_recipe(llava_recipe("key", **both, fcit_bound="centralized"))
        at_length = {"lora_rank": 8, "lora_alpha": 16, "num_train_epochs": 4 / 3, "fcit_method": "sequential"}
        at_length |= {"fcit_stages": [["color", "letter"]], "fcit_num_clients": 1, "fcit_clients_per_round": 1}
        expected = run_recipe(llava_recipe("length", **both, **at_length, fcit_num_rounds=1))
        assert weights_of(found) == weights_of(expected)
        report, other = report_of(found), report_of(expected)
        for key in ("accuracy", "zero_shot", "last", "bytes_up", "bytes_down", "assignments"):
            assert report[key] == other[key]
        assert (report["method"], report["reference"], report["setting"]) == ("centralized", "centralized", "custom")
        assert other["reference"] is None


def test_zero_shot_is_the_row_untuned_of_every_run_and_trains_nothing(text_recipe, text_run, capsys):
    output_dir = run_recipe(text_recipe(fcit_bound="zero_shot"))
    shown = capsys.readouterr().out
    report, other = report_of(output_dir), report_of(text_run)
    assert report["zero_shot"] == other["zero_shot"]
    assert report["last"] == pytest.approx(sum(other["zero_shot"].values()) / 2)
    assert (report["accuracy"], report["assignments"]) == ([], [])
    assert (report["bytes_up"], report["bytes_down"]) == (0, 0)
    assert (report["method"], report["reference"]) == ("zero_shot", "zero_shot")
    assert "untuned" in shown and f"Last {report['last']:.2f}" in shown
    assert not list(output_dir.glob("subspaces/*"))


@pytest.mark.parametrize("reference", ["zero_shot", "centralized", "centralized_equal", "local"])
def test_what_a_server_does_to_updates_plays_no_part_in_a_bound(reference):
    fcit = {"fcit_server_rule": "krum", "fcit_num_malicious": 1, "fcit_min_replies": 3, "fcit_max_subspaces": 2}
    _, found = rewritten(fcit | {"fcit_max_update_norm": 1.0, "fcit_bound": reference})
    assert (found.fcit_server_rule, found.fcit_num_malicious, found.fcit_min_replies) == ("fedavg", None, 1)
    assert (found.fcit_max_subspaces, found.fcit_max_update_norm) == (None, None)


class TestLocal:
    """Clients that learn alone: all three of the tiny recipe, and two of them."""

    @pytest.fixture(scope="class")
    @staticmethod
    def all_three(llava_keys, tmp_path_factory):
        keys = llava_keys | {"output_dir": str(tmp_path_factory.mktemp("local") / "three"), "fcit_bound": "local"}
        keys |= {"fcit_clients_per_round": 3, "fcit_keep_client_updates": False, "learning_rate": 0.05}
        return keys, run_recipe(keys)

    def test_likelihoods_are_means_over_the_clients(self, all_three):
        _, folder = all_three
        whole, *each = (report_of(path)["likelihood"][-1] for path in (folder, *sorted(folder.glob("client_*"))))
        assert whole == pytest.approx([sum(column) / 3 for column in zip(*each, strict=True)])

    def test_nobody_learns_from_another(self, all_three, tmp_path):
        keys, three = all_three
        two = run_recipe(keys | {"output_dir": str(tmp_path / "two"), "fcit_clients_per_round": 2})
        clients = sample_clients(3, 2, seed=42, stage=0, round=0)
        assert sorted(path.name for path in two.glob("client_*")) == sorted(f"client_{c}" for c in clients)
        for client in clients:
            assert weights_of(two / f"client_{client}") == weights_of(three / f"client_{client}")
        distinct = {weight_bytes(three / f"client_{c}")["shared.safetensors"] for c in range(3)}
        assert len(distinct) == 3, "each client has a projector of its own"

    def test_a_client_keeps_one_lora_and_its_own_data_through_all_stages(self, all_three):
        _, three = all_three
        for client in range(3):
            rows = report_of(three / f"client_{client}")["assignments"]
            assert [(row["stage"], row["round"], row["client"], row["subspace"]) for row in rows] == [
                (stage, round, client, 0) for stage in range(2) for round in range(2)
            ]

    def test_a_federation_of_one_client_is_that_client_alone(self, text_recipe):
        one = {"fcit_num_clients": 1, "fcit_clients_per_round": 1, "fcit_eval_restricted": False}
        alone = run_recipe(text_recipe("alone", **one, fcit_bound="local"))
        expected = run_recipe(text_recipe("fedavg", **one, fcit_method="sequential"))
        assert weights_of(alone / "client_0") == weights_of(expected)
        report, other = report_of(alone), report_of(expected)
        for key in ("accuracy", "zero_shot", "last", "avg", "forgetting", "bwt", "fwt"):
            assert report[key] == other[key]
        assert set(report["spread"].values()) == {None}

    def test_the_report_is_the_mean_over_the_clients_with_its_spread(self, all_three):
        _, three = all_three
        report = report_of(three)
        each = {str(client): report_of(three / f"client_{client}") for client in range(3)}
        for key in ("last", "avg", "forgetting", "bwt"):
            values = [one[key] for one in each.values()]
            assert report[key] == pytest.approx(statistics.mean(values))
            assert report["spread"][key] == pytest.approx(statistics.stdev(values))
            assert report["clients"] == {
                client: {k: one[k] for k in ("last", "avg", "forgetting", "bwt")} for client, one in each.items()
            }
        assert (report["bytes_up"], report["bytes_down"]) == (0, 0)
        assert f"Last {report['last']:.2f} ± {report['spread']['last']:.2f}" in table(Report.read(three))
        first, second = report["accuracy"]
        assert first[1] is None
        for column in range(2):
            assert second[column] == pytest.approx(statistics.mean(one["accuracy"][1][column] for one in each.values()))

    @pytest.mark.parametrize("ended", [False, True])
    def test_a_run_that_is_started_again_goes_on_where_it_stopped(self, all_three, ended):
        keys, three = all_three
        before = weights_of(three)
        if not ended:
            (three / "fcit_report.json").unlink()
        run_recipe(keys)
        assert weights_of(three) == before
        assert (three / "fcit_report.json").exists()


@pytest.mark.parametrize("reference", ["centralized", "local", "zero_shot", "oracle"])
def test_a_dry_run_counts_the_bounds_steps_and_bytes(text_recipe, reference):
    changes = {"fcit_bound": reference, "fcit_eval_restricted": False}
    plan = run_recipe(text_recipe("plan", **changes, fcit_dry_run=True)) / "fcit_dry_run.json"
    plan = json.loads(plan.read_text())
    output_dir = run_recipe(text_recipe("run", **changes))
    report = report_of(output_dir)
    assert (plan["bytes_up"], plan["bytes_down"]) == (report["bytes_up"], report["bytes_down"])
    logs = list(output_dir.glob("**/trainer_log.jsonl"))
    logs = [path for path in logs if FOLDER not in path.parts and path.read_text()]
    steps = sum(json.loads(path.read_text().splitlines()[-1])["current_steps"] for path in logs)
    assert plan["steps"] == steps
    assert sum(len(work) for work in plan["work"].values()) == len(report["assignments"])
    assert (plan["memory"] is None) == (reference == "zero_shot")


def test_a_bound_stands_beside_the_methods_under_its_own_name(text_run, text_recipe):
    bound = run_recipe(text_recipe(fcit_bound="centralized"))
    reports = {"a": Report.read(text_run), "b": Report.read(bound)}
    (comparison,) = compare(reports)
    assert {row[0] for row in summary_rows(comparison)[1:]} == {"zero-shot", "disco", "centralized"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fcit_bound": "centralised"}, "did you mean `centralized`"),
        ({"fcit_bound": "local", "fcit_eval_every": "never"}, "`fcit_bound` is there to be compared"),
        ({"fcit_bound": "local", "stage": "fcit_aggregate"}, "`fcit_bound` belongs to `stage: fcit`"),
    ],
)
def test_what_cannot_be_a_bound_is_refused(text_recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        run_recipe(text_recipe(**changes))


@pytest.mark.parametrize("method", ["sequential", "replay"])
@pytest.mark.parametrize("aggregation", ["exact", "stack"])
def test_a_method_that_the_bound_has_chosen_is_refused_in_the_bounds_name(method, aggregation):
    keys = {"fcit_setting": "custom", "fcit_stages": [["a"], ["b"]], "fcit_method": method, "fcit_bound": "oracle"}
    with pytest.raises(ValueError, match=rf"^`fcit_bound: oracle` gives .*`fcit_lora_aggregation: {aggregation}`"):
        rewritten(keys | {"fcit_lora_aggregation": aggregation})


#: A key of a recipe that fits, for each way to write one; a bound takes what it has no use for.
ACCEPTED = [
    {"fcit_partition": "natural", "fcit_partition_column": "who"},
    {"fcit_server_rule": "krum", "fcit_clients_per_round": 5},
    {"fcit_method": "moe_lora", "fcit_num_experts": 4},
    {"fcit_method": "ewc", "fcit_ewc_lambda": 3.0},
    {"fcit_min_replies": 3},
    {"fcit_dp_clipping_norm": 1.0, "fcit_dp_noise_multiplier": 1.0},
    {"fcit_round_order": "relay", "fcit_schedule_over": "chain"},
    {"fcit_lora_aggregation": "svd"},
    {"fcit_update_compression": "int8"},
    {"fcit_schedule": [[0, 1], [1, 1]]},
    {"fcit_identity_source": "image"},
    {"fcit_method": "disco_plus"},
    {"fcit_route_unconfirmed": False},
]


@pytest.mark.parametrize("bound", ["zero_shot", "centralized", "centralized_equal", "local", "oracle"])
@pytest.mark.parametrize("keys", ACCEPTED, ids=str)
def test_a_recipe_that_runs_has_every_bound(keys, bound):
    rewritten({"fcit_setting": "custom", "fcit_stages": [["a"], ["b"]], "fcit_bound": bound, **keys})
