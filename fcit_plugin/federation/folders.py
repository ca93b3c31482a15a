"""Federation by folders: an update as files, for sites that may not open a port."""

from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from ..errors import FcitError
from ..files import check_tensors, read_object, write_bytes, write_json
from .messages import CONFIG, METRICS, metrics_of, work_of
from .stored import records_bytes, stored_records
from .validation import one_line

DESCRIPTION = "fcit_update.json"
WEIGHTS = "fcit_update.safetensors"
#: In their place: why a site has no reply.
FAILURE = "fcit_failure.json"


def write_update(folder: Path, config: ConfigRecord, reply: Message) -> None:
    """Write a client's reply as an update folder; the description comes last."""
    (folder / FAILURE).unlink(missing_ok=True)  # of an earlier attempt
    write_bytes(folder / WEIGHTS, records_bytes(reply.content))
    write_json(folder / DESCRIPTION, {"config": dict(config), "metrics": dict(metrics_of(reply))})


def write_failure(folder: Path, config: ConfigRecord, reason: str) -> None:
    """Write why a site has no reply, in place of its update; of several processes the first one that fails says it."""
    if not (folder / FAILURE).exists():
        write_json(folder / FAILURE, {"config": dict(config), "reason": reason})


def read_update(folder: Path, most: int | None = None) -> tuple[dict[str, Any], Message]:
    """Read an update folder. What the reply holds is as trustworthy as the client (:mod:`.validation`).

    Its arrays stay in the file until they are used (:mod:`.stored`).

    Args:
        folder: The folder.
        most: Bytes that its files may have, None for any number.

    Returns:
        The client's configuration (run, stage, round, client, task) and its reply.

    Raises:
        FcitError: A file is missing, corrupt or too large, or does not have the form of an update; the sentence names it.
            Or the site has failed; the sentence says how.
    """
    for path in (folder / DESCRIPTION, folder / WEIGHTS, folder / FAILURE):
        if most is not None and path.is_file() and path.stat().st_size > most:
            raise FcitError(f"{path} has {path.stat().st_size} bytes where at most {most} fit.")
    if (folder / FAILURE).exists() and not (folder / DESCRIPTION).exists():
        reason = one_line(str(read_object(folder / FAILURE, ("reason",))["reason"]))
        raise FcitError(f"{folder} holds no update, for its site has failed: {reason}")
    description = read_object(folder / DESCRIPTION, ("config", "metrics"))
    config, metrics = description["config"], description["metrics"]
    check_tensors(folder / WEIGHTS)
    try:
        content = stored_records(folder / WEIGHTS)
        content[METRICS] = MetricRecord(metrics)
        content[CONFIG] = work_of(config)
        request = Message(RecordDict(), dst_node_id=config["client"], message_type=MessageType.TRAIN)
        return config, Message(content, reply_to=request)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # Flower's records refuse what is of no good type
        raise FcitError(f"{folder} does not have the form of an update: {error}.") from error
