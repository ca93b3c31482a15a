"""Seam: ``llamafactory.data.parser`` - the FCIT datasets are known whatever ``dataset_dir`` the user has.

Where they are, :mod:`fcit_plugin.seams.loader` finds out: names come here without the recipe's other keys.
Also the converter for ``formatting: fcit``, which reads the two record layouts of the released benchmark.
"""

import wrapt

from ..data.entries import own_datasets, users_datasets

#: Attribute of LLaMA-Factory's ``DatasetAttr`` with the name of a dataset of ours that is not located yet.
NAME = "fcit_dataset"


def install(parser_module) -> None:
    """Wrap ``get_dataset_list``; other names than ours go to LLaMA-Factory as before."""

    def wrapper(wrapped, instance, args, kwargs):
        return _dataset_list(wrapped, *args, **kwargs)

    def _dataset_list(wrapped, dataset_names, dataset_dir):
        ours = set(dataset_names or ()) & own_datasets().keys()
        if ours:
            ours -= users_datasets(dataset_dir).keys()
        if not ours:
            return wrapped(dataset_names, dataset_dir)
        theirs = iter(wrapped([name for name in dataset_names if name not in ours], dataset_dir))
        return [_attributes(wrapped, name) if name in ours else next(theirs) for name in dataset_names]

    def _attributes(wrapped, name: str):
        (attributes,) = wrapped([name], own_datasets())
        setattr(attributes, NAME, name)
        return attributes

    wrapt.wrap_function_wrapper(parser_module, "get_dataset_list", wrapper)
    wrapt.register_post_import_hook(_install_converter, "llamafactory.data.converter")


def _install_converter(converter_module) -> None:
    from ..data.converter import make_converter

    converter_module.register_dataset_converter("fcit", make_converter(converter_module.DatasetConverter))
