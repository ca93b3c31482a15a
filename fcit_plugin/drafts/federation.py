"""Who has which records when: what a recipe for one model does not say, from flags, from answers, or by default."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.catalogue import Catalogue
from ..data.entries import ELSEWHERE
from ..data.forms import USES
from ..data.named import TEST, ForTest, refuse_trained_tests
from ..data.raw_files import TrainFiles
from ..errors import FcitError, nearest
from ..scenario.task_records import clients_named
from .draft import Draft
from .own_data import site_column

CLIENTS, ROUNDS, TEST_SHARE = 4, 3, 0.1
#: All clients take part in a round, up to so many.
_AT_ONCE = 10
_MIN_SAMPLES = 50


@dataclass(frozen=True)
class Wishes:
    """What the user says of a federation; None where nothing is said.

    Attributes:
        stages: What arrives when.
        clients: How many there are.
        clients_per_round: How many of them take part in a round.
        rounds: Rounds of a stage.
        site_column: The column that says whose a record is.
        held_out: Test records: a part of the records, or from 1 on a number.
    """

    stages: Sequence[Sequence[str]] | None = None
    clients: int | None = None
    clients_per_round: int | None = None
    rounds: int | None = None
    site_column: str | None = None
    held_out: float | None = None


#: Asks the user a question with a default; what is not asked is answered by it.
Ask = Callable[[str, str], str]


def put_federation(draft: Draft, datasets: Sequence[str], wishes: Wishes, ask: Ask) -> None:
    """Put stages, test records and clients into a recipe.

    Args:
        draft: The recipe, with where its data are.
        datasets: The datasets.
        wishes: What the user says.
        ask: Asks for what is not said.

    Raises:
        FcitError: It names what is not there.
    """
    stages = _stages(draft, datasets, wishes, ask)
    if not all(stages):
        raise FcitError("A stage has no dataset (--stages); blanks stand between stages, commas between datasets of one.")
    draft.put("fcit_setting", "custom")
    draft.put("fcit_stages", [list(stage) for stage in stages], "what arrives when; datasets in one bracket arrive together")
    _put_tests(draft, datasets, wishes, ask)
    _put_clients(draft, stages, wishes, ask)
    draft.put("fcit_num_rounds", wishes.rounds or ROUNDS, "of each stage")


def parse_stages(text: str | Sequence[str]) -> list[list[str]]:
    """Stages as they are typed: separated by blanks, the datasets of one by commas."""
    words = text.split() if isinstance(text, str) else text
    return [[name for name in word.split(",") if name] for word in words]


def _stages(draft: Draft, datasets: Sequence[str], wishes: Wishes, ask: Ask) -> Sequence[Sequence[str]]:
    stages = wishes.stages
    if stages is None:
        given = " ".join(datasets)
        if len(datasets) > 1:
            given = ask("What arrives when? Blanks between stages, commas between datasets that arrive together", given)
        stages = parse_stages(given)
    for name in (name for stage in stages for name in stage):
        if name not in datasets:
            raise FcitError(f"--stages names {name!r}, which is none of the datasets: {nearest(name, datasets)}")
    if left := [name for name in datasets if not any(name in stage for stage in stages)]:
        draft.say(f"Not used, for no stage names them: {', '.join(left)}.")
    order = ", then ".join(" with ".join(stage) for stage in stages)
    draft.say(f"`fcit_stages` takes the place of `dataset`: {order}." + (" There is one stage." if len(stages) == 1 else ""))
    return stages


def catalogue_of(keys: dict[str, Any]) -> Catalogue:
    """The datasets of a recipe, with what is kept back of them."""
    return Catalogue(
        keys.get("dataset_dir", "data"), held_out=float(keys.get("val_size", 0.0)), cache_dir=keys.get("cache_dir")
    )


def _put_tests(draft: Draft, datasets: Sequence[str], wishes: Wishes, ask: Ask) -> None:
    """Each dataset needs test records: an entry of its own, or some of its records."""
    named = draft.keys.get("eval_dataset")
    if named and len([name for name in str(named).split(",") if name]) != len(datasets):
        draft.keys.pop("eval_dataset")
        draft.say(
            f"Left out: `eval_dataset: {named}` (it would have to name the test records of each dataset, in their order)."
        )
    catalogue = Catalogue(draft.keys.get("dataset_dir", "data"))
    stage = draft.keys.get("fcit_local_stage", "sft")
    refuse_trained_tests(datasets, datasets)
    for name in datasets:
        catalogue.check([name], with_test=False, local_stage=stage)
    without = [name for name in datasets if ForTest(name) not in catalogue]
    if "eval_dataset" in draft.keys or not without:
        return
    if stage == "kto":
        draft.put("fcit_eval_every", "never", "feedback has no right answers to test with")
        for key in ("val_size",):
            draft.keys.pop(key, None)
        draft.say(f"Nothing is scored: {', '.join(without)} has no entry with test records (NAME{TEST}) in dataset_info.json.")
        return
    held_out = wishes.held_out if wishes.held_out is not None else draft.keys.get("val_size") or None
    if held_out is None:
        held_out = _share(ask("Which part, or how many, of the records are kept for the test?", f"{TEST_SHARE:g}"))
    size = int(held_out) if held_out >= 1 else held_out
    draft.put("val_size", size, "of each dataset without test records of its own, trained on by nobody")
    what = f"{size} records" if size >= 1 else f"{100 * size:g} % of the records"
    draft.say(f"The test takes {what} of {', '.join(without)}, which nobody trains on (`val_size`).")


def _put_clients(draft: Draft, stages: Sequence[Sequence[str]], wishes: Wishes, ask: Ask) -> None:
    catalogue = catalogue_of(draft.keys)
    files = TrainFiles(catalogue, draft.keys.get("max_samples"), draft.keys.get("seed", 42), _use(draft))
    elsewhere = [name for stage in stages for name in stage if any(key in catalogue.entry(name) for key in ELSEWHERE)]
    if wishes.site_column is not None:
        clients = _count_sites(files, stages, wishes, draft)
        draft.put("fcit_partition", "natural", "the records say whose they are")
        draft.put("fcit_partition_column", wishes.site_column)
    else:
        clients = wishes.clients or _count(ask("How many clients share the records?", str(CLIENTS)))
        draft.put("fcit_partition", "iid", "dealt out at random; natural: a column says whose a record is")
        if not elsewhere:
            least = min(sum(files.count(name) for name in stage) for stage in stages)
            if least < clients:
                raise FcitError(
                    f"{clients} clients cannot share the {least} records of a stage; lower --clients, or add records."
                )
            draft.put("fcit_min_client_samples", min(_MIN_SAMPLES, max(least // clients // 2, 1)))
        draft.say(f"{clients} clients share the records of each stage at random (`fcit_partition`).")
    check_at_once(wishes, clients)
    draft.put("fcit_num_clients", clients)
    draft.put("fcit_clients_per_round", wishes.clients_per_round or min(clients, _AT_ONCE))


def _count_sites(files: TrainFiles, stages: Sequence[Sequence[str]], wishes: Wishes, draft: Draft) -> int:
    """How many clients a column names, each of which needs records of every stage.

    Raises:
        FcitError: It names others than the flags say, or one has no records of a stage.
    """
    column = str(wishes.site_column)
    found = {name: files.column(name, column) for stage in stages for name in stage}
    names = clients_named(column, found)
    if wishes.clients not in (None, len(names)):
        raise FcitError(f"The column {column} names {len(names)} clients and --clients says {wishes.clients}; leave one out.")
    for stage in stages:
        there = {value for name in stage for value in found[name]}
        if missing := [name for name in names if name not in there]:
            raise FcitError(
                f"The column {column} gives the client {missing[0]} no record of {', '.join(stage)}, and each client takes "
                "part in every stage; leave that client or that dataset out, or deal the records out without --site-column."
            )
    draft.say(f"The column {column} makes {len(names)} clients: {', '.join(map(str, names))}.")
    return len(names)


def check_at_once(wishes: Wishes, clients: int) -> None:
    """Refuse more clients in a round than there are.

    Raises:
        FcitError: The sentence names the flag.
    """
    if (wishes.clients_per_round or 0) > clients:
        given = f"--clients-per-round {wishes.clients_per_round}"
        raise FcitError(f"{given}: there are {clients} clients; lower it or add clients.")


def _use(draft: Draft) -> Any:
    return USES[draft.keys.get("fcit_local_stage", "sft")]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < float("inf"):
        raise FcitError(f"The test takes a part of the records (0.1) or a number of them, got {text!r}.")
    return share


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise FcitError(f"The number of clients is a whole number from 1 up, got {text!r}.")
    return int(text)


def hint_of_sites(draft: Draft, columns: Sequence[str]) -> None:
    """Tell of a column that may say whose a record is."""
    found = site_column(columns)
    if found is not None:
        draft.say(
            f"The column {found} may say whose a record is: `--site-column {shlex.quote(found)}` makes a client of each value."
        )
