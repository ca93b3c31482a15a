"""The three fcit stages: the whole loop (:mod:`.run`), one client of one round, and the aggregator."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from flwr.app import Message, MessageType, RecordDict
from llamafactory.extras import logging

from ..arguments.network import SITE_STAGE
from ..errors import FcitError, one_line
from ..federation.client import make_client_app
from ..federation.client_states import ClientFolder
from ..federation.failures import is_clients
from ..federation.folders import FAILURE, read_update, write_failure, write_update
from ..federation.in_process_grid import ask
from ..federation.messages import CONFIG, ClientConfig, config_record
from ..federation.program import Program
from ..federation.round import Round
from ..federation.server import RoundFailed, too_few, train_round
from ..federation.token_checks import waiting
from ..federation.validation import judge_tokens
from ..knowledge.identity_tokens import WithoutToken
from ..knowledge.organizer import Assignment
from ..recipe.request import Request
from ..recipe.world import World, left_world
from ..state.server_state import ServerState
from .bound_runs import run_programs
from .callbacks import Callbacks
from .check_site import check_site
from .dry_run import dry_run
from .evaluate_folder import evaluate_folder
from .folder_privacy import FolderPrivacy, site_noise
from .one_run import one_run
from .open_aggregator import open_aggregator
from .open_dry_session import open_dry_session
from .open_session import open_session
from .pool import Pool, ProcessGone
from .quiet import quiet_others, quiet_transformers
from .rehearsal import rehearse
from .session import Session
from .site import run_site
from .sites import dry_run_of_sites, with_sites
from .threads import use_threads
from .worker import work

logger = logging.get_logger(__name__)


def run_client(session: Session) -> None:
    """``stage: fcit_client``: train one client for one round and write its update folder to ``output_dir``.

    The client finds its own subspace: the server's state holds the identity tokens, so nothing has to be asked.
    """
    args, program = session.args, session.program
    state = session.load_state()
    client = args.fcit_client
    assert client is not None  # the stage needs one
    sampled = program.work(state.stage, state.round)
    if session.own_datasets:
        task = sampled[client].task if client in sampled else 0
        config = program.work_of(state.stage, state.round, client, task)
    elif client in sampled:
        config = sampled[client]
    else:
        raise FcitError(
            f"Client {client} is not sampled in stage {state.stage}, round {state.round}; "
            f"the clients of this round are {sorted(sampled)} (`fcit_client`)."
        )
    if session.is_main:
        (session.output_dir / FAILURE).unlink(missing_ok=True)  # of an earlier attempt
    try:
        if not (state.stage or state.round):
            rehearse(session, session.evaluator({}))
        _train_client(session, state, config)
    except Exception as error:  # at a site of its own whatever fails is a missing reply, and the server hears why
        clients = is_clients(error) or isinstance(error, FcitError)
        reason = one_line(error) if clients else f"{type(error).__name__}: {one_line(error)}"
        write_failure(session.output_dir, config.to_record(), reason)
        raise


def _train_client(session: Session, state: ServerState, config: ClientConfig) -> None:
    """Find the client's subspace, train it and write the update."""
    args, program, client = session.args, session.program, config.client
    if args.fcit_identity_noise is not None and args.fcit_dp_secret is None:
        logger.warning_rank0(
            "The noise on this site's identity token is drawn from the recipe's seed, which all sites have (simulated noise: "
            "protects nobody); set `fcit_dp_secret: auto`."
        )
    local = session.local(noise=site_noise(session, client) if args.fcit_identity_noise is not None else None)
    token = local.token(config)
    if isinstance(token, WithoutToken):
        known = local.choose(config, state.tokens)
        if known is None:
            raise FcitError(waiting(token, program.bounds(state)))
    else:
        known = program.method.organizer_of(state.stage, state.round).own_subspace(token.mean, state.tokens)
    k = len(state.subspaces) if known is None else known
    assignment = Assignment({client: k}, {}, (k,) if known is None else ())
    request = Round(program, state, assignment, {client: config}).requests[client]
    folder = None if args.fcit_client_dir is None else ClientFolder(Path(args.fcit_client_dir), config)
    kept = RecordDict() if folder is None else folder.read()
    with quiet_transformers():
        reply = ask(make_client_app(local, program.form.key), request, kept)
    if session.is_main:
        if folder is not None:
            folder.write(kept)
        write_update(session.output_dir, config.to_record(), reply)
        logger.info_rank0(f"The update of client {client} is in {session.output_dir}.")


def run_aggregate(session: Session) -> None:
    """``stage: fcit_aggregate``: fold update folders into the server state, and write the next one to ``output_dir``.

    Without ``fcit_state_dir`` it writes the state before the first round.
    """
    args, program = session.args, session.program
    if args.fcit_state_dir is None:
        FolderPrivacy(session).write()
        session.save(session.first_state(), session.output_dir)
        logger.info_rank0(f"The first server state is in {session.output_dir}.")
        return
    state = session.load_state()
    privacy = FolderPrivacy(session, state)
    updates, reasons = _read_updates(args.fcit_update_dirs or [], program.largest_update(state))
    work = _work_of(updates, state, program)
    asked = {
        client: Message(RecordDict({CONFIG: config.to_record()}), dst_node_id=client, message_type=MessageType.TRAIN)
        for client, config in work.items()
    }
    tokens, dropped = judge_tokens(asked, updates.values(), program.bounds(state))
    good = [reply for reply in updates.values() if reply.metadata.src_node_id in tokens]
    done, not_folded = train_round(program, state, work, tokens, lambda requests: good)
    for client, reason in (dropped | not_folded).items():
        folders = [folder for folder, reply in updates.items() if reply.metadata.src_node_id == client]
        reasons.append(f"{', '.join(folders)} of client {client}: {reason}")
    for reason in reasons:
        logger.warning_rank0(f"An update is left out: {reason.rstrip('.')}.")
    if done is None:
        raise RoundFailed(too_few(program, state, reasons, f"with {len(updates)} readable update folders"))
    privacy.add(state, work, done)
    privacy.write()
    session.save(done.state, session.output_dir)
    logger.info_rank0(f"{len(done.replies)} updates are folded in; the next server state is in {session.output_dir}.")


def _read_updates(folders: Sequence[str], most: int) -> tuple[dict[str, Message], list[str]]:
    """The replies in update folders, by folder, and why others cannot be read.

    A name that is not a folder is the caller's slip and refused; what is in a folder is the client's.
    """
    updates, reasons = {}, []
    for folder in folders:
        if not Path(folder).is_dir():
            raise FcitError(f"`fcit_update_dirs`: {folder} is not a folder.")
        if folder in updates:
            raise FcitError(f"`fcit_update_dirs`: {folder} appears twice.")
        try:
            _, updates[folder] = read_update(Path(folder), most)
        except ValueError as error:
            reasons.append(str(error))
    if not folders:
        raise FcitError("`fcit_update_dirs` names no update folder; there is nothing to aggregate.")
    return updates, reasons


def _work_of(updates: Mapping[str, Message], state: ServerState, program: Program) -> dict[int, ClientConfig]:
    """What the clients of some updates had to do in this round: only the task is theirs to say, if there is such a one."""
    sampled, work = program.work(state.stage, state.round), {}
    for reply in updates.values():
        client, task = reply.metadata.src_node_id, config_record(reply)["task"]
        if not isinstance(task, int) or task not in range(len(program.scenario.tasks)):
            task = sampled[client].task if client in sampled else 0
        if client in range(program.args.fcit_num_clients):
            work[client] = program.work_of(state.stage, state.round, client, int(task))
    return work


_STAGES = {"fcit": run_programs, "fcit_client": run_client, "fcit_site": run_site, "fcit_aggregate": run_aggregate}


def run_stage(
    request: Request,
    model_args: Any,
    data_args: Any,
    training_args: Any,
    finetuning_args: Any,
    callbacks: Sequence[Any] | None = None,
) -> None:
    """Run an fcit stage.

    Args:
        request: What the recipe asks of us.
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
        finetuning_args: Its fine-tuning arguments.
        callbacks: Its callbacks, and the user's.
    """
    given = (model_args, data_args, training_args, finetuning_args, request.generating_args)
    with quiet_others(deepspeed=bool(training_args.deepspeed)):
        _run_quietly(request, given, callbacks)


def _run_quietly(request: Request, given: tuple[Any, Any, Any, Any, Any], callbacks: Sequence[Any] | None) -> None:
    if request.args.fcit_dry_run:
        if request.stage == SITE_STAGE:
            check_site(open_session(*given))
            return
        session = open_dry_session(*given)
        if session.data_elsewhere:
            dry_run_of_sites(session)
        else:
            dry_run(session)
        return
    world = left_world()
    use_threads(request.args.fcit_threads, world)
    if world is not None:
        with _parallel(world) as pool:
            _run_stage(request, given, callbacks, pool)
    else:
        _run_stage(request, given, callbacks)


@contextlib.contextmanager
def _parallel(world: World) -> Iterator[Pool]:
    """The processes of a run that trains clients in parallel; at the end of the block the others are told that it is over."""
    pool = Pool(world)
    try:
        yield pool
        if pool.is_main:
            pool.send_all(("end",))
    except ProcessGone as error:
        if not pool.is_main:
            raise SystemExit(1) from error  # the first process has said why
        raise FcitError(str(error)) from error
    finally:
        pool.close()


def _run_stage(
    request: Request, given: tuple[Any, Any, Any, Any, Any], callbacks: Sequence[Any] | None, pool: Pool | None = None
) -> None:
    training_args = given[2]
    is_main = training_args.process_index == 0 and (pool is None or pool.is_main)
    with one_run(Path(training_args.output_dir), is_main):
        aggregates = request.stage == "fcit_aggregate" and pool is None
        opened = open_aggregator(*given) if aggregates else open_session(*given, pool=pool)
        session = replace(opened, callbacks=Callbacks.of(callbacks))
        if pool is not None and not pool.is_main:
            work(session, pool)
            return
        if request.evaluated is not None:
            evaluate_folder(session, request.evaluated)
            return
        assert request.stage is not None  # otherwise LLaMA-Factory runs its own
        with with_sites(session) if session.data_elsewhere else contextlib.nullcontext(session) as session:
            _STAGES[request.stage](session)
        if dist.is_initialized():
            dist.barrier()
