"""The twelve small tasks, one function each: a random generator in, a sample out."""

from .base import Sample, Task
from .charts import arxivqa, dvqa, figureqa
from .counting import clevr_math, iconqa
from .objects import aokvqa, flickr30k, grounding, imagenet_r, super_clevr
from .reading import ocrvqa, tabmwp

TASKS: dict[str, Task] = {
    "fcit_imagenet_r": imagenet_r,
    "fcit_arxivqa": arxivqa,
    "fcit_iconqa": iconqa,
    "fcit_clevr_math": clevr_math,
    "fcit_ocrvqa": ocrvqa,
    "fcit_flickr30k": flickr30k,
    "fcit_figureqa": figureqa,
    "fcit_super_clevr": super_clevr,
    "fcit_aokvqa": aokvqa,
    "fcit_grounding": grounding,
    "fcit_dvqa": dvqa,
    "fcit_tabmwp": tabmwp,
}
"""Key of the dataset -> how to draw one of its samples."""

__all__ = ["TASKS", "Sample", "Task"]
