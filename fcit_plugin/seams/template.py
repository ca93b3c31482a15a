"""Seam: ``llamafactory.data.template`` - chat templates that LLaMA-Factory does not have yet."""

from dataclasses import replace

SMOLLM2_VL = "smollm2_vl"


def install(template_module) -> None:
    """Add ``smollm2_vl``: LLaMA-Factory's own template ``smollm2`` with its image handling for LLaVA models.

    Every ChatML template that LLaMA-Factory ships handles no images, or those of another model family; ``llava`` and
    ``yi_vl``, the two that handle ours, have other turns.
    """
    templates = template_module.TEMPLATES
    if SMOLLM2_VL not in templates:
        mm_plugin = template_module.get_mm_plugin(name="llava", image_token="<image>")
        templates[SMOLLM2_VL] = replace(templates["smollm2"], mm_plugin=mm_plugin)
