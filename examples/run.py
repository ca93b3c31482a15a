"""Runs the commands of an example's README, as a reader would type them, and looks whether they print what stands there.

    python examples/run.py examples/hospital
    python examples/run.py examples/hospital/network --keep

The README is the only place that has the commands: blocks of `bash` are run, one after the other in one shell, and a block
without a language below one is what it prints. Numbers may differ (processors round differently), and `...` stands for
lines left out.
It runs in a copy of the folder, so nothing is left behind.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: What a README says in a comment whose commands are run.
MARK = "<!-- tested: examples/run.py -->"
#: In front of a block's output.
_BEGINS = "\x1e"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """Commands, and what they print.

    Attributes:
        commands: Lines for a shell.
        prints: Lines of the output, in their order; not all of them.
    """

    commands: str
    prints: tuple[str, ...]


def steps(readme: Path) -> list[Step]:
    """The steps of a README, in their order."""
    found: list[Step] = []
    for language, text in _BLOCK.findall(readme.read_text(encoding="utf-8")):
        if language == "bash":
            found.append(Step(text, ()))
        elif language == "" and found:
            found[-1] = Step(found[-1].commands, (*found[-1].prints, *(line for line in text.splitlines() if line.strip())))
    return found


def readmes() -> list[Path]:
    """The READMEs of the examples whose commands are run."""
    return sorted(path for path in HERE.rglob("README.md") if MARK in path.read_text(encoding="utf-8"))


def run(readme: Path, folder: Path, timeout: float | None = None) -> list[str]:
    """Run all steps.

    Args:
        readme: Of the example.
        folder: New; the example is copied there.
        timeout: Seconds that all of it may take.

    Returns:
        What the commands of each step have printed.

    Raises:
        RuntimeError: A command has failed, or it took too long; the message has what was printed last.
    """
    top = HERE / readme.relative_to(HERE).parts[0]
    shutil.copytree(top, folder / top.name, ignore=shutil.ignore_patterns("saves", "data", "deploy", "__pycache__"))
    script = "".join(f"printf '{_BEGINS}'\n{step.commands}" for step in steps(readme))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "output.txt").open("w+", encoding="utf-8", errors="replace") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder / readme.parent.relative_to(HERE),
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = shell.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(shell.pid)  # with what it has started, if that is still there
            shell.wait()
    printed = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
    if code != 0:
        why = f"took more than {timeout} s" if code is None else f"ended with {code}"
        raise RuntimeError(f"{readme} {why}. It printed last:\n{printed[-4000:]}")
    return printed.split(_BEGINS)[1:]


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGTERM)
    except ProcessLookupError:
        return


def not_printed(step: Step, printed: str) -> list[str]:
    """The lines that a README shows and that were not printed, or not in this order; numbers count as equal."""
    there = iter(list(map(_alike, printed.splitlines())))
    return [line for line in step.prints if line.strip() != "..." and not _is_in(_alike(line), there)]


def _is_in(line: str, there: Iterator[str]) -> bool:
    return any(line == other for other in there)


def _alike(line: str) -> str:
    """A line without its numbers and the widths of columns; `[...]` before a message of the log is no part of it."""
    bare = re.sub(r"^\[[A-Z]+\|[^\]]*\] \S+ >> ", "", line)
    return " ".join(re.sub(r"-?\d+(?:[.,:]\d+)*(?:e[+-]?\d+)?|\d", "#", bare).replace("-", " ").split())


def main() -> None:
    """Run the commands of one README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example", type=Path, help="a folder with a README.md")
    parser.add_argument("--keep", action="store_true", help="leave what the commands have written, and say where")
    args = parser.parse_args()
    readme = args.example.resolve() / "README.md"
    folder = Path(tempfile.mkdtemp(prefix="fcit-example-"))
    missing = []
    try:
        for step, printed in zip(steps(readme), run(readme, folder), strict=True):
            print(f"$ {step.commands.strip()}\n{printed}")
            missing += not_printed(step, printed)
    finally:
        print(f"Everything is in {folder}.") if args.keep else shutil.rmtree(folder)
    if missing:
        sys.exit("Shown in the README and not printed:\n" + "\n".join(missing))


if __name__ == "__main__":
    main()
