"""``fcit-cli site ...``: the folder of a site that takes part over a network."""

import argparse
import os
from pathlib import Path

from ..errors import FcitError
from .command import Command


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--kit", type=Path, metavar="DIR", help="the folder that the operator has sent")


def _init(args: argparse.Namespace) -> None:
    from ..deployment.keys import fingerprint
    from ..deployment.operator import CA, SITE_RECIPE
    from ..deployment.site import KEY, PUBLIC, init

    key = init(args.out, args.kit)
    print(f"Hand over {args.out / PUBLIC}, and nothing else: {args.out / KEY} never leaves this machine.")
    print(f"Its fingerprint, to be read to the operator by telephone: {fingerprint(key)}")
    if args.kit is None:
        print(f"Put the operator's {CA} into {args.out}.")
    print(f"Read {args.out / SITE_RECIPE} and fill it in: it says what the server may ask of this machine.")


def _add_renew(parser: argparse.ArgumentParser) -> None:
    help = "the folder that `site init` has made (default: site)"
    parser.add_argument("--in", dest="folder", type=Path, default=Path("site"), metavar="DIR", help=help)
    parser.add_argument(
        "--use", action="store_true", help="put the new key in the place of the old one, when the operator has enrolled it"
    )


def _renew(args: argparse.Namespace) -> None:
    from ..deployment.keys import fingerprint
    from ..deployment.site import NEW_PUBLIC, renew, use_new

    if args.use:
        key = use_new(args.folder)
        print(f"The key is now {fingerprint(key)}, and the old one is gone. Start the site again.")
    else:
        key = renew(args.folder)
        print(f"The old key stays in use. Hand over {args.folder / NEW_PUBLIC}, fingerprint {fingerprint(key)}.")
        print("When the operator has enrolled it with --replace, type `fcit-cli site renew --use`.")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="site.yaml", help="the site's recipe")


def _check(args: argparse.Namespace) -> None:
    from ..deployment.operator import programs
    from ..deployment.site import check_recipe

    check_recipe(args.recipe)
    command = str(programs() / "llamafactory-cli")
    os.execv(command, [command, "train", str(args.recipe), "fcit_dry_run=true"])


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the site's output_dir")


def _status(args: argparse.Namespace) -> None:
    from ..federation.audit import AUDIT, Audit

    if not args.folder.is_dir():
        raise FcitError(f"{args.folder} is no folder; name the `output_dir` of the site's recipe.")
    for line in Audit(args.folder / AUDIT).status():
        print(line)


SITE_CHECK = Command(
    "site check", "read data and model, try the connection, and say what the server would refuse", _add_check, _check
)
SITE_STATUS = Command("site status", "what the server has asked of a site, and what was answered", _add_status, _status)
SITE_INIT = Command("site init", "make a site's key pair and its recipe", _add_init, _init)
SITE_RENEW = Command("site renew", "make a new key pair, or put it in the place of the old one", _add_renew, _renew)
