"""A deployment on one machine: an operator's folder, the sites' folders, and programs that run in them, on loopback."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..deployment import operator, site
from ..deployment.addresses import free_ports
from ..errors import FcitError
from ..files import read_bytes
from ..folders import check_empty

#: Seconds after which a program that has not come to its end is given up.
_LONGEST = 600.0
#: What all programs have in their environment: the same number of threads gives the same bits.
_ALIKE = {"OMP_NUM_THREADS": "1"}


class Deployment:
    """Below one folder the operator's, `deploy`, and one of each site's name; beside them what each program prints.

    Args:
        folder: New or empty.
        names: The sites, in the order of their numbers; all of them are enrolled.

    Raises:
        FcitError: The folder is neither.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        check_empty(folder)
        self.folder, self.deploy = folder.resolve(), folder.resolve() / "deploy"
        self.folder.mkdir(parents=True, exist_ok=True)
        fleet, control, appio = free_ports(3)
        self.fleet, self.control, self.appio = (f"127.0.0.1:{port}" for port in (fleet, control, appio))
        operator.init(self.deploy, ["127.0.0.1"], names, fleet, control, appio)
        for name in names:
            site.init(self.folder / name, self.deploy / "kits" / name)
            operator.enroll(self.deploy, name, self.folder / name / "site.pub")

    def start(self, name: str, command: Sequence[str | Path], **environment: str) -> subprocess.Popen[bytes]:
        """Start a program in the folder.

        Args:
            name: Of the file that takes what it prints.
            command: The program and its arguments.
            environment: What it has there beside ours.
        """
        with (self.folder / f"{name}.log").open("ab") as log:
            env = {**os.environ, **_ALIKE, **environment}
            return subprocess.Popen([*map(str, command)], stdout=log, stderr=log, cwd=self.folder, env=env)

    def start_superlink(self) -> subprocess.Popen[bytes]:
        """Start the SuperLink by the operator's script, which starts it again when it ends."""
        return self.start("superlink", [self.deploy / "superlink.sh"])

    def finished(self, name: str, process: subprocess.Popen[bytes], timeout: float = _LONGEST) -> None:
        """Wait for a program to come to a good end.

        Raises:
            FcitError: It has come to a bad one; the sentence ends with the last that it printed.
        """
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise FcitError(f"{name} has not ended after {timeout:g} s; see {self.folder / name}.log.") from error
        if code:
            lines = read_bytes(self.folder / f"{name}.log").decode(errors="replace").strip().splitlines() or [""]
            raise FcitError(f"{name} has ended with status {code}: {lines[-1]} ({self.folder / name}.log).")


@contextlib.contextmanager
def ending(*processes: subprocess.Popen[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], ...]]:
    """After the block these programs have ended."""
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
