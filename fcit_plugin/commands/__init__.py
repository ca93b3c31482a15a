"""The plugin's own verbs of ``fcit-cli``: one module each, all listed in :data:`COMMANDS`.

A new verb is one module with a :class:`Command` and one line here. A module imports what it needs when it runs, so that
``fcit-cli help`` stays quick.
"""

from . import (
    compare,
    data_download,
    data_partition,
    data_prepare,
    data_verify,
    deploy,
    export_adapters,
    gpu_check,
    inspect,
    join,
    make,
    plugins,
    publish,
    report,
    site,
)
from .command import Command

COMMANDS: tuple[Command, ...] = (
    make.DATA_MINI,
    make.DATA_TEXT,
    make.DATA_HARD,
    make.DATA_STANDIN,
    make.DATA_REAL,
    make.DATA_REASONING,
    data_download.DATA_DOWNLOAD,
    data_verify.DATA_VERIFY,
    data_prepare.DATA_PREPARE,
    data_partition.DATA_PARTITION,
    make.MODEL_SMOLLM2,
    make.MODEL_SMOLLM2_VL,
    report.REPORT,
    compare.COMPARE,
    inspect.INSPECT,
    export_adapters.EXPORT_ADAPTERS,
    publish.PUBLISH,
    join.JOIN,
    deploy.DEPLOY_INIT,
    deploy.DEPLOY_KIT,
    deploy.DEPLOY_ENROLL,
    deploy.DEPLOY_REMOVE,
    deploy.DEPLOY_RENEW,
    deploy.DEPLOY_CHECK,
    site.SITE_INIT,
    site.SITE_RENEW,
    plugins.PLUGINS,
    gpu_check.GPU_CHECK,
)
"""All verbs, in the order in which the usage shows them."""
