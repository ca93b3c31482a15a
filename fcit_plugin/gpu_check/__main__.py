"""One check, in this process: ``python -m fcit_plugin.gpu_check NAME DEVICE FOLDER`` (see :mod:`.runner`)."""

import sys
import traceback
from pathlib import Path

from ..autoload import autoload
from ..errors import one_line
from ..files import write_json
from .bench import Bench
from .check import NotHeldError, SkippedError
from .checks import CHECKS
from .runner import OUTCOME


def main(name: str, device: str, folder: str) -> None:
    """Make a check and write how it ended."""
    autoload()  # where PyTorch's is switched off
    check = next(check for check in CHECKS if check.name == name)
    try:
        word, told = "held", check.run(Bench(device, Path(folder)))
    except SkippedError as skipped:
        word, told = "skipped", str(skipped)
    except NotHeldError as failed:
        word, told = "failed", str(failed)
    except Exception as error:  # whatever a check meets is its outcome, and the traceback is in the log
        traceback.print_exc()
        word, told = "failed", f"{type(error).__name__}: {one_line(error)}"
    write_json(Path(folder) / OUTCOME, {"word": word, "told": told})


if __name__ == "__main__":
    main(*sys.argv[1:])
