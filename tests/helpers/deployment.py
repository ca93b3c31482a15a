"""A deployment on this machine: an operator's folder and sites' folders as `fcit-cli` makes them, and a real SuperLink."""

import os
import subprocess
import sys
from pathlib import Path

from fcit_plugin.deployment import operator, site
from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.deployment.texts import QUIET

BIN = Path(sys.executable).parent


class Deployment:
    """Folders `deploy` and, for each site, one of its name below a folder; the SuperLink runs within the block."""

    def __init__(self, folder, names=("north", "south")):
        self.folder, self.names = folder, names
        fleet, control, appio = free_ports(3)
        self.fleet, self.control, self.appio = (f"127.0.0.1:{port}" for port in (fleet, control, appio))
        operator.init(self.deploy, ["127.0.0.1"], names, fleet, control, appio)
        for name in names:
            site.init(folder / name, self.deploy / "kits" / name)
            operator.enroll(self.deploy, name, folder / name / "site.pub")

    @property
    def deploy(self):
        return self.folder / "deploy"

    def start(self):
        flags = {"fleet": self.fleet, "control": self.control, "serverappio": self.appio}
        tls = {"ssl-ca-certfile": "ca.crt", "ssl-certfile": "server.crt", "ssl-keyfile": "server.key"}
        command = [BIN / "flower-superlink", "--enable-supernode-auth", "--isolation", "process"]
        command += [part for name, address in flags.items() for part in (f"--{name}-api-address", address)]
        command += [part for name, file in tls.items() for part in (f"--{name}", file)]
        env = {**os.environ, **QUIET, "FLWR_HOME": str(self.folder / "flwr")}
        log = (self.folder / "superlink.log").open("ab")
        self.superlink = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self.deploy)

    def kill(self):
        self.superlink.kill()
        self.superlink.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.kill()
