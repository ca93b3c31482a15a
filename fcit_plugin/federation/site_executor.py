"""A site's side: the process that holds the model takes the messages of its SuperNode, its child.

The code that the server's run brings along is never loaded. What is kept is answered again without training, signed again.
"""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message, RecordDict
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from ..deployment.addresses import as_dialed
from ..deployment.refusals import is_cut_off, says_how_it_goes, why_refused
from ..deployment.texts import QUIET
from ..errors import FcitError, one_line
from .envelope import nonce_of, open_request, sealed_failure, sealed_reply
from .site_grid import LinkLost
from .superlink import next_tasks, refused

logger = logging.getLogger(__name__)

#: Gives the records of a reply, by the request's type and records.
Answers = Callable[[str, RecordDict], RecordDict]
#: Seconds between two starts of a SuperNode: one that was killed counts as there for up to a minute, and is refused.
PAUSE = 5.0
#: Bytes of its log that are looked through, and after which it begins with nothing.
_LOOKED_THROUGH, _LONGEST_LOG = 1_000_000, 20_000_000
#: Starts a program that is killed with this process, however that ends (Linux): a SuperNode that is left alone keeps its
#: port, and its heartbeats tell the server that the site is at work.
_WITH_PARENT = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])"
)
#: A SuperNode that leaves as soon as its main function ends. By itself one that a new SuperLink does not know ("Invalid node
#: ID") fails while it cleans up, and then waits for its own threads forever, without a heartbeat.
_SUPERNODE = (
    "import os, sys, traceback\n"
    "import flwr.common.constant\n"
    "flwr.common.constant.HEARTBEAT_DEFAULT_INTERVAL = int(sys.argv.pop(1))\n"
    "from flwr.supernode.cli import flower_supernode\n"
    "try:\n"
    "    flower_supernode()\n"
    "except BaseException:\n"
    "    traceback.print_exc()\n"
    "finally:\n"
    "    sys.stdout.flush()\n"
    "    sys.stderr.flush()\n"
    "    os._exit(1)"
)


@dataclass(frozen=True)
class SiteIdentity:
    """Who a site is, and whom it answers.

    Attributes:
        key: Its private key.
        ca: The certificate of the CA by which its server's has to be.
    """

    key: ec.EllipticCurvePrivateKey
    ca: x509.Certificate

    @cached_property
    def encoded(self) -> bytes:
        """Its public key, as Flower's SuperLink knows it."""
        return public_key_to_bytes(self.key.public_key())


def supernode_command(superlink: str, certificate: Path, key: Path, address: str, heartbeat: int = 30) -> list[str]:
    """How a site's SuperNode is started.

    Args:
        superlink: Host and port of the SuperLink's Fleet API.
        certificate: The CA's certificate.
        key: The site's private key.
        address: Host and port at which it serves this process: an address of this machine.
        heartbeat: Seconds between two signs of life; after two without one the SuperLink takes it for gone, and lets another
            one with the same key in.
    """
    flags = [
        "--superlink",
        as_dialed(superlink),
        "--root-certificates",
        str(certificate),
        "--auth-supernode-private-key",
        str(key),
    ]
    return [
        sys.executable,
        "-c",
        _SUPERNODE,
        str(heartbeat),
        *flags,
        "--isolation",
        "process",
        "--clientappio-api-address",
        address,
    ]


class SuperNode:
    """A SuperNode as a child: it is started again when it ends, and ends with the block.

    Args:
        command: How it is started.
        log: File for what it prints.
        pause: Seconds between two starts.
    """

    def __init__(self, command: Sequence[str], log: Path, pause: float = PAUSE) -> None:
        self._command, self._log, self._pause = list(command), log, pause
        self._process: subprocess.Popen[bytes] | None = None
        self._file: BinaryIO | None = None  # what the present one prints into, whatever becomes of the name
        self._started = float("-inf")
        self._begins = 0  # where the log of the present one does
        self._heard = 0  # how long the log was when it was read
        self._said = ""
        self._cut_off = False

    def __enter__(self) -> "SuperNode":
        self.look()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._file is not None:
            self._file.close()

    def look(self) -> None:
        """Start it where it does not run, at the earliest a pause after the last start."""
        if self._process is not None:
            if self._process.poll() is None:
                self._listen()
                return
            if time.monotonic() - self._started < self._pause:
                return
            self._tell(self._process.returncode)
        self._started = time.monotonic()
        self._begin_log()
        command = [sys.executable, "-c", _WITH_PARENT, str(os.getpid()), *self._command]
        self._process = subprocess.Popen(command, stdout=self._file, stderr=self._file, env={**os.environ, **QUIET})

    def _begin_log(self) -> None:
        """Open the file of the name anew: somebody may have renamed the one before, or taken it away."""
        if self._file is not None:
            self._file.close()
        self._log.touch(0o600)  # ids of messages stand in it, and who has one can fetch the message
        self._file = self._log.open("ab+", buffering=0)
        with contextlib.suppress(OSError):  # it is another user's, who lets this one write
            os.fchmod(self._file.fileno(), 0o600)
        self._begins, self._heard = self._size(), 0

    def _listen(self) -> None:
        """Say it when the server cannot be reached, and when it can be again."""
        size = self._size()
        if size in (self._heard, 0):
            return
        if size < self._heard:  # somebody keeps logs short, as logrotate does
            self._begins = 0
        printed, self._heard = self._printed(), size
        cut_off = is_cut_off(printed) if says_how_it_goes(printed) else self._cut_off
        if cut_off and not self._cut_off:
            logger.warning(
                f"The server cannot be reached; it is tried again and again. `fcit-cli site check` says more, see {self._log}."
            )
        elif self._cut_off and not cut_off:
            logger.warning("The server is reached again.")
        self._cut_off = cut_off
        if size > _LONGEST_LOG and self._file is not None:
            os.ftruncate(self._file.fileno(), 0)
            self._begins = self._heard = 0

    def _size(self) -> int:
        """How long the log is."""
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def _printed(self) -> str:
        """The last that the present one has printed."""
        if self._file is None or not (size := self._size()):
            return ""
        begin = max(self._begins if self._begins <= size else 0, size - _LOOKED_THROUGH)
        return os.pread(self._file.fileno(), _LOOKED_THROUGH, begin).decode(errors="replace")

    def _tell(self, status: int) -> None:
        """Say once why it has ended, as far as it knows."""
        why = why_refused(self._printed()) or f"The SuperNode has ended with status {status}"
        level = logging.DEBUG if why == self._said else logging.WARNING
        logger.log(level, f"{why}. It is started again every {self._pause:g} s; see {self._log}.")
        self._said = why


def serve(
    app: Answers,
    identity: SiteIdentity,
    supernode: SuperNode,
    address: str,
    *,
    ended: Callable[[], bool] = lambda: False,
    poll: float = 0.2,
) -> None:
    """Answer what the SuperNode has, until it is over.

    Args:
        app: Gives the records of the reply to a request, by its type and its records (:class:`.site_app.SiteApp`).
        identity: Who the site is, and whom it answers.
        supernode: The SuperNode.
        address: Host and port of its ClientAppIo API.
        ended: Whether it is over; asked between two looks.
        poll: Seconds between two looks.
    """
    while not ended():
        supernode.look()
        try:
            for task in next_tasks(address):
                task.answer(answer_of(app, identity, task.message))
        except LinkLost as error:  # the server asks again, and gets what was kept
            logger.debug(str(error))
        time.sleep(poll)


def answer_of(app: Answers, identity: SiteIdentity, message: Message) -> Message:
    """The signed reply to a message, or the signed sentence of what failed: at a site whatever fails costs it its reply."""
    if message.has_error():
        return refused(message, "it is an error, and no request")
    kind, key = message.metadata.message_type, identity.key
    try:
        nonce = nonce_of(message.content)
    except FcitError as error:
        return refused(message, one_line(error))
    try:
        content = open_request(message.content, kind, identity.encoded, identity.ca)
        return Message(sealed_reply(app(kind, content), nonce, kind, key), reply_to=message)
    except Exception as error:
        logger.warning(f"A request is answered with a failure: {one_line(error)}", exc_info=not isinstance(error, FcitError))
        return Message(sealed_failure(one_line(error), nonce, kind, key), reply_to=message)
