"""What a site's recipe was when it agreed to a run: one that is started again with another recipe trains no further.

Server and site compare their recipes as the server starts. It may be at work for weeks after that, in which a site is started
again, with a key that somebody has changed or with another version of the plugin, and nobody would ask.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from .. import __version__
from ..errors import FcitError
from ..federation.run_secret import PRIVATE
from ..files import read_as, write_json
from ..schema import Word
from .fingerprint import differing


class _Agreed(TypedDict):
    plugin: Word
    base: Word | None
    dtype: Word
    keys: dict[Word, Any]


class Agreement:
    """The recipe of a site as it is, and as it was when the site agreed to a run.

    Args:
        folder: The site's output folder.
        run: Id of the run.
        keys: The deciding keys that server and sites have alike.
        parts: The argument objects, for the defaults of keys that are left out.
        base: The base model's fingerprint; None for one without weights.
        dtype: The type of its numbers: fingerprints of two types are not comparable.
    """

    def __init__(
        self, folder: Path, run: str, keys: Mapping[str, Any], parts: tuple[Any, ...], base: str | None, dtype: str
    ) -> None:
        self._path, self._parts = folder / PRIVATE / f"agreed-{run}.json", parts
        self._now = _Agreed(plugin=__version__, base=base, dtype=dtype, keys=dict(keys))

    def keep(self) -> None:
        """Keep that the site agrees to the run by the recipe as it is.

        Raises:
            OSError: It cannot be written.
        """
        write_json(self._path, self._now)

    def check(self) -> None:
        """Refuse to take part by another recipe than the one by which the site has agreed.

        Raises:
            FcitError: It has not agreed, or the recipe is another one since; the sentence names all that differs.
        """
        again = "the server's run, by the same command: it goes on, and asks all sites as it starts"
        if not self._path.exists():
            raise FcitError(f"This site was not asked yet whether its recipe is the server's; start {again}.")
        then, now = read_as(_Agreed, self._path), self._now
        found = differing(then["keys"], now["keys"], self._parts, then["keys"].keys() | now["keys"].keys())
        if then["plugin"] != now["plugin"]:
            found.append(f"fcit-plugin was of version {then['plugin']} and is of version {now['plugin']}")
        if then["dtype"] == now["dtype"] and then["base"] != now["base"]:
            found.append(f"the base model had the fingerprint {then['base']} and has {now['base']}")
        if found:
            raise FcitError(
                f"This site's recipe is not the one by which it has agreed to this run: {'; '.join(found)}. Take that back and "
                f"start the site again, or start {again}."
            )
