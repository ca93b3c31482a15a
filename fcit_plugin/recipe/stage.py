"""What an fcit stage makes of the recipe: fills in what it implies, and takes out what LLaMA-Factory shall not load."""

from pathlib import Path
from typing import Any

from ..arguments import FcitArguments
from ..arguments.network import SITE_STAGE
from ..arguments.option import comma_separated
from ..arguments.reasons import refuse
from ..errors import FcitError
from ..scenario.settings import get_scenario
from ..state.output_folder import fcit_folder, would_lose
from .partition_options import partition_options


def stages_of_datasets(recipe: dict[str, Any]) -> dict[str, Any]:
    """Offer the stages that a recipe with ``dataset`` and without ``fcit_stages`` may mean, ready to be pasted.

    Args:
        recipe: The keys.

    Returns:
        The keys with one dataset after the other, so that what else is wrong is found too.

    Raises:
        FcitError: It has a ``dataset``.
    """
    given = recipe.get("dataset")
    if not given or recipe.get("fcit_stages") or recipe.get("fcit_setting", "custom") != "custom":
        return recipe
    names = comma_separated(given) if isinstance(given, str) else [str(name) for name in given]
    after, together = ", ".join(names), f"[[{', '.join(names)}]]"
    both = (
        f"one after the other write `fcit_stages: [{after}]` in its place, for tasks that arrive together "
        f"`fcit_stages: {together}`, with `fcit_setting: custom` beside it"
    )
    one = f"write `fcit_stages: [{after}]` in its place, with `fcit_setting: custom` beside it"
    refuse(
        f"`dataset: {','.join(names)}` does not tell `stage: fcit` what arrives when; "
        + (f"for tasks that arrive {both}." if len(names) > 1 else f"{one}.")
    )
    rest = {key: value for key, value in recipe.items() if key != "dataset"}
    return {**rest, "fcit_setting": "custom", "fcit_stages": [[name] for name in names]}


def fill_in(args: dict[str, Any], stage: str, fcit: FcitArguments) -> None:
    """Say for the user what LLaMA-Factory insists on and an fcit stage implies."""
    if args.get("finetuning_type", "lora") != "lora":
        refuse(
            f"`finetuning_type: {args['finetuning_type']}` cannot be used with `stage: {stage}`; "
            "subspaces are LoRA adapters, set `finetuning_type: lora`."
        )
    scenario = get_scenario(fcit.fcit_setting, fcit.fcit_stages, fcit.fcit_schedule, fcit.fcit_task_order)
    schedule = "`fcit_schedule`" if fcit.fcit_schedule else f"`fcit_setting: {fcit.fcit_setting}`"
    for number, row in enumerate(scenario.schedule):
        if len(row) > fcit.fcit_clients_per_round:
            refuse(
                f"{schedule} gives stage {number} {len(row)} clients, but `fcit_clients_per_round` is "
                f"{fcit.fcit_clients_per_round}: the last ones would never be used; sample more of them."
            )
    args.setdefault("do_train", True)
    if stage != "fcit" and args.get("push_to_hub"):
        refuse(f"`push_to_hub` belongs to `stage: fcit`: what `stage: {stage}` writes is for the other sites.")
    if fcit.fcit_bound in ("zero_shot", "local") and args.get("push_to_hub"):
        refuse(f"`fcit_bound: {fcit.fcit_bound}` leaves nothing that could be given away; take `push_to_hub` out.")
    if stage == "fcit":
        if args.get("dataset"):
            refuse("`dataset` is not used by `stage: fcit`; the stages in `fcit_stages` name the datasets.")
        args["dataset"] = ",".join(scenario.all_datasets())
        partition_options(fcit)
    else:
        args.setdefault("dataset", ",".join(scenario.all_datasets()))
        if stage == SITE_STAGE and args["dataset"] != ",".join(scenario.all_datasets()):
            refuse(f"`dataset` is not used by `stage: {SITE_STAGE}`; `fcit_site_tasks` names those of the stages that it has.")
    if stage == SITE_STAGE:
        needed = ("fcit_superlink", "fcit_certificate", "fcit_site_key")
        if missing := [key for key in needed if getattr(fcit, key) is None]:
            refuse(f"`stage: {SITE_STAGE}` needs {_listed(missing)}; `fcit-cli site init` writes a site's recipe.")
    if fcit.fcit_client is not None and not 0 <= fcit.fcit_client < fcit.fcit_num_clients:
        refuse(
            f"`fcit_client` is {fcit.fcit_client}; with `fcit_num_clients: {fcit.fcit_num_clients}` "
            f"clients are numbered from 0 to {fcit.fcit_num_clients - 1}."
        )
    if stage == "fcit_client" and (fcit.fcit_client is None or fcit.fcit_state_dir is None):
        refuse("`stage: fcit_client` needs `fcit_state_dir` (server state folder) and `fcit_client` (a number).")
    if stage == "fcit_client" and fcit.fcit_update_compression == "int8" and fcit.fcit_client_dir is None:
        refuse(
            "`stage: fcit_client` with `fcit_update_compression: int8` needs `fcit_client_dir`: a folder of the client's own, "
            "empty before its first round, for what rounding took from its updates."
        )
    if stage == "fcit_aggregate" and fcit.fcit_update_dirs and fcit.fcit_state_dir is None:
        refuse("`fcit_update_dirs` needs `fcit_state_dir`, the server state folder that the updates began from.")


def _listed(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def earlier_folder(recipe: dict[str, Any], stage: str) -> Path | None:
    """Take ``adapter_name_or_path`` out of a recipe of an fcit stage: LLaMA-Factory shall not load it.

    Args:
        recipe: LLaMA-Factory's keys; changed in place.
        stage: The fcit stage.

    Returns:
        The output folder of the run to go on from, None if there is none.

    Raises:
        FcitError: It is something else, or the stage cannot go on from it.
    """
    given = recipe.pop("adapter_name_or_path", None)
    if not given:
        return None
    if stage != "fcit":
        raise FcitError(
            f"`adapter_name_or_path` belongs to `stage: fcit`; with `stage: {stage}` name the finished folder as "
            "`fcit_state_dir`, and in `fcit_stages` put the new stages after its own."
        )
    names = given.split(",") if isinstance(given, str) else list(given)
    folder = fcit_folder([name.strip() for name in names])
    if folder is None:
        raise FcitError(
            f"`adapter_name_or_path`: {given} is not the output folder of an fcit run, and `stage: fcit` goes on from "
            "nothing else; name one, or take the key out."
        )
    return folder


def folder_to_evaluate(recipe: dict[str, Any], stage: str) -> Path | None:
    """The FCIT folder that a recipe with ``do_train: false`` evaluates; None for one that trains.

    Args:
        recipe: LLaMA-Factory's keys; ``adapter_name_or_path`` is taken out.
        stage: The fcit stage.

    Raises:
        FcitError: There is no such folder, or the stage does not evaluate.
    """
    if recipe.get("do_train", True) is not False:
        return None
    if stage != "fcit":
        raise FcitError(f"`do_train: false` belongs to `stage: fcit`, which evaluates a folder; `stage: {stage}` trains.")
    given = recipe.pop("adapter_name_or_path", None)
    folder = fcit_folder(given if given is None or isinstance(given, list) else [str(given)])
    if folder is None:
        raise FcitError(
            "`do_train: false` evaluates what a run has learned; name its output folder as `adapter_name_or_path`"
            + (f", {given} is none." if given else ".")
        )
    if (output_dir := recipe.get("output_dir")) and would_lose(output_dir, folder):
        raise FcitError(
            f"`output_dir` is or holds the folder that is evaluated ({folder}), which it would replace; name another."
        )
    return folder
