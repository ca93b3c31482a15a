"""Keys of federation over a network: the sites that a server asks, and what a site allows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..deployment.addresses import split_address
from ..errors import FcitError
from ..files import parse_json
from .option import check_at_least, check_positive, comma_separated, option
from .reasons import going_on, refuse
from .scenario import ScenarioArguments

if TYPE_CHECKING:
    from . import FcitArguments

#: The engine whose clients are sites, and the stage of one of them.
FLOWER, SITE_STAGE = "flower", "fcit_site"
#: Keys that are a site's own to decide.
SITE_KEYS = (
    "fcit_site_key",
    "fcit_site_tasks",
    "fcit_site_max_rounds",
    "fcit_site_max_records",
    "fcit_site_labels",
    "fcit_site_eval",
    "fcit_site_clipping_norm",
    "fcit_site_noise_multiplier",
    "fcit_site_heartbeat",
)
#: Seconds that a site may take for an answer, where the recipe does not say.
_LONGEST_ANSWER = 6 * 3600.0


@dataclass
class NetworkArguments:
    """Who takes part over a network, and what a site lets the server have."""

    fcit_sites: str | None = option(
        None,
        "The sites that take part, with fcit_engine flower: a mapping of their names to the files of their public keys, in the "
        "order of the clients' numbers, or the YAML file that `fcit-cli deploy` keeps it in.",
    )
    fcit_superlink: str | None = option(
        None,
        "Host and port of Flower's SuperLink: for the server its Control API (default: 127.0.0.1:9093), for a site its Fleet "
        "API (no default).",
    )
    fcit_superlink_appio: str = option(
        "127.0.0.1:9091", "Host and port of the SuperLink's ServerAppIo API, on the server's own machine."
    )
    fcit_certificate: str | None = option(None, "File of the CA's certificate that the SuperLink's is checked against.")
    fcit_server_certificate: str | None = option(
        None, "File of the server's own certificate, by that CA, with which it signs what it asks of sites (server.crt)."
    )
    fcit_server_key: str | None = option(None, "File of the private key of that certificate (server.key).")
    fcit_site_key: str | None = option(None, "File of the site's private key, which nobody else may read (stage fcit_site).")
    fcit_site_patience: float = option(
        6 * 3600.0, "Seconds that a site may be away before its reply counts as missing, with fcit_engine flower."
    )
    fcit_site_tasks: str | None = option(
        None, "Datasets that this site trains on, a list or comma-separated; others it refuses (default: all of the stages)."
    )
    fcit_site_max_rounds: int | None = option(
        None,
        "Most trainings of this site in a run: one for each of its rounds, one more for each that is asked for again with "
        "other weights (default: no bound).",
    )
    fcit_site_max_records: int | None = option(
        None, "Most records of a task that this site trains on at a time; a task of more it refuses (default: no bound)."
    )
    fcit_site_labels: bool = option(False, "Whether this site tells the server the answers of datasets with few distinct ones.")
    fcit_site_eval: bool = option(
        False, "Whether this site answers its own test records after each stage and tells the server scores and counts."
    )
    fcit_site_clipping_norm: float | None = option(
        None, "Largest L2 norm of an update of this site: it shortens longer ones before they leave (default: no bound)."
    )
    fcit_site_noise_multiplier: float | None = option(
        None,
        "Standard deviation of the Gaussian noise that this site adds to each number of its updates before they leave, in "
        "units of fcit_site_clipping_norm, from a secret of its own (default: no noise).",
    )
    fcit_site_heartbeat: int = option(
        30,
        "Seconds between two signs of life of this site, 10 or more; after two of them without one the server takes it for "
        "away, and a site that was killed is let in again.",
    )
    fcit_site_poll: float = option(1.0, "Seconds between two looks of the server for replies of sites.")


def parse_network(args: "FcitArguments") -> None:
    """Turn text from the command line into the values that it means."""
    given: Any = args.fcit_sites
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            args.fcit_sites = parse_json(given)
        except json.JSONDecodeError as error:
            raise FcitError(f"`fcit_sites` is no mapping in JSON: {error}.") from error
    if isinstance(args.fcit_site_tasks, str):
        args.fcit_site_tasks = comma_separated(args.fcit_site_tasks)  # type: ignore[assignment]  # text alone on a command line


def network_defaults(ours: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's keys with what the engine ``flower`` has for defaults of its own.

    All sites that are asked have to answer, and each has six hours for it.

    Args:
        ours: Our keys as the recipe has them.
    """
    if ours.get("fcit_engine") != FLOWER:
        return dict(ours)
    per_round = ours.get("fcit_clients_per_round", ScenarioArguments.fcit_clients_per_round)
    return {"fcit_client_timeout": _LONGEST_ANSWER, "fcit_min_replies": per_round, **ours}


def check_network(args: "FcitArguments") -> None:
    """Refuse values that cannot work together."""
    check_positive(args, "fcit_site_patience", "fcit_site_poll", "fcit_site_clipping_norm", "fcit_site_noise_multiplier")
    if args.fcit_site_noise_multiplier is not None and args.fcit_site_clipping_norm is None:
        refuse("`fcit_site_noise_multiplier` needs `fcit_site_clipping_norm`, the norm that the noise has to hide.")
    if args.fcit_site_clipping_norm is not None and args.fcit_update_compression != "none":
        refuse(
            "`fcit_site_clipping_norm` bounds updates in full; with `fcit_update_compression: "
            f"{args.fcit_update_compression}` they leave in another form. Take one of the two out."
        )
    check_at_least(args, 10, "fcit_site_heartbeat")
    check_at_least(args, 1, "fcit_site_max_rounds", "fcit_site_max_records")
    for name in ("fcit_superlink", "fcit_superlink_appio"):
        address = getattr(args, name)
        if address is not None:
            with going_on():
                split_address(address, name)
    tasks: Any = args.fcit_site_tasks
    if tasks is not None and not (isinstance(tasks, list) and tasks and all(isinstance(name, str) for name in tasks)):
        refuse(f"`fcit_site_tasks` is {tasks!r}; list the datasets that this site trains on.")
    if args.fcit_engine != FLOWER:
        of_sites = ("fcit_superlink", "fcit_certificate", *(["fcit_sites"] if args.fcit_secure_sum else []))
        its_own = {*SITE_KEYS, *(of_sites if args.fcit_site_key else ())}
        given = [item.name for item in fields(NetworkArguments) if getattr(args, item.name) != item.default]
        if others := [f"`{name}`" for name in given if name not in its_own]:
            belong, them = ("belongs", "it") if len(others) == 1 else ("belong", "them")
            engine = f"`fcit_engine: {FLOWER}`, but the engine is {args.fcit_engine}"
            or_site = (
                "" if args.fcit_site_key or not set(given) & {*of_sites} else ", or name `fcit_site_key` if this is a site"
            )
            refuse(f"{', '.join(others)} {belong} to {engine}; take {them} out{or_site}.")
        return
    for name in ("fcit_certificate", "fcit_server_certificate", "fcit_server_key"):
        if getattr(args, name) is None:
            refuse(f"`fcit_engine: {FLOWER}` needs `{name}`, a file that `fcit-cli deploy init` makes.")
    sites: Any = args.fcit_sites
    if not sites:
        refuse(f"`fcit_engine: {FLOWER}` needs `fcit_sites`: a mapping of the sites' names to the files of their public keys.")
    elif not isinstance(sites, str | Mapping):  # what is in the list is looked at as it is read
        refuse(f"`fcit_sites` is {sites!r}; map the name of each site to the file of its public key.")
    if args.fcit_bound:
        refuse(
            f"`fcit_bound` cannot be used with `fcit_engine: {FLOWER}`: it is trained on all records at one place; take it out."
        )
    if isinstance(sites, Mapping) and len(sites) != args.fcit_num_clients:
        refuse(
            f"`fcit_sites` names {len(sites)} sites, but `fcit_num_clients` is {args.fcit_num_clients}; make them the same "
            "number."
        )
