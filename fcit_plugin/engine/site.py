"""``stage: fcit_site``: a site's process, which holds the model and trains on the site's data whenever the server asks."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Message, MessageType, RecordDict
from llamafactory.extras import logging
from typing_extensions import override

from .. import __version__
from ..arguments.option import AUTO
from ..deployment.addresses import free_ports, past_proxies
from ..deployment.certificates import check_certificate
from ..deployment.keys import read_private_key
from ..errors import FcitError
from ..federation.audit import AUDIT, Audit
from ..federation.client import make_client_app
from ..federation.hello import KIND as HELLO
from ..federation.hello import Answer, Question, TaskOfSite, answer_records, question_in
from ..federation.messages import config_of, mean_loss
from ..federation.noise import Noise
from ..federation.reply_cache import ClientApp, NoJournal, ReplyCache
from ..federation.run_secret import PRIVATE, noise_of_site, own_noise, record_of_site
from ..federation.shared_state import KIND as STATE
from ..federation.shared_state import SiteScore, scores_records, write_files
from ..federation.site_app import SiteApp
from ..federation.site_executor import Answers, SiteIdentity, SuperNode, serve, supernode_command
from ..federation.site_policy import SitePolicy
from ..federation.site_updates import SiteUpdates
from ..files import write_json
from ..folders import whole_folder
from ..state.folder import StateFolder
from ..state.names import ADAPTER_CONFIG, MANIFEST, round_in, round_name, subspace_folder
from ..state.own import signed
from ..state.server_state import ServerState
from .agreement import Agreement
from .client_training import LocalTrainer
from .fingerprint import NUM_PROCESSES, SETTLED, differing, digest_of, numbers
from .quiet import quiet_transformers
from .rehearsal import rehearse
from .session import Session, adapter_config
from .site_processes import SiteProcesses, TrainsTogether
from .site_sums import site_sums

logger = logging.get_logger(__name__)

#: Deciding keys that a site has of its own, or that concern the server alone.
OWN_KEYS = (
    # the precision of the base, and what fits the site's devices
    "bf16", "fp16", "pure_bf16", "tf32", "upcast_*", "quantization_*", "double_quantization", "flash_attn", "deepspeed",
    "disable_gradient_checkpointing", "use_reentrant_gc", "low_cpu_mem_usage", "enable_liger_kernel", "use_unsloth*",
    NUM_PROCESSES, "use_cpu",
    # records, which are its own, and how the server evaluates
    "dataset", "eval_dataset", "val_size", "max_samples", "max_new_tokens", "do_sample",
    "fcit_partition*", "fcit_beta", "fcit_min_client_samples", "fcit_eval_*", "fcit_zero_shot", "fcit_caption_metric",
    # whose replies the server takes, and how it is reached
    "fcit_min_replies", "fcit_max_*", "fcit_route_unconfirmed", "fcit_sites", "fcit_site_*", "fcit_superlink*",
    "fcit_certificate",
)  # fmt: skip
#: Files and folders of a site's output folder.
KEPT, MODELS, SUPERNODE_LOG = "kept", "models", "supernode.log"


def run_site(session: Session) -> None:
    """Answer the server until the process is stopped.

    Args:
        session: Of the site.

    Raises:
        FcitError: The key is none, or others may read it; the model cannot answer.
    """
    identity = identity_of(session)
    refuse_memory(session)
    rehearse(session, session.evaluator({}))
    processes = SiteProcesses(session)
    if not session.is_main:
        processes.follow()
        return
    site = SiteClient(session, identity.key, processes)
    server, audit = session.args.fcit_superlink, session.output_dir / AUDIT
    logger.info_rank0(f"This site answers the server at {server} until it is stopped; {audit} says what.")
    with quiet_transformers():
        answer(session, identity, site.app)
    processes.end()


def refuse_memory(session: Session) -> None:
    """Refuse a method whose clients train again on what they were asked for before: over a network no site knows that.

    Raises:
        FcitError: The recipe has such a method.
    """
    if session.program.method.num_remembered():
        raise FcitError(
            f"`fcit_method: {session.args.fcit_method}` goes back to records of earlier tasks by the draws of all rounds, "
            "which no site knows; take another method for a run over a network."
        )


def identity_of(session: Session) -> SiteIdentity:
    """Who the site is, and whom it answers.

    Raises:
        FcitError: The key is none, or others may read it; the certificate is none, or does not hold.
    """
    args = session.args
    assert args.fcit_site_key is not None and args.fcit_certificate is not None  # the stage needs them
    return SiteIdentity(read_private_key(Path(args.fcit_site_key)), check_certificate(Path(args.fcit_certificate)))


def answer(session: Session, identity: SiteIdentity, app: Answers, ended: Callable[[], bool] = lambda: False) -> None:
    """Answer what the server asks, by a SuperNode of the site's own.

    Args:
        session: Of the site.
        identity: Who it is.
        app: Gives the records of a reply.
        ended: Whether it is over.
    """
    args, address = session.args, f"127.0.0.1:{free_ports(1)[0]}"
    assert args.fcit_site_key is not None and args.fcit_certificate is not None and args.fcit_superlink is not None
    files = Path(args.fcit_certificate), Path(args.fcit_site_key)
    past_proxies(address)
    command = supernode_command(args.fcit_superlink, *files, address, args.fcit_site_heartbeat)
    with SuperNode(command, session.output_dir / SUPERNODE_LOG) as supernode:
        serve(app, identity, supernode, address, ended=ended)


class SiteClient:
    """What a site is to the server: one client, with all of its own records.

    Args:
        session: Of the site.
        key: Its private key.
        processes: Those of the site, of which this is the first.
    """

    def __init__(self, session: Session, key: ec.EllipticCurvePrivateKey, processes: SiteProcesses) -> None:
        self._session, self._processes = session, processes
        program, args = session.program, session.args
        self._tasks = tasks_of_site(session)
        own = {"clipping": args.fcit_site_clipping_norm, "noise": args.fcit_site_noise_multiplier}
        run = digest_of({**numbers(session.keys, session.arguments), "data": session.data, **own})
        audit, alike = Audit(session.output_dir / AUDIT), comparable(session.keys, session.arguments)
        of_base = session.base_fingerprint, dtype_of(session)
        self._agreement = Agreement(session.output_dir, program.run_id, alike, session.arguments, *of_base)
        policy = SitePolicy(
            run=program.run_id,
            num_stages=program.num_stages,
            num_rounds=args.fcit_num_rounds,
            schedule=session.scenario.schedule,
            records={number: sum(records.values()) for number, records in self._tasks.items()},
            names=[task.name for task in session.scenario.tasks],
            compression=None if args.fcit_update_compression == "none" else args.fcit_update_compression,
            max_records=args.fcit_site_max_records,
            max_rounds=args.fcit_site_max_rounds,
            trained=audit.trainings(program.run_id),
            client=audit.client(program.run_id),
            agreed=self._agreement.check,
        )
        self._updates = self._own_updates()
        sums, others = site_sums(session, key), {HELLO: self._greet, STATE: self._take_state}

        def keeping(app: ClientApp) -> ReplyCache:
            return ReplyCache(app, self._kept, run, _OwnLog())

        self.app = SiteApp(self._asked, keeping, policy, audit, session.output_dir / PRIVATE, others, sums)

    @property
    def records(self) -> dict[str, int]:
        """By the name of each task that it takes part in, how many records it has."""
        tasks = self._session.scenario.tasks
        return {tasks[number].name: sum(records.values()) for number, records in self._tasks.items()}

    def _greet(self, message: Message) -> RecordDict:
        question = question_in(message.content)
        check_question(question, self._session)
        answer = answer_records(self._answer(config_of(message).client))
        if question.base is not None:  # else it is a dry run, which asks for nothing after that
            self._agreement.keep()
        return answer

    def _take_state(self, message: Message) -> RecordDict:
        """Keep what the run has learned as an FCIT folder of the site's own, and tell how well it answers the site's tests."""
        session, config = self._session, config_of(message)
        if config.run != session.program.run_id or not 0 <= config.stage < session.program.num_stages:
            raise FcitError("The state is that of another run than this site's recipe describes.")
        folder = session.output_dir / MODELS / f"stage-{config.stage}"
        with whole_folder(folder, replace=True) as made:
            write_files(message.content, made)
            state, manifest = session.state_in(made), StateFolder(made).manifest
            ours = {**session.state_keys(), "template": session.data_args.template}
            del ours["num_clients"]  # which is the server's alone
            for key, value in ours.items():  # it is gone by later, and has to be what this recipe says
                if manifest.get(key) != value:
                    raise FcitError(f"The state has {manifest.get(key)!r} for `{key}`, and this site's recipe {value!r}.")
            for k in range(len(state.subspaces)):
                write_json(made / subspace_folder(k) / ADAPTER_CONFIG, adapter_config(session.model))
            own = {**manifest, "base_model": session.base_model}
            write_json(made / MANIFEST, signed(own, folder, logger.warning_rank0_once))
        logger.info_rank0(f"What was learned up to stage {config.stage} is in {folder}, for chat, api and export.")
        return scores_records(self._scores(state, config.stage) if session.evaluates else [])

    def _scores(self, state: ServerState, stage: int) -> list[SiteScore]:
        session = self._session
        names = [name for name in session.scenario.seen_datasets(stage) if name in session.tested_datasets]
        scores = self._processes.scores(state, names).free
        found = []
        for name in names:
            metric, records = session.catalogue.metrics(name).main, len(session.pipeline.test(name))
            found.append(SiteScore(dataset=name, metric=metric, score=scores[name], records=records))
            logger.info_rank0(
                f"Own test records of {name} after stage {stage}: {metric} {scores[name]:.2f} ({records} records)."
            )
        return found

    def _answer(self, client: int) -> Answer:
        session, program, local = self._session, self._session.program, self._client()
        tasks = {}
        for number, records in self._tasks.items():
            stage = next(stage for stage, row in enumerate(session.scenario.schedule) if number in row)
            work = program.work_of(stage, 0, client, number)
            rounds = (dataclasses.replace(work, round=round) for round in range(session.args.fcit_num_rounds))
            idle = [local.why_idle(each) for each in rounds]
            # what is said is said of all rounds, which may have pieces of one schedule
            said = None if None in idle else idle[0]
            tasks[session.scenario.tasks[number].name] = TaskOfSite(records, local.num_steps(work), said)
        told = session.trained_datasets if session.args.fcit_site_labels else []
        return Answer(tasks, session.pipeline.label_sets(told, {}), session.base_fingerprint)

    def _client(self) -> LocalTrainer:
        noise = self._session.args.fcit_identity_noise is not None
        return self._processes.local(self._noise if noise else None)

    @cached_property
    def _noise(self) -> Noise:
        """Where the noise on this site's tokens comes from: with ``auto`` a secret of its own, for each run another one."""
        session = self._session
        if session.args.fcit_dp_secret != AUTO:
            return noise_of_site(session.args, session.training_args.seed, None, session.output_dir, took_part=False)
        with record_of_site(session.output_dir, session.program.run_id) as (record, took_part):
            return noise_of_site(session.args, session.training_args.seed, record, session.output_dir, took_part)

    def _own_updates(self) -> SiteUpdates | None:
        """What this site does to its updates by itself; None if nothing."""
        session, args = self._session, self._session.args
        if args.fcit_site_clipping_norm is None:
            return None
        with record_of_site(session.output_dir, session.program.run_id, " updates") as (record, took_part):
            noise = own_noise(record, session.output_dir, took_part)
        return SiteUpdates(args.fcit_site_clipping_norm, args.fcit_site_noise_multiplier or 0.0, noise)

    def _asked(self, message: Message, context: Context) -> Message:
        """What the client app answers, with a line in the log."""
        config, session = config_of(message), self._session
        app = make_client_app(TrainsTogether(self._client(), self._processes), session.program.form.key)
        if message.metadata.message_type != MessageType.TRAIN:
            return app(message, context)
        where = f"Stage {config.stage} round {config.round}"
        task = session.program.task_name(config)
        steps = self._client().num_steps(config)
        logger.info_rank0(f"{where}: training subspace {config.subspace} on {task}, {steps} steps.")
        start = time.perf_counter()
        reply = app(message, context)
        reply = reply if self._updates is None else self._updates(reply, message)
        loss, seconds = mean_loss([reply]), time.perf_counter() - start
        logger.info_rank0(f"{where}: trained in {seconds:.0f} s, mean loss {loss:.4f}; the update is on its way.")
        return reply

    def _kept(self, stage: int, round: int) -> Path:
        """The folder of a round's kept reply; of earlier rounds the one before stays, which a server may go back to."""
        folder = self._session.output_dir / KEPT
        earlier = sorted(found for path in folder.glob("*") if (found := round_in(path.name)) and found < (stage, round))
        for where in earlier[:-1]:
            shutil.rmtree(folder / round_name(*where))
        return folder / round_name(stage, round)


def tasks_of_site(session: Session) -> dict[int, dict[str, int]]:
    """By index of each task that a site takes part in, how many records it has of each dataset."""
    tasks, names = session.scenario.tasks, set(session.trained_datasets)
    return {
        number: {name: len(session.pipeline.train(name)) for name in task.datasets}
        for number, task in enumerate(tasks)
        if names.issuperset(task.datasets)
    }


def check_question(question: Question, session: Session) -> None:
    """Refuse to take part in another run than the site's recipe describes.

    Args:
        question: What the server is about to run.
        session: Of the site.

    Raises:
        FcitError: The sentence names all that differs, with both values.
    """
    ours, parts = comparable(session.keys, session.arguments), session.arguments
    theirs = dict(question.keys)
    # a dry run has no weights, and so has not asked the base model what `auto` becomes
    open_yet = {key for key in SETTLED if theirs.get(key) == AUTO} if question.base is None else set()
    compared = (theirs.keys() | ours.keys()) - open_yet
    found = differing(theirs, ours, parts, compared, "{0} is {1!r} at the server and {2!r} at this site")
    if question.plugin != __version__:
        found.append(f"fcit-plugin is of version {question.plugin} at the server and {__version__} at this site")
    dtype = dtype_of(session)
    if question.base is None:  # a dry run, which has no weights
        pass
    elif question.base != session.base_fingerprint and question.dtype == dtype:
        found.append(
            f"the base model has the fingerprint {question.base} at the server and {session.base_fingerprint} at this site "
            f"({session.base_model})"
        )
    elif question.dtype != dtype:
        logger.info_rank0(
            f"The base model is in {dtype} here and in {question.dtype} at the server; whether it is one model is not known."
        )
    if found:
        raise FcitError(f"This site's recipe is not the server's: {'; '.join(found)}. Make them the same.")


def comparable(keys: Mapping[str, Any], parts: tuple[Any, ...]) -> dict[str, Any]:
    """The deciding keys that server and sites need alike."""
    alike = numbers(keys, parts)
    return {key: value for key, value in alike.items() if not any(fnmatchcase(key, pattern) for pattern in OWN_KEYS)}


def dtype_of(session: Session) -> str:
    """The type of the base model's numbers."""
    found: torch.dtype = next(p.dtype for name, p in session.model.named_parameters() if "lora_" not in name)
    return str(found).removeprefix("torch.")


class _OwnLog(NoJournal):
    """A site's log lines are its own, and nobody has missed them."""

    @override
    def replay(self, entries: dict[str, Any]) -> None:
        logger.info_rank0("The reply to this request was kept: nothing is trained again.")
