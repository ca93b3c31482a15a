"""Readers of what clients send and keep."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from flwr.app import Message, MessageType, RecordDict
from read_runs import LINES, mend_sums
from reader import Reader
from toy import Toy, bits, own, start

from fcit_plugin.engine.processes import Processes
from fcit_plugin.engine.stages import run_aggregate
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.client_states import ClientFolder
from fcit_plugin.federation.folders import DESCRIPTION, read_update, write_failure, write_update
from fcit_plugin.federation.messages import ClientConfig, config_record, to_record, update_reply
from fcit_plugin.federation.reply_cache import ReplyCache
from fcit_plugin.knowledge.identity_tokens import ClientToken
from fcit_plugin.state.server_state import ServerState


@cache
def _round() -> tuple[Any, ServerState, dict[int, Message], list[Message]]:
    """A round's program and state, what was asked and what was answered."""
    asked: dict[int, Message] = {}
    answered: list[Message] = []

    def keep(request: Message, reply: Message) -> None:
        if request.metadata.message_type == MessageType.TRAIN:
            asked[request.metadata.dst_node_id] = request
            answered.append(reply)

    toy = Toy(without=(3, 4, 5, 6), on_reply=keep)
    toy.round()
    state = start()
    return toy.program, state, asked, answered


def _write_round(folder: Path) -> None:
    _, _, asked, answered = _round()
    for reply in answered:
        client = reply.metadata.src_node_id
        write_update(folder / f"update-{client}", config_record(asked[client]), reply)


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _aggregate(folders: Sequence[Path]) -> tuple[ServerState, list[str]]:
    """What ``stage: fcit_aggregate`` makes of update folders, and what it says of those that it leaves out."""
    program, state, _, _ = _round()
    saved: list[ServerState] = []
    args = SimpleNamespace(fcit_state_dir="state", fcit_update_dirs=[str(path) for path in folders], adds_noise=False)
    session: Any = SimpleNamespace(
        args=args,
        program=program,
        processes=Processes(),
        keys={},
        training_args=SimpleNamespace(seed=1),
        load_state=lambda: state,
        save=lambda new, _: saved.append(new),
        output_dir="out",
    )
    said, logger = _Said(), logging.getLogger("llamafactory")
    logger.addHandler(said)
    logging.disable(logging.NOTSET)
    try:
        run_aggregate(session)
    finally:
        logger.removeHandler(said)
    return saved[0], [line for line in said.lines if "is left out" in line]


@cache
def _without_the_first(folder: Path) -> dict[str, Any]:
    """The state without the update that is spoilt."""
    return bits(_aggregate(sorted(folder.glob("update-*"))[1:])[0])


def _aggregated(folder: Path) -> Iterable[str]:
    folders = sorted(folder.glob("update-*"))
    state, said = _aggregate(folders)
    if said:
        assert bits(state) == _without_the_first(folder), "a bad update has touched the others"
    for tensors in (*state.subspaces, state.shared):
        assert all(torch.isfinite(value).all() for value in tensors.values())
    return said


def _update(folder: Path) -> None:
    config = ClientConfig(run="r", stage=0, round=0, client=1, task=0, subspace=0).to_record()
    request = Message(RecordDict({"config": config}), dst_node_id=1, message_type=MessageType.TRAIN)
    factors = {"l.lora_A.weight": torch.ones(2, 3), "l.lora_B.weight": torch.ones(4, 2)}
    write_update(
        folder / "update",
        config,
        update_reply(request, factors, {}, ClientToken(1, np.ones(2, np.float32), 6, 6, own_cosines=own(1)), 0.5),
    )


def _failure(folder: Path) -> None:
    write_failure(folder / "update", ClientConfig(run="r", stage=0, round=0, client=1, task=0).to_record(), "its disk is full")


def _failed(folder: Path) -> Iterator[str]:
    try:
        read_update(folder / "update", 2**20)
    except FcitError as error:
        if "for its site has failed: " not in str(error):  # then the file says what it is for
            raise
    return iter(())


def _read_one(folder: Path) -> Iterator[str]:
    _, message = read_update(folder / "update", 2**20)
    for record in message.content.array_records.values():
        [array.data for array in record.values()]
    return iter(())


class _Notes:
    """A journal of nothing."""

    def mark(self) -> int:
        return 0

    def since(self, mark: int) -> dict[str, Any]:
        return {"steps": 1, "log": LINES}

    def replay(self, entries: dict[str, Any]) -> None:
        assert entries["steps"] >= 0
        [(line["current_steps"], line["loss"], line["stage"]) for line in entries["log"]]


def _request() -> Message:
    _, _, asked, _ = _round()
    return asked[1]


def _keep(folder: Path) -> None:
    _, _, _, answered = _round()
    (reply,) = [reply for reply in answered if reply.metadata.src_node_id == 1]

    def app(message: Message, context: Any) -> Message:
        context.state["kept"] = to_record({"a": torch.ones(2)})
        return reply

    cache = ReplyCache(app, lambda stage, round: folder / "replies", "this run", _Notes())
    request = _request()
    cache.arrived(request, cache(request, SimpleNamespace(state=RecordDict())))


def _kept(folder: Path) -> Iterable[str]:
    """What is said of a kept reply that is not used."""
    trained: list[str] = []

    def app(message: Message, context: Any) -> Message:
        trained.append("it trains again")
        return message

    cache = ReplyCache(app, lambda stage, round: folder / "replies", "this run", _Notes())
    said, logger = _Said(), logging.getLogger("fcit_plugin.federation.reply_cache")
    logger.addHandler(said)
    context = SimpleNamespace(state=RecordDict())
    try:
        cache(_request(), context)
    finally:
        logger.removeHandler(said)
    if said.lines:
        assert trained and not context.state
        return said.lines
    for content in (context.state,):
        for record in content.array_records.values():
            [array.data for array in record.values()]
    return ()


def _site(folder: Path) -> None:
    ClientFolder(folder, _AT).write(RecordDict({"kept": to_record({"a": torch.ones(2)})}))


_AT = ClientConfig(run="r", stage=0, round=0, client=1, task=0)


def _site_read(folder: Path) -> Iterator[str]:
    state = ClientFolder(folder, ClientConfig(run="r", stage=0, round=1, client=1, task=0)).read()
    for record in state.array_records.values():
        [array.data for array in record.values()]
    return iter(())


#: What is judged when the reply is.
_JUDGED = ("*fcit_update.json:metrics*", "*fcit_update.json:config.server-round*")

READERS = [
    Reader("an update", _update, _read_one, free=_JUDGED),
    Reader("a site's failure", _failure, _failed, names={"*": DESCRIPTION}),
    Reader(
        "updates to aggregate",
        _write_round,
        _aggregated,
        share=1,
        spoil=("update-0/*",),
        names={"*": "update-0"},
        whole=("*",),
        free=_JUDGED,
    ),
    Reader("a kept reply", _keep, _kept, mend=mend_sums, whole=("*/checksums.json",), free=_JUDGED),
    Reader("a site's own state", _site, _site_read, optional=("*",)),
]
