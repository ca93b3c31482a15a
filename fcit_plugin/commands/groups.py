"""All verbs of ``fcit-cli`` in groups, in the order in which users come to need them."""

from . import (
    compare,
    completion,
    data_convert,
    data_download,
    data_partition,
    data_prepare,
    data_verify,
    deploy,
    doctor,
    export_adapters,
    gpu_check,
    init,
    inspect,
    join,
    make,
    plugins,
    publish,
    recipes,
    report,
    site,
)
from .command import Command, Group, Theirs

_USE = "FILE.yaml [KEY=VALUE ...]"

GROUPS: tuple[Group, ...] = (
    Group("Begin", (init.INIT, recipes.RECIPES, recipes.RECIPES_SHOW, doctor.DOCTOR)),
    Group(
        "Run",
        (
            data_partition.DATA_PARTITION,
            Theirs("train", "run a recipe, or go on with it; with --dry-run only say what it would do", f"{_USE} [--dry-run]"),
            Theirs("webui", "LLaMA Board, in the browser"),
        ),
    ),
    Group("Look at what came out", (report.REPORT, inspect.INSPECT, compare.COMPARE)),
    Group(
        "Use what was learned",
        (
            Theirs("chat", "ask it on the command line", _USE),
            Theirs("webchat", "ask it in the browser", _USE),
            Theirs("api", "serve it as OpenAI's API", _USE),
            Theirs("export", "merge it into the base model", _USE),
            export_adapters.EXPORT_ADAPTERS,
            publish.PUBLISH,
            join.JOIN,
        ),
    ),
    Group(
        "Train sites over a network",
        (
            deploy.DEPLOY_REHEARSE,
            deploy.DEPLOY_INIT,
            deploy.DEPLOY_KIT,
            deploy.DEPLOY_ENROLL,
            deploy.DEPLOY_REMOVE,
            deploy.DEPLOY_RENEW,
            deploy.DEPLOY_CHECK,
            site.SITE_INIT,
            site.SITE_CHECK,
            site.SITE_STATUS,
            site.SITE_RENEW,
        ),
    ),
    Group(
        "The FCIT benchmark, and others",
        (data_download.DATA_DOWNLOAD, data_verify.DATA_VERIFY, data_prepare.DATA_PREPARE, data_convert.DATA_CONVERT),
    ),
    Group(
        "This installation",
        (
            plugins.PLUGINS,
            gpu_check.GPU_CHECK,
            completion.completion(lambda: [verb for group in GROUPS for verb in group.verbs]),
            Theirs("version", "LLaMA-Factory's version; the plugin's: fcit-cli --version"),
            Theirs("env", "LLaMA-Factory's own view of the machine"),
        ),
    ),
    Group(
        "Samples that the shipped recipes are tried on",
        (
            make.DATA_TEXT,
            make.DATA_MINI,
            make.DATA_HARD,
            make.DATA_STANDIN,
            make.DATA_REAL,
            make.DATA_REASONING,
            make.MODEL_SMOLLM2,
            make.MODEL_SMOLLM2_VL,
        ),
    ),
)
"""All verbs; a new one stands in the group of its purpose, and a new purpose is a line of its own."""

COMMANDS: tuple[Command, ...] = tuple(verb for group in GROUPS for verb in group.verbs if isinstance(verb, Command))
"""Those of the plugin's own."""

THEIRS: tuple[Theirs, ...] = tuple(verb for group in GROUPS for verb in group.verbs if isinstance(verb, Theirs))
"""Those of LLaMA-Factory's."""
