"""The run that the board has started: a process of its own, so that the board stays when it ends and it can be stopped."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from enum import Enum
from pathlib import Path

from ..descendants import Descendants
from ..files import inside, opened, write_text, writing
from .command import RECIPE
from .refusals import Refusal

#: What the process says, in the run's output folder.
OUTPUT = "fcit_output.txt"
#: Bytes and lines of it that are shown, from its end.
_SHOWN_BYTES, _SHOWN_LINES = 20_000, 40


class Status(Enum):
    """What has become of the process; its value is the sentence that says so."""

    NONE = "nothing"
    RUNNING = "training"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


class Run:
    """One run at a time, for all who look at the board.

    Args:
        program: LLaMA-Factory's command.
    """

    def __init__(self, program: str = "llamafactory-cli") -> None:
        self.folder: Path | None = None
        self._program = program
        self._process: subprocess.Popen | None = None
        self._all = Descendants()
        self._asked = False
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether it is at work: the process, or where that did not end well what it has left behind, such as torchrun's."""
        if self._process is None:
            return False
        return self._process.poll() is None or (self._process.returncode != 0 and bool(self._all.pids()))

    @property
    def exit_code(self) -> int:
        """With what the process has ended."""
        assert self._process is not None
        return int(self._process.wait())

    def status(self, folder: Path) -> Status:
        """What has become of the run in a folder; nothing is known of one that others have started."""
        if self._process is None or folder != self.folder:
            return Status.NONE
        if self.running:
            return Status.STOPPING if self._asked else Status.RUNNING
        if self._asked:
            return Status.STOPPED
        return Status.FINISHED if self.exit_code == 0 else Status.FAILED

    def start(self, recipe: str, folder: Path) -> None:
        """Write the recipe into its output folder and start it, as the previewed command does.

        Args:
            recipe: As YAML.
            folder: The output folder.

        Raises:
            FcitError: Another run is at work, or LLaMA-Factory's command is not installed.
        """
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        program = shutil.which(self._program, path=scripts)
        if program is None:
            raise Refusal("no_program", program=self._program)
        with self._lock:
            if self.running:
                raise Refusal("at_work", folder=self.folder)
            write_text(folder / RECIPE, recipe)
            self._all = Descendants()
            env = {**os.environ, "PATH": scripts, "LLAMABOARD_ENABLED": "1", "LLAMABOARD_WORKDIR": str(folder), **self._all.env}
            with writing(folder / OUTPUT), open(folder / OUTPUT, "wb") as output:
                command = [program, "train", str(folder / RECIPE)]
                self._process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
            self.folder, self._asked = folder, False

    def stop(self) -> None:
        """Ask the run to end after its step; asked again, it is ended at once, and goes on from its last commit then.

        Asked are the processes that train, by LLaMA-Factory's signal; torchrun, which does not listen, waits for them. Where
        none listens yet, there is no step to wait for.
        """
        with self._lock:
            if not self.running:
                return
            assert self._process is not None
            if self._asked or not self._all.ask(signal.SIGABRT):
                self._process.kill()
                self._all.end()
            self._asked = True


def output_of(folder: Path) -> str:
    """The end of what the process in a folder has said; nothing where there is none.

    Raises:
        FcitError: It cannot be read.
    """
    if not os.path.lexists(folder / OUTPUT):
        return ""
    with opened(inside(folder, OUTPUT)) as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _SHOWN_BYTES, 0))
        text = file.read().decode(errors="replace")
    return "\n".join(deque(text.splitlines(), _SHOWN_LINES))
