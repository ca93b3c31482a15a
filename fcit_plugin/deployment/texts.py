"""What the written files say: the SuperLink's start script, the systemd units, a site's recipe and instructions."""

import shlex
from pathlib import Path

from .mappings import yaml_text

#: Flower tells others of its use, looks for updates and installs what an app wants, but for these.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
#: Keys of a site's recipe that name files in its own folder.
OWN_KEYS = {"output_dir": "out", "fcit_certificate": "ca.crt", "fcit_site_key": "site.key"}
#: Hardening that both units have: no new rights, a file system of its own where it counts, no strange system calls.
_HARDENED = """\
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateTmp=yes
ProtectSystem=full
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""


def superlink_script(programs: Path, fleet: str, control: str, appio: str) -> str:
    """The script that starts ``flower-superlink``, and starts it again when it ends.

    Args:
        programs: The folder with ``flower-superlink`` and ``fcit-cli``.
        fleet: Host and port that sites connect to.
        control: The same of the Control API, which has TLS but no accounts: an address of this machine alone.
        appio: The same of the ServerAppIo API, which has not even TLS.
    """
    quiet = "\n".join(f"export {name}={value}" for name, value in QUIET.items())
    return f"""\
#!/bin/sh
# Starts Flower's SuperLink, and starts it again when it ends: SIGTERM or Ctrl-C ends both. What it knows is in its memory
# alone; a run goes on from its own commits. Sites connect to {fleet}. The other two addresses take commands from whoever
# reaches them, so they have to be of this machine.
cd "$(dirname "$0")" || exit 1
BIN=${{BIN:-{shlex.quote(str(programs))}}}
umask 077
{quiet}
export FLWR_HOME="$PWD/flwr"

"$BIN/fcit-cli" deploy check --in . --free {fleet} {control} {appio} || exit 1

child=
stop() {{
    trap '' HUP INT TERM
    [ -n "$child" ] && kill "$child" 2>/dev/null && wait "$child"
    exit 0
}}
trap stop HUP INT TERM
while :; do
    "$BIN/flower-superlink" \\
        --ssl-ca-certfile ca.crt --ssl-certfile server.crt --ssl-keyfile server.key \\
        --enable-supernode-auth --isolation process --disable-runtime-dependency-installation \\
        --fleet-api-type grpc-rere --fleet-api-address {fleet} \\
        --control-api-address {control} --serverappio-api-address {appio} &
    child=$!
    wait "$child"
    echo "superlink.sh: flower-superlink has ended with status $?, and is started again in 5 seconds" >&2
    sleep 5 &
    child=$!
    wait "$child"
done
"""


def superlink_unit(folder: Path, user: str) -> str:
    """The systemd unit of the SuperLink.

    Args:
        folder: The operator's folder.
        user: Who it runs as.
    """
    return f"""\
# sudo cp fcit-superlink.service /etc/systemd/system/ && sudo systemctl enable --now fcit-superlink
[Unit]
Description=Flower SuperLink of a federation (fcit-plugin)
Wants=network-online.target
After=network-online.target

[Service]
# whoever may read server.key; a user of its own is better than yours
User={user}
WorkingDirectory={_unquoted(folder)}
ExecStart=/bin/sh {_argument(folder / "superlink.sh")}
Restart=always
RestartSec=5
# the CA's key is for `fcit-cli deploy renew` alone
InaccessiblePaths={_quoted(folder / "ca.key", "-")}
PrivateDevices=yes
ProtectKernelModules=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallFilter=@system-service
{_HARDENED}
[Install]
WantedBy=multi-user.target
"""


def site_unit(folder: Path, programs: Path, user: str) -> str:
    """The systemd unit of a site: it needs the GPU's devices, and no port.

    Args:
        folder: The site's folder.
        programs: The folder with ``llamafactory-cli``.
        user: Who it runs as.
    """
    return f"""\
# sudo cp fcit-site.service /etc/systemd/system/ && sudo systemctl enable --now fcit-site
[Unit]
Description=Site of a federation (fcit-plugin)
Wants=network-online.target
After=network-online.target

[Service]
# whoever may read site.key and the data; a user of its own is better than yours
User={user}
WorkingDirectory={_unquoted(folder)}
ExecStart={_quoted(programs / "llamafactory-cli")} train {_argument(folder / "site.yaml")}
Restart=always
RestartSec=30
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
{_HARDENED}
[Install]
WantedBy=multi-user.target
"""


def _quoted(path: Path, prefix: str = "") -> str:
    """A path as a word of systemd's (systemd.syntax(7)); `%` has a meaning there."""
    text = _unquoted(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{prefix}{text}"' if set(text) & set(" \t'\"\\;") else prefix + text


def _argument(path: Path) -> str:
    """The same in a command, where `$` has one, too (systemd.service(5))."""
    return _quoted(path).replace("$", "$$")


def _unquoted(path: Path) -> str:
    return str(path).replace("%", "%%")


def operator_recipe(folder: Path, control: str, appio: str) -> str:
    """The keys that a recipe takes over from the operator's folder.

    Args:
        folder: The operator's folder.
        control: Host and port of the SuperLink's Control API.
        appio: The same of its ServerAppIo API.
    """
    return f"""\
# What a recipe needs so that the sites of this federation train it; written by fcit-cli deploy init.
stage: fcit
fcit_engine: flower
fcit_sites: {yaml_text(folder / "sites.yaml")}
fcit_superlink: {control}
fcit_superlink_appio: {appio}
fcit_certificate: {yaml_text(folder / "ca.crt")}
fcit_server_certificate: {yaml_text(folder / "server.crt")}
fcit_server_key: {yaml_text(folder / "server.key")}
"""


def site_recipe(name: str | None = None, address: str | None = None) -> str:
    """A site's recipe, to be filled in, without what is in the site's own folder.

    Args:
        name: The site's name, where it is known.
        address: Host and port that it connects to, where they are known.
    """
    server = f"fcit_superlink: {address}" if address else "# fcit_superlink: fl.example.org:9092"
    return f"""\
# The recipe of {f"site {name}" if name else "a site"}. Read it before you start: it alone says what the server may ask for.
stage: fcit_site

### the server: the only machine that this one connects to; nothing connects to this one
{server}

### what is here: the base model, and a folder whose dataset_info.json has the recipe's names with files of your own
# model_name_or_path: /path/to/the/base/model
# dataset_dir: /path/to/your/data
# per_device_train_batch_size: 1

### what the server may ask for; anything beyond it is refused. Without these lines: all stages, no bound, no answers told
# fcit_site_tasks: [first_dataset, second_dataset]
# fcit_site_max_rounds: 20  # trainings, of which a round that is asked for again takes one more
# fcit_site_max_records: 10000
# fcit_site_labels: false
# fcit_site_eval: false

### the recipe that all sites share: copy the operator's keys to here (template, lora_rank, learning_rate, ...)
"""


def own_part(folder: Path) -> str:
    """What a site's recipe says of its own folder.

    Args:
        folder: The site's folder.
    """
    lines = (f"{key}: {yaml_text(folder / name)}\n" for key, name in OWN_KEYS.items())
    return "\n### files of this site's own\n" + "".join(lines)


def instructions(name: str, address: str, ca_fingerprint: str) -> str:
    """What a site's kit says to do.

    Args:
        name: The site's name.
        address: Host and port that it connects to.
        ca_fingerprint: SHA-256 of the CA's certificate.
    """
    return f"""\
# Site {name}

Nothing in this folder is secret, but let nobody change it on the way: read the CA's fingerprint to the operator by telephone.

    openssl x509 -in ca.crt -noout -fingerprint -sha256
    {ca_fingerprint}

1. Install fcit-plugin, in the version that the operator has.
2. `fcit-cli site init --out site --kit THIS_FOLDER` makes your key pair and your recipe.
3. Hand over `site/site.pub`, and read its fingerprint to the operator by telephone. Never hand over `site/site.key`.
4. Fill in `site/site.yaml`: base model, data, what you take part in, and the keys of the recipe that all share.
5. `fcit-cli site check site/site.yaml` says what is missing yet.
6. `llamafactory-cli train site/site.yaml` takes part until you stop it (`site/fcit-site.service` is for systemd).

The machine connects to {address} alone, and needs no open port.
"""
