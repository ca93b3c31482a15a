"""A recipe from whatever the user has: a recipe of LLaMA-Factory's, files of records, or nothing yet."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FcitError
from ..files import read_bytes, write_bytes, write_json
from ..plugins import registry
from ..recipe.embedded import EMBEDDED_MODELS
from ..recipe.ordinary import template_of
from ..recipe.typed_recipe import keys_as_typed
from ..shipped import shipped
from .draft import Draft
from .federation import ROUNDS, Ask, Wishes, check_at_once, hint_of_sites, put_federation
from .from_llamafactory import from_llamafactory, share_out_training
from .methods import put_method
from .own_data import OwnFile, entries_of

#: The shipped recipes that the others begin with: of the embedded benchmark, and of text.
_MINI, _TEXT = "fcit_mini_fedavg.yaml", "fcit_text_tiny.yaml"
#: Of the embedded models, with the templates that they were made for.
_TEXT_MODEL, _IMAGE_MODEL = ("fcit-mini-text", "vicuna"), ("fcit-mini", "llava")
_DEFAULT_METHOD = "disco"


@dataclass(frozen=True)
class Given:
    """What the user gives.

    Attributes:
        theirs: A recipe of LLaMA-Factory's.
        data: Files of records.
        tests: Files with their test records.
        columns: What the columns of the files are for.
        model: The base model.
        template: Its chat template.
        method: The continual method.
        wishes: What is said of the federation.
    """

    theirs: Path | None = None
    data: Sequence[Path] = ()
    tests: Sequence[Path] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    template: str | None = None
    method: str | None = None
    wishes: Wishes = field(default_factory=Wishes)


def entries_file(out: Path) -> Path:
    """Where the entries of a user's own files stand, beside the recipe ``out``."""
    return out.parent / f"{out.stem}_data" / "dataset_info.json"


@contextlib.contextmanager
def as_before(path: Path) -> Iterator[None]:
    """Within the block a file may be written; where the block fails, it and its folder are as they were."""
    before, made = read_bytes(path) if path.is_file() else None, not path.parent.exists()
    try:
        yield
    except BaseException:
        if before is not None:
            write_bytes(path, before)
        else:
            path.unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        raise


def draft_recipe(given: Given, out: Path, ask: Ask) -> Draft:
    """Put a recipe together.

    Args:
        given: What the user gives.
        out: Where the recipe will be; the entries of the user's files are written beside it.
        ask: Asks for what is not given.

    Raises:
        FcitError: Something of it cannot be; the sentence names it.
    """
    datasets: list[str] | None = None
    if given.theirs is not None:
        draft, datasets = from_llamafactory(keys_as_typed(given.theirs)[0], given.theirs, with_data=bool(given.data))
    else:
        draft = Draft(keys_as_typed(shipped("recipes") / (_TEXT if given.data else _MINI))[0])
        draft.keys["output_dir"] = f"saves/{out.stem}"
    if given.data:
        datasets = _put_data(draft, given, out)
    _put_model(draft, given, ask)
    if datasets is not None:
        put_federation(draft, datasets, given.wishes, ask)
    else:
        _put_mini(draft, given.wishes)
    if given.theirs is not None:
        share_out_training(draft, given.wishes.rounds or ROUNDS)
    put_method(draft, _DEFAULT_METHOD if given.method is None else given.method)
    if given.method is not None and given.theirs is None and (datasets is None or "media_dir" in draft.keys):
        _refuse_images(given.method)
    return draft


def _refuse_images(method: str) -> None:
    if registry("methods")[method].load().makes_up_records():
        raise FcitError(
            f"`fcit_method: {method}` has the model make up records of earlier tasks, which are of text alone, and these have "
            "images; give --data FILE with text, or another --method."
        )


def _put_data(draft: Draft, given: Given, out: Path) -> list[str]:
    files = [OwnFile(path, given.columns) for path in given.data]
    tests = [OwnFile(path, given.columns) for path in given.tests]
    folder = entries_file(out).parent
    folder.mkdir(parents=True, exist_ok=True)
    write_json(entries_file(out), entries_of(files, tests, folder))
    stages = {file.local_stage for file in files}
    if len(stages) > 1:
        raise FcitError(f"The files of --data are for several kinds of training ({_listed(stages)}); give those of one kind.")
    (stage,) = stages
    for key in ("eval_dataset", "val_size"):
        draft.keys.pop(key, None)
    draft.put("dataset_dir", str(folder), "dataset_info.json says how the files are written")
    folders = {file.path.parent for file in (*files, *tests) if file.has_media}
    if len(folders) > 1:
        raise FcitError(
            f"Files of --data with images or other media lie in {_listed(folders)}, and these are looked for in one folder "
            "(`media_dir`); put the files into one."
        )
    draft.put("media_dir", str(*folders)) if folders else draft.keys.pop("media_dir", None)
    draft.put("fcit_local_stage", stage, "what trains a client")
    for file in files:
        shown = ", ".join(f"{column} ({what})" for what, column in file.entry["columns"].items())
        how = "compared by ROUGE-L" if file.is_free_text else "right when they are equal"
        draft.say(f"{file.path} has {file.count} records with the columns {shown}; answers are {how} (`fcit_metric`).")
        if file.left_out:
            number, why = next(iter(file.left_out.items()))
            draft.say(
                f"Of {file.path} {len(file.left_out)} of {file.count} records are left out, as LLaMA-Factory leaves them out; "
                f"the first, record {number}: {why}."
                + (" In a CSV file NA, None, null and the like are read as empty." if file.path.suffix == ".csv" else "")
            )
        if file.unused:
            draft.say(f"Of {file.path} no model is shown {', '.join(file.unused)}; --columns says what a column is for.")
    if given.theirs is None:
        free = any(file.is_free_text for file in files)
        draft.put("cutoff_len", 512, "tokens of a record that are read")
        draft.put("max_new_tokens", 128 if free else 16, "tokens of an answer")
        draft.put("fcit_eval_samples", 100, "test records of each dataset, at most")
    if given.wishes.site_column is None:
        hint_of_sites(draft, [name for name in files[0].columns if all(name in file.columns for file in files)])
    return [file.name for file in files]


def _listed(names: Iterable[object]) -> str:
    return " and ".join(sorted(map(str, names)))


def _put_model(draft: Draft, given: Given, ask: Ask) -> None:
    """Choose the base model and its template."""
    model, template = given.model, given.template
    if model is None and given.theirs is None and given.data:
        tiny = _IMAGE_MODEL if "media_dir" in draft.keys else _TEXT_MODEL
        model = ask("Which base model: a folder, or a name on a hub?", tiny[0])
        if model == tiny[0]:
            template = template or tiny[1]
            draft.comments["model_name_or_path"] = "tiny and untaught, to see that all works; put your model here"
            draft.say(
                f"The base model is {model}, which is tiny and knows nothing: it shows that all works. Give --model NAME."
            )
    if model is not None:
        draft.keys["model_name_or_path"] = model
        if template is None:
            embedded = dict([_TEXT_MODEL, _IMAGE_MODEL])
            template = embedded[model] if model in EMBEDDED_MODELS else template_of(model)
        if template is None:
            raise FcitError(f"LLaMA-Factory does not know the model {model}, nor its chat template; name one with --template.")
        draft.keys.pop("default_system", None) if model not in EMBEDDED_MODELS else None
    if template is not None:
        draft.keys["template"] = template
    if not draft.keys.get("model_name_or_path"):
        raise FcitError("The recipe names no `model_name_or_path`; give --model NAME.")


def _put_mini(draft: Draft, wishes: Wishes) -> None:
    """The embedded benchmark, as the shipped recipe has it, with other numbers where they are given."""
    check_at_once(wishes, wishes.clients or draft.keys["fcit_num_clients"])
    numbers = {
        "fcit_num_clients": wishes.clients,
        "fcit_clients_per_round": wishes.clients_per_round,
        "fcit_num_rounds": wishes.rounds,
    }
    for key, value in numbers.items():
        if value is not None:
            draft.put(key, value)
    for name, wish in (("--stages", wishes.stages), ("--site-column", wishes.site_column), ("--test", wishes.held_out)):
        if wish is not None:
            raise FcitError(f"{name} is about data of your own; give --data FILE or --from RECIPE beside it.")
    draft.keys["fcit_clients_per_round"] = min(draft.keys["fcit_clients_per_round"], draft.keys["fcit_num_clients"])
    draft.say("The data are the embedded FCIT-mini: eight tasks with images, drawn on first use. --data FILE takes your own.")
