"""Federation by folders: an update as files, for sites that may not open a port."""

import os
from pathlib import Path
from typing import Any, NotRequired, cast

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from typing_extensions import TypedDict

from ..errors import FcitError
from ..files import inside, read_as, write_chunks, write_json
from ..schema import Count, Whole, Word
from ..tensor_files import check_tensors
from .messages import CONFIG, METRICS, metrics_of, work_of
from .reply_parts import one_line
from .stored import records_chunks, stored_records

DESCRIPTION = "fcit_update.json"
WEIGHTS = "fcit_update.safetensors"
#: In their place: why a site has no reply.
FAILURE = "fcit_failure.json"
_AGAIN = "ask the site for its update again"

#: What Flower's records take; a loss that is not a number is judged with the reply.
_Value = Whole | float


class _Config(TypedDict):
    run: Word
    stage: Count
    round: Count
    client: Count
    task: Count
    subspace: NotRequired[Count]


class _Update(TypedDict):
    config: _Config
    metrics: dict[Word, _Value | list[Whole] | list[float]]


class _Failure(TypedDict):
    config: _Config
    reason: Word


def write_update(folder: Path, config: ConfigRecord, reply: Message) -> None:
    """Write a client's reply as an update folder; the description comes last."""
    (folder / FAILURE).unlink(missing_ok=True)  # of an earlier attempt
    write_chunks(folder / WEIGHTS, records_chunks(reply.content))
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
    described, weights, failed = (inside(folder, name) for name in (DESCRIPTION, WEIGHTS, FAILURE))
    if os.path.lexists(failed) and not os.path.lexists(described):
        reason = one_line(read_as(_Failure, failed, _AGAIN, most)["reason"])
        raise FcitError(f"{folder} holds no update, for its site has failed: {reason}")
    description = read_as(_Update, described, _AGAIN, most)
    config: dict[str, Any] = {**description["config"]}
    check_tensors(weights, most)
    content = stored_records(weights)
    try:
        content[METRICS] = MetricRecord(cast("Any", description["metrics"]))
        content[CONFIG] = work_of(config)
        request = Message(RecordDict(), dst_node_id=config["client"], message_type=MessageType.TRAIN)
        return config, Message(content, reply_to=request)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # Flower's records refuse what is of no good type
        raise FcitError(f"{described} does not have the form of an update, in its metrics or its config: {error}") from error
