"""A federation over a network on one machine: operator, sites and server as processes of their own, with TLS on loopback.

Everything is made and started as an operator and two hospitals would, and a run of the same records in one process says
whether what comes out is the same, bit by bit.
"""

import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..deployment.operator import programs
from ..errors import FcitError
from ..files import read_json, read_object, write_json
from ..shipped import shipped
from ..tensor_files import open_tensors
from .deployed import Deployment, ending
from .text import write_text_tasks

#: The sites, and the datasets of the two stages.
SITES, DATASETS = ("north", "south"), ("text_last", "text_sum")
#: Records of each site, and for the test.
_RECORDS, _TESTS = 40, 20


class Rehearsal(Deployment):
    """A deployment with records.

    Args:
        folder: New or empty.
        seed: Of the records.
        sites: Names of the sites, in the order of the alphabet.
        later: How many of them, the last ones, have records and are not enrolled yet.
    """

    def __init__(self, folder: Path, seed: int = 0, sites: Sequence[str] = SITES, later: int = 0) -> None:
        super().__init__(folder, sites[: len(sites) - later])
        self.sites = tuple(sites)
        self._write_data(seed)

    def _write_data(self, seed: int) -> None:
        """Each site's records in a folder of its own, the test records in the server's, all of them in one for the check."""
        every = self.folder / "data" / "all"
        write_text_tasks(every, train=_RECORDS * len(self.sites), test=_TESTS, seed=seed)
        known = read_object(every / "dataset_info.json")
        for dataset in DATASETS:
            rows = read_json(every / f"{dataset}.json")
            for number, row in enumerate(rows):
                row["site"] = self.sites[number % len(self.sites)]
            write_json(every / f"{dataset}.json", rows)
            for name in self.sites:
                write_json(self.folder / "data" / name / f"{dataset}.json", [row for row in rows if row["site"] == name])
            tests = read_json(every / f"{dataset}_test.json")
            write_json(self.folder / "data" / "server" / f"{dataset}_test.json", tests)
            for number, name in enumerate(self.sites):
                write_json(self.folder / "data" / name / f"{dataset}_test.json", tests[number :: len(self.sites)])
        both = {name: known[name] for dataset in DATASETS for name in (dataset, f"{dataset}_test")}
        for name in self.sites:
            write_json(self.folder / "data" / name / "dataset_info.json", both)
        of_tests = {f"{dataset}_test": known[f"{dataset}_test"] for dataset in DATASETS}
        write_json(self.folder / "data" / "server" / "dataset_info.json", of_tests)

    def start_site(self, name: str, changes: Mapping[str, object] | None = None) -> subprocess.Popen[bytes]:
        """Start a site by the shipped recipe.

        Args:
            name: The site.
            changes: Keys with other values.
        """
        own = {
            "dataset_dir": self.folder / "data" / name,
            "output_dir": self.folder / "out" / name,
            "fcit_superlink": self.fleet,
            "fcit_certificate": self.folder / name / "ca.crt",
            "fcit_site_key": self.folder / name / "site.key",
        }
        return self.start(name, _train("site", {**own, **(changes or {})}))

    def start_server(self, changes: Mapping[str, object] | None = None) -> subprocess.Popen[bytes]:
        """Start the server by the shipped recipe; started again, it goes on."""
        own = {
            "dataset_dir": self.folder / "data" / "server",
            "output_dir": self.folder / "out" / "server",
            "fcit_sites": self.deploy / "sites.yaml",
            "fcit_superlink": self.control,
            "fcit_superlink_appio": self.appio,
            "fcit_certificate": self.deploy / "ca.crt",
            "fcit_server_certificate": self.deploy / "server.crt",
            "fcit_server_key": self.deploy / "server.key",
            "fcit_eval_restricted": "'false'",
        }
        return self.start("server", _train("server", {**own, **(changes or {})}))

    def start_in_process(self, changes: Mapping[str, object] | None = None) -> subprocess.Popen[bytes]:
        """Start the run of the same records in one process."""
        own = {
            "dataset_dir": self.folder / "data" / "all",
            "output_dir": self.folder / "out" / "in_process",
            "fcit_engine": "process",
            "fcit_partition": "natural",
            "fcit_partition_column": "site",
            "fcit_eval_restricted": "'false'",
            **dict.fromkeys(("fcit_sites", "fcit_superlink", "fcit_certificate"), "null"),
            **dict.fromkeys(("fcit_server_certificate", "fcit_server_key"), "null"),
            "fcit_superlink_appio": "127.0.0.1:9091",
        }
        return self.start("in_process", _train("server", {**own, **(changes or {})}))

    def differences(self, but: Collection[str] = ()) -> list[str]:
        """What differs between the run over the network and that in one process: files of weights and tokens, and scores.

        Args:
            but: Keys of the report that may.
        """
        ours, theirs = self.folder / "out" / "server", self.folder / "out" / "in_process"
        found = []
        files = sorted(path.relative_to(theirs) for path in theirs.rglob("*.safetensors") if "checkpoints" not in path.parts)
        if not files:
            found.append("there are no weights")
        for name in files:
            if not _same(ours / name, theirs / name):
                found.append(str(name))
        one, other = (read_object(folder / "fcit_report.json") for folder in (ours, theirs))
        for key in ("accuracy", "last", "avg", "assignments", "dropped", "bytes_up", "bytes_down", "partition", "likelihood"):
            if one[key] != other[key] and key not in but:
                found.append(f"`{key}` of fcit_report.json")
        return found


def rehearse(folder: Path, seed: int = 0) -> None:
    """Do all of it, and say on the way what is done.

    Args:
        folder: New or empty.
        seed: Of the records.

    Raises:
        FcitError: A program has failed, or the result is another one than in one process.
    """
    start = time.monotonic()
    made = Rehearsal(folder, seed)
    print(f"Made in {made.folder}: the operator's folder deploy/, a folder of each site ({', '.join(SITES)}), and their data.")
    superlink = made.start_superlink()
    sites = [made.start_site(name) for name in SITES]
    with ending(superlink, *sites):
        print(f"Started a SuperLink for sites at {made.fleet}, and the sites; each prints into a file of its name.")
        server = made.start_server()
        with ending(server):
            made.finished("server", server)
        print(f"The server has finished after {time.monotonic() - start:.0f} s: {made.folder / 'out' / 'server'}.")
    made.finished("in_process", made.start_in_process())
    if differing := made.differences():
        raise FcitError(f"The run over the network differs from that in one process: {', '.join(differing)}.")
    print("The same records in one process give the same weights, tokens and scores, bit by bit.")


def _train(recipe: str, keys: Mapping[str, object]) -> list[str | Path]:
    changes = [f"{key}={value}" for key, value in keys.items()]
    return [programs() / "llamafactory-cli", "train", shipped("recipes") / "network" / f"{recipe}.yaml", *changes]


def _same(one: Path, other: Path) -> bool:
    if not one.exists():
        return False
    with open_tensors(one) as ours, open_tensors(other) as theirs:
        keys = list(theirs.keys())
        return set(keys) == set(ours.keys()) and all(
            np.array_equal(ours.get_tensor(key), theirs.get_tensor(key), equal_nan=True) for key in keys
        )
