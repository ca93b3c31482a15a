"""A subspace's ``adapter_config.json``: a short list of keys counts, and nothing else in it has an effect.

PEFT reads far more from such a file, a module to import among it. So what others wrote is never handed to PEFT: see
:func:`read_adapter_config`.
"""

from pathlib import Path
from typing import Any

from ..errors import FcitError
from ..files import read_as
from .forms import AdapterConfig

#: Keys of PEFT's that say who wrote the file or how the weights came to be, and change nothing of the weights.
_SAYS_NOTHING = ("auto_mapping", "base_model_name_or_path", "inference_mode", "init_lora_weights", "peft_version", "revision")
#: What PEFT writes for options that are not used.
_UNUSED = {"bias": "none", "megatron_core": "megatron.core", "qalora_group_size": 16}


def read_adapter_config(path: Path) -> dict[str, Any]:
    """PEFT's configuration of a subspace.

    Args:
        path: The file.

    Returns:
        The keys of :class:`.forms.AdapterConfig`, and those that PEFT wrote beside them for options that are not used.

    Raises:
        FcitError: It cannot be read, a value is out of its range, or another option of PEFT's is used; the sentence names it.
    """
    values: dict[str, Any] = dict(read_as(AdapterConfig, path))
    for key, value in values.items():
        if key in AdapterConfig.__annotations__ or key in _SAYS_NOTHING:
            continue
        if value and value != _UNUSED.get(key):
            raise FcitError(
                f"{path} uses PEFT's `{key[:100]}`, which a subspace of an fcit run never has; the folder was changed by "
                "something else, take one that an fcit run has left."
            )
    return values
