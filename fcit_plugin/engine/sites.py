"""The server's side of ``fcit_engine: flower``: its way to the sites, and what these have, in place of the data."""

import contextlib
import dataclasses
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding
from flwr.app import Message
from llamafactory.extras import logging

from ..deployment.certificates import check_certificate, read_certificate
from ..deployment.connection import check_connection
from ..deployment.keys import read_pem_key
from ..deployment.sites import read_sites
from ..errors import FcitError, one_line
from ..federation.envelope import ServerSigner
from ..federation.hello import Answer, Question, answer_in, hello
from ..federation.messages import ClientConfig
from ..federation.reply_cache import NoJournal, ReplyCache
from ..federation.shared_state import scores_in, state_files, state_message
from ..federation.site_grid import AWAY, Late, Link, LinkLost, Site, SiteGrid
from ..federation.site_lists import clients_by_stage
from ..federation.superlink import SuperLink, read_site
from ..scenario.tasks import Scenario
from ..state.folder import StateFolder
from ..state.server_state import ServerState
from .fingerprint import digest_of
from .session import Session
from .site import comparable, dtype_of, refuse_memory
from .site_answers import SiteAnswers
from .site_sums import server_sums

logger = logging.get_logger(__name__)

#: The SuperLink's Control API, where the recipe does not say: on the server's own machine.
CONTROL = "127.0.0.1:9093"
#: What is taken over of a site's score.
_TOLD: tuple[Literal["dataset", "metric", "score", "records"], ...] = ("dataset", "metric", "score", "records")


class SiteWork:
    """What sites have to do, by what they have told: in place of :class:`.client_training.LocalTrainer`.

    Args:
        scenario: Tasks and schedule.
        answers: What each site has told, by the client's number.
    """

    def __init__(self, scenario: Scenario, answers: Sequence[Answer]) -> None:
        self._scenario, self._answers = scenario, answers

    def num_steps(self, config: ClientConfig) -> int:
        """Optimizer steps of a site's local training."""
        return self._answers[config.client].tasks[self._scenario.tasks[config.task].name].steps

    def why_idle(self, config: ClientConfig) -> str | None:
        """Why a site's local training cannot take a step, None where it can."""
        return self._answers[config.client].tasks[self._scenario.tasks[config.task].name].idle

    def reads(self, config: ClientConfig) -> dict[int, np.ndarray]:
        """By task the indices of records that this process reads for a client: none."""
        return {}

    def partition_table(self) -> list[dict[str, Any]]:
        """See :meth:`fcit_plugin.scenario.partition.Partition.table`; 0 for a task that a site takes no part in."""
        rows = []
        for task in self._scenario.tasks:
            has = [answer.tasks.get(task.name) for answer in self._answers]
            for dataset in task.datasets:
                counts = [0 if one is None else one.records.get(dataset, 0) for one in has]
                rows.append({"task": task.name, "dataset": dataset, "records": counts})
        return rows

    @property
    def tasks(self) -> list[frozenset[int]]:
        """For each site the indices of the tasks that it takes part in."""
        names = [task.name for task in self._scenario.tasks]
        return [frozenset(number for number, name in enumerate(names) if name in answer.tasks) for answer in self._answers]


@dataclasses.dataclass(frozen=True)
class Sites:
    """The sites of a run.

    Attributes:
        link: The way to them.
        signer: The server, whose signature they look for.
        names: Their names, by the client's number.
        sites: Who they are, by the client's number; one that has been removed is not among them.
        patience: Seconds that one may be away.
        timeout: Seconds after which an answer comes too late.
        poll: Seconds between two looks for replies.
        answers: What each has told; empty before they were asked.
        late: Replies that nobody waits for any more.
    """

    link: Link
    signer: ServerSigner
    names: Sequence[str]
    sites: Mapping[int, Site]
    patience: float
    timeout: float | None
    poll: float
    answers: Sequence[Answer] = ()
    late: dict[str, Late] = dataclasses.field(default_factory=dict)

    def grid(self, cache: ReplyCache, on_reply: Callable[[Message, Message], None] = lambda request, reply: None) -> SiteGrid:
        """What carries requests to the sites.

        Args:
            cache: Keeps their replies.
            on_reply: Called with each request and its reply.
        """
        return SiteGrid(
            *(self.link, self.signer, self.sites, cache, on_reply),
            patience=self.patience,
            timeout=self.timeout,
            poll=self.poll,
            late=self.late,
            say=logger.info_rank0,
        )

    def share(self, session: Session, state: ServerState, stage: int) -> list[dict[str, Any]]:
        """Give every site what was learned so far, and hear how well it answers their own test records.

        Args:
            session: The run's.
            state: What was learned.
            stage: The stage that is over.

        Returns:
            The scores of the sites that tell some: site, stage, dataset, metric, score, records.
        """
        with tempfile.TemporaryDirectory(dir=session.output_dir) as folder:
            session.save(state, Path(folder))
            last = session.args.fcit_num_rounds - 1
            files = state_files(Path(folder))
            requests = [state_message(session.program.work_of(stage, last, n, 0), files) for n in self.sites]
            replies = list(self.grid(_unkept()).send_and_receive(requests))
        rows: list[dict[str, Any]] = []
        seen = set(session.scenario.seen_datasets(stage))
        for number, reply in zip(self.sites, replies, strict=True):
            name = self.names[number]
            if reply.has_error():
                logger.warning_rank0(f"Site {name} does not have what stage {stage} gave: {reply.error.reason}.")
                continue
            try:
                scores = scores_in(reply.content, name)
            except FcitError as error:  # what it tells is its own affair, and ends nobody's run
                logger.warning_rank0(f"{one_line(error)} Nothing of it is kept.")
                continue
            kept = {score["dataset"]: score for score in scores if score["dataset"] in seen}
            rows += [{"site": name, "stage": stage, **{key: score[key] for key in _TOLD}} for score in kept.values()]
        return rows

    def records(self, names: Iterable[str]) -> dict[str, int]:
        """How many records of each dataset all sites have together."""
        tasks = [task for answer in self.answers for task in answer.tasks.values()]
        return {name: sum(task.records.get(name, 0) for task in tasks) for name in names}

    def labels(self, names: Sequence[str], known: Mapping[str, Sequence[str] | None]) -> dict[str, Sequence[str] | None]:
        """The label set of each dataset; None where answers are open, or a site that has it does not tell.

        Args:
            names: The datasets that are trained on.
            known: What is known of datasets trained on before.
        """
        found = dict(known)
        for name in names:
            having = [answer for answer in self.answers if any(name in task.records for task in answer.tasks.values())]
            told = [answer.labels.get(name) for answer in having]
            whole = [labels for labels in (*told, *([known[name]] if name in known else [])) if labels is not None]
            complete = len(whole) == len(told) + (name in known)
            found[name] = sorted({label for labels in whole for label in labels}) if complete and whole else None
        return found


def sites_of(session: Session) -> tuple[list[str], dict[int, Site], list[Site]]:
    """The names of the sites that the recipe lists, those of them that take part, by the client's number, and the removed.

    Raises:
        FcitError: A key is none, or there are more or fewer sites than clients.
    """
    given: Any = session.args.fcit_sites
    listed = read_sites(given, Path())
    if len(listed) != session.args.fcit_num_clients:
        raise FcitError(f"`fcit_sites` names {len(listed)} sites, and `fcit_num_clients` is {session.args.fcit_num_clients}.")
    there = {number: read_site(site.name, site.key) for number, site in enumerate(listed) if not site.removed}
    removed = [read_site(site.name, site.key) for site in listed if site.removed and site.key.exists()]
    return [site.name for site in listed], there, removed


@contextlib.contextmanager
def with_sites(session: Session) -> Iterator[Session]:
    """Within the block the session has sites, all of which have said what they have.

    Args:
        session: Of the server.

    Raises:
        FcitError: One cannot take part; the sentence names it and says why.
    """
    args = session.args
    refuse_memory(session)
    signer = signer_of(session)
    ca = Path(args.fcit_certificate or "")
    certificate = read_certificate(ca).public_bytes(Encoding.PEM)
    names, there, removed = sites_of(session)
    before = sites_before(session, names)
    with _ending_well(), SuperLink(args.fcit_superlink or CONTROL, args.fcit_superlink_appio, certificate, ca) as link:
        for site in removed:
            try:
                link.forget(site.encoded)
            except LinkLost as error:
                logger.warning_rank0(f"Site {site.name}, which has been removed, was not shut out of the SuperLink: {error}.")
        found = Sites(link, signer, names, there, args.fcit_site_patience, args.fcit_client_timeout, args.fcit_site_poll)
        found = dataclasses.replace(found, answers=ask_all(session, found))
        work = SiteWork(session.scenario, found.answers)
        program = dataclasses.replace(session.program, tasks_of=work.tasks, sums=server_sums(session), clients_of=before)
        check_tasks(session.scenario, work.tasks)
        yield dataclasses.replace(session, sites=found, program=program)


def sites_before(session: Session, names: Sequence[str]) -> dict[int, int]:
    """How many sites there were in stages that the run, or the one that it goes on from, has begun.

    Raises:
        FcitError: The list is another one, or has grown in a run where that cannot be.
    """
    if session.start is not None:
        lists = StateFolder(session.start.folder).progress().site_lists
    else:
        lists = [] if session.earlier is None else session.earlier.progress.site_lists
    found = clients_by_stage(lists, names)
    if any(count != len(names) for count in found.values()):
        args = session.args
        reasons = {
            "its noise covers a share of the sites (`fcit_dp_noise_multiplier`)": args.fcit_dp_noise_multiplier is not None,
            f"`fcit_server_rule: {args.fcit_server_rule}` counts them": args.fcit_server_rule == "scaffold",
        }
        for why, is_so in reasons.items():
            if is_so:
                raise FcitError(f"`fcit_sites` has grown to {len(names)} sites, which this run cannot take: {why}.")
    return found


def signer_of(session: Session) -> ServerSigner:
    """What this server signs its requests with.

    Raises:
        FcitError: A file is missing or none of its kind, the certificate does not hold, or the key is another one's.
    """
    args = session.args
    ca, own, key_file = (
        Path(name or "") for name in (args.fcit_certificate, args.fcit_server_certificate, args.fcit_server_key)
    )
    certificate, key = check_certificate(own, ca=ca), read_pem_key(key_file)
    if certificate.public_key() != key.public_key():
        raise FcitError(f"{key_file} (`fcit_server_key`) is not the key of the certificate {own} (`fcit_server_certificate`).")
    return ServerSigner(key, certificate.public_bytes(Encoding.PEM))


#: Seconds that a dry run waits for sites.
_PATIENCE_OF_DRY_RUN = 20.0


def dry_run_of_sites(session: Session) -> None:
    """List the sites that answer, with what they have, and those that do not, with the reason.

    Args:
        session: Of a server, without the model's weights.

    Raises:
        FcitError: The SuperLink is not there, or a file of the deployment is wrong.
    """
    args, (names, sites, _) = session.args, sites_of(session)
    control, ca = args.fcit_superlink or CONTROL, Path(args.fcit_certificate or "")
    check_connection(control, ca)
    question = Question(comparable(session.keys, session.arguments), None, "")
    print(f"Recipe {digest_of(question.keys)}: {session.scenario.num_stages} stages of {args.fcit_num_rounds} rounds.")
    with SuperLink(control, args.fcit_superlink_appio, read_certificate(ca).public_bytes(Encoding.PEM)) as link:
        asked = Sites(link, signer_of(session), names, sites, _PATIENCE_OF_DRY_RUN, _PATIENCE_OF_DRY_RUN, args.fcit_site_poll)
        replies = _greeted(session, asked, question)
    for number, reply in replies.items():
        name = sites[number].name
        if reply.has_error():
            print(f"{name}: {reply.error.reason}")
            continue
        try:
            found = answer_in(reply.content, name)
        except FcitError as error:
            print(f"{name}: {one_line(error)}")
            continue
        print(f"{name}: {_in_words(found)}; fcit-plugin {found.plugin}, base model {found.base}")


def ask_all(session: Session, sites: Sites) -> list[Answer]:
    """What each site has, after each has found that it means the same run.

    A site that is away, but has told the same run before, has what it told then: it is asked again in its next round.

    Raises:
        FcitError: The sentence names every site that cannot take part, and says why.
    """
    keys = comparable(session.keys, session.arguments)
    question = Question(keys, session.base_fingerprint, dtype_of(session))
    logger.info_rank0(f"Waiting for the sites {', '.join(site.name for site in sites.sites.values())}.")
    replies = _greeted(session, sites, question)
    told = {sites.names[number]: reply.content for number, reply in replies.items() if not reply.has_error()}
    found = {name: answer_in(content, name) for name, content in told.items()}
    before = SiteAnswers(session.output_dir, digest_of(dataclasses.asdict(question)))
    problems = []
    for number, reply in replies.items():
        name = sites.names[number]
        if name in found:
            continue
        known = before.of(name) if reply.error.code == AWAY else None
        if known is None:
            problems.append(f"{name}: {(reply.error.reason or 'it has failed').rstrip('.')}.")
        else:
            found[name] = known
            logger.warning_rank0(f"Site {name} is away; it counts with what it told before, and is asked in its next round.")
    if problems:
        raise FcitError(f"The run does not start, for not all sites can take part. {' '.join(problems)}")
    before.keep(told)
    answers = []
    for number, name in enumerate(sites.names):
        if number not in replies:
            logger.info_rank0(f"Site {name} has been removed.")
            answers.append(Answer({}, {}))
            continue
        answers.append(found[name])
        logger.info_rank0(f"Site {name} has {_in_words(found[name])}.")
    return answers


def _greeted(session: Session, sites: Sites, question: Question) -> dict[int, Message]:
    """What sites reply to the question, by the client's number."""
    requests = [hello(session.program.work_of(0, 0, number, 0), question) for number in sites.sites]
    return dict(zip(sites.sites, sites.grid(_unkept()).send_and_receive(requests), strict=True))


def _in_words(answer: Answer) -> str:
    tasks = [f"{sum(task.records.values()):,} records of {name}" for name, task in answer.tasks.items()]
    return ", ".join(tasks) or "no task of this run"


def check_tasks(scenario: Scenario, tasks: Sequence[frozenset[int]]) -> None:
    """Refuse a run with a task that no site takes part in.

    Raises:
        FcitError: The sentence names it.
    """
    missing = [task.name for number, task in enumerate(scenario.tasks) if not any(number in has for has in tasks)]
    if missing:
        raise FcitError(f"No site takes part in {', '.join(missing)}; let one of them, or take it out of `fcit_stages`.")


def nobody(message: Message, context: Any) -> Message:
    """The client app of a server whose clients are sites."""
    raise NotImplementedError("Sites are asked by the grid.")


def _unkept() -> ReplyCache:
    """A cache for requests whose replies are not kept."""
    return ReplyCache(nobody, lambda stage, round: Path(), "", NoJournal())


@contextlib.contextmanager
def _ending_well() -> Iterator[None]:
    """Within the block SIGTERM ends this process as Ctrl-C does: the SuperLink is told, and sites stop to work for it."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
