"""``fcit-cli init``: a recipe from what the user has, or the beginning of a package with a method."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FcitError
from .command import Command

if TYPE_CHECKING:
    from ..drafts.recipe import Given


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="theirs", type=Path, metavar="RECIPE", help="a LLaMA-Factory recipe for a LoRA tuning")
    parser.add_argument("--data", nargs="+", type=Path, default=[], metavar="FILE", help="records of your own, a task a file")
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="WHAT=NAME",
        help="what columns are for, such as prompt=frage response=antwort",
    )
    parser.add_argument("--model", metavar="NAME", help="base model: a folder, or a name on a hub")
    parser.add_argument("--template", metavar="NAME", help="its chat template, where LLaMA-Factory does not know it")
    parser.add_argument("--method", metavar="NAME", help="continual method, with its own keys (default: disco)")
    parser.add_argument("--stages", nargs="+", metavar="A,B", help="what arrives when; with a comma: what arrives together")
    parser.add_argument("--clients", type=_positive, metavar="N", help="how many clients there are (default: 4)")
    parser.add_argument("--clients-per-round", type=_positive, metavar="N", help="how many take part in a round")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of each stage (default: 3)")
    parser.add_argument("--site-column", metavar="NAME", help="the column that says whose a record is: a client a value")
    parser.add_argument(
        "--test", nargs="+", metavar="SHARE|FILE", help="test records: a part or a number of each file, or files (default: 0.1)"
    )
    parser.add_argument("--plugin", metavar="NAME", help="write the package fcit-NAME with a method, a key and a test instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="what to write (default: fcit.yaml, or the package's name)")
    parser.add_argument("--overwrite", action="store_true", help="also where there is such a file")
    parser.add_argument("--yes", action="store_true", help="ask nothing, also on a terminal")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is a whole number from 1 up, got {text!r}")
    return int(text)


def _run(args: argparse.Namespace) -> None:
    if args.plugin is not None:
        _refuse_others(args)
        _write_package(args)
        return
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # read when the package datasets is imported
    from ..drafts.recipe import as_before, draft_recipe, entries_file
    from ..files import write_text
    from ..recipe.ordinary import check_whole

    out = args.out or Path("fcit.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise FcitError(f"{out} (--out) has to end in .yaml, or LLaMA-Factory does not take it for a recipe.")
    for path in (out, *([entries_file(out)] if args.data else [])):
        if path.exists() and not args.overwrite:
            raise FcitError(f"{path} is there already; name another recipe with --out, or give --overwrite.")
    asks = not args.yes and sys.stdin.isatty() and sys.stdout.isatty()
    with as_before(entries_file(out)):
        draft = draft_recipe(_given(args), out, _ask if asks else _take_default)
        check_whole(draft.keys)
        write_text(out, draft.text(_first(args)))
    print("\n".join(f"- {sentence}" for sentence in draft.said))
    call = shlex.join(["fcit-cli", "train", str(out)])
    print(f"\nWritten to {out}. What it would do: {call} --dry-run\nTo run it:       {call}")


def _given(args: argparse.Namespace) -> "Given":
    from ..drafts.federation import Wishes, parse_stages
    from ..drafts.recipe import Given

    columns = dict(part.partition("=")[::2] for part in args.columns)
    if bad := [part for part in args.columns if "=" not in part]:
        raise FcitError(f"--columns takes WHAT=NAME, such as prompt=question, got {bad[0]!r}.")
    if (args.columns or (args.test and not _share(args.test))) and not args.data:
        raise FcitError("--columns, and files of --test, are about --data FILE; give it beside them.")
    wishes = Wishes(
        stages=parse_stages(args.stages) if args.stages else None,
        clients=args.clients,
        clients_per_round=args.clients_per_round,
        rounds=args.rounds,
        site_column=args.site_column,
        held_out=_share(args.test),
    )
    tests = [Path(name) for name in args.test or () if not _share(args.test)]
    return Given(args.theirs, args.data, tests, columns, args.model, args.template, args.method, wishes)


def _share(test: list[str] | None) -> float | None:
    """The part, or the number, of the records that ``--test`` means; None for files."""
    if not test or len(test) > 1:
        return None
    try:
        share = float(test[0])
    except ValueError:
        return None
    if not 0 < share < float("inf") or (share > 1 and not share.is_integer()):
        raise FcitError(f"--test {test[0]}: a part of the records (0.1), a number of them, or files.")
    return share


def _refuse_others(args: argparse.Namespace) -> None:
    """Refuse flags that are about a recipe where a package is written."""
    parser = argparse.ArgumentParser(add_help=False)
    _add_arguments(parser)
    given = [action.option_strings[0] for action in parser._actions if getattr(args, action.dest) != action.default]
    if others := [flag for flag in given if flag not in ("--plugin", "--out", "--yes")]:
        raise FcitError(f"--plugin writes a package and no recipe, which {', '.join(others)} would be about; leave one out.")


def _first(args: argparse.Namespace) -> str:
    what = f"from {args.theirs}" if args.theirs else f"on {', '.join(path.name for path in args.data) or 'FCIT-mini'}"
    return f"Federated continual instruction tuning {what}, written by `fcit-cli init`."


def _ask(question: str, default: str) -> str:
    try:
        return input(f"{question} [{default}]: ").strip() or default
    except EOFError:  # the end of the input (Ctrl-D) is no answer, either
        print()
        raise KeyboardInterrupt from None


def _take_default(question: str, default: str) -> str:
    return default


def _write_package(args: argparse.Namespace) -> None:
    from ..drafts.package import write_package

    folder = write_package(args.plugin, args.out)
    name = shlex.quote(str(folder))
    print(f"Written to {folder}. Next:\n  pip install -e {name}\n  fcit-cli plugins\n  python -m pytest {name}")


INIT = Command(
    "init",
    "write a recipe from a LLaMA-Factory recipe or from files of your own, or begin a package with a method",
    _add_arguments,
    _run,
)
