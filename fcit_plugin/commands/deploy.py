"""``fcit-cli deploy ...``: an operator's folder, with which sites of their own can be trained over a network."""

import argparse
from pathlib import Path

from .command import Command


def _add_folder(parser: argparse.ArgumentParser) -> None:
    help = "the folder that `deploy init` has made (default: deploy)"
    parser.add_argument("--in", dest="folder", type=Path, default=Path("deploy"), metavar="DIR", help=help)


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="NAME",
        help="name or IP address of the server's machine, which sites connect to; further ones go into its certificate, too",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--site", action="append", default=[], metavar="NAME", help="a site, for which a kit is written; once for each"
    )
    parser.add_argument("--port", type=int, default=9092, metavar="N", help="port that sites connect to (default: 9092)")
    parser.add_argument(
        "--control-port", type=int, default=9093, metavar="N", help="port of this machine alone, for the run (default: 9093)"
    )
    parser.add_argument("--appio-port", type=int, default=9091, metavar="N", help="the second of these (default: 9091)")


def _init(args: argparse.Namespace) -> None:
    from ..deployment.certificates import fingerprint, read_certificate
    from ..deployment.operator import CA, CA_KEY, KITS, RECIPE, SCRIPT, SERVER_KEY, UNIT, init

    init(args.out, args.host, args.site, args.port, args.control_port, args.appio_port)
    print(f"Written to {args.out}. {CA_KEY} and {SERVER_KEY} are secret: keep them on this machine, {CA_KEY} better off it.")
    print(f"Start the SuperLink with {args.out / SCRIPT}, or by {UNIT}; open port {args.port} and no other.")
    for name in args.site:
        print(
            f"Send {args.out / KITS / name} to {name}, and type `fcit-cli deploy enroll {name} FILE` with what it sends back."
        )
    print(f"What a recipe takes over is in {args.out / RECIPE}.")
    print(f"SHA-256 of the CA, for sites to compare: {fingerprint(read_certificate(args.out / CA))}")


def _add_renew(parser: argparse.ArgumentParser) -> None:
    help = "name or IP address of the server's machine, once for each (default: those of the old certificate)"
    parser.add_argument("--host", action="append", default=[], metavar="NAME", help=help)
    _add_folder(parser)


def _renew(args: argparse.Namespace) -> None:
    from ..deployment.operator import SERVER, renew

    until = renew(args.folder, args.host)
    print(f"{args.folder / SERVER} holds until {until:%Y-%m-%d}. End flower-superlink; superlink.sh starts it again with it.")


def _add_kit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the site")
    _add_folder(parser)


def _kit(args: argparse.Namespace) -> None:
    from ..deployment.operator import write_kit

    print(f"Written to {write_kit(args.folder, args.name)}; nothing in it is secret. Send it to {args.name}.")


def _add_enroll(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the site")
    parser.add_argument("public_key", type=Path, metavar="PUBKEY", help="the .pub file that it has handed over")
    parser.add_argument("--replace", action="store_true", help="take the key in place of the one that the site has")
    _add_folder(parser)


def _enroll(args: argparse.Namespace) -> None:
    from ..deployment.keys import fingerprint
    from ..deployment.operator import enroll

    number, key = enroll(args.folder, args.name, args.public_key, replace=args.replace)
    print(f"Site {number} is {args.name}; let it read you the fingerprint of its key: {fingerprint(key)}")
    if args.replace:
        print(
            "A run that is at work goes by the old key: when the site has typed `fcit-cli site renew --use`, end the run and "
            "start it again. If somebody else may have the old key, end flower-superlink, too, which superlink.sh starts again."
        )


def _add_remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the site")
    _add_folder(parser)


def _remove(args: argparse.Namespace) -> None:
    from ..deployment.operator import remove

    number = remove(args.folder, args.name)
    print(
        f"Site {number}, {args.name}, is never asked again; its number and its name stay taken. The next start of the run "
        "shuts its key out of the SuperLink; to do that at once, end flower-superlink, which superlink.sh starts again."
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser)
    help = "addresses at which the SuperLink will be started, which have to be free (default: look whether it is there)"
    parser.add_argument("--free", nargs="+", default=[], metavar="HOST:PORT", help=help)


def _check(args: argparse.Namespace) -> None:
    from ..deployment.operator import check

    for line in check(args.folder, args.free):
        print(line)


DEPLOY_INIT = Command("deploy init", "write what a server needs to train sites over a network", _add_init, _init)
DEPLOY_KIT = Command("deploy kit", "write what a further site needs from the operator", _add_kit, _kit)
DEPLOY_ENROLL = Command("deploy enroll", "take a site's public key into the list of sites", _add_enroll, _enroll)
DEPLOY_REMOVE = Command("deploy remove", "mark a site that is never to be asked again", _add_remove, _remove)
DEPLOY_RENEW = Command("deploy renew", "write a new certificate for the server, by the same CA", _add_renew, _renew)
DEPLOY_CHECK = Command("deploy check", "look whether certificates, keys and SuperLink are in order", _add_check, _check)


def _add_rehearse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, new or empty")


def _rehearse(args: argparse.Namespace) -> None:
    from ..samples.rehearsal import rehearse

    rehearse(args.out)


DEPLOY_REHEARSE = Command(
    "deploy rehearse", "try a server and two sites on this machine, in two minutes", _add_rehearse, _rehearse
)
