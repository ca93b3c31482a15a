"""Seam: ``llamafactory.data.parser`` - the FCIT data sets are known whatever ``dataset_dir`` the user has.

Also the converter for ``formatting: fcit``, which reads the two record layouts of the released benchmark.
"""

from typing import Any

import wrapt

from ..data.catalogue import check_file, own_datasets, users_datasets
from ..data.root import data_root


def install(parser_module) -> None:
    """Wrap ``get_dataset_list``; other names than ours go to LLaMA-Factory as before."""

    def wrapper(wrapped, instance, args, kwargs):
        return _dataset_list(wrapped, *args, **kwargs)

    def _dataset_list(wrapped, dataset_names, dataset_dir):
        ours = {name: own_datasets()[name] for name in dataset_names or [] if name in own_datasets()}
        if ours:
            ours = {name: entry for name, entry in ours.items() if name not in users_datasets(dataset_dir)}
        if not ours:
            return wrapped(dataset_names, dataset_dir)
        return [_attributes(name, ours[name]) if name in ours else wrapped([name], dataset_dir)[0] for name in dataset_names]

    def _attributes(name: str, entry: dict[str, Any]):
        check_file(name, entry, data_root(), users=False)
        attributes = parser_module.DatasetAttr("file", dataset_name=str(data_root() / entry["file_name"]))
        attributes.join(entry)
        attributes.media_root = str(data_root() / "datasets")
        return attributes

    wrapt.wrap_function_wrapper(parser_module, "get_dataset_list", wrapper)
    wrapt.register_post_import_hook(_install_converter, "llamafactory.data.converter")


def _install_converter(converter_module) -> None:
    from ..data.converter import make_converter

    converter_module.register_dataset_converter("fcit", make_converter(converter_module.DatasetConverter))
