"""Tiny random models of many architectures, made from transformers' own configurations: name -> :class:`Architecture`."""

from image_architectures import SEEING
from text_architectures import TEXT
from tiny_architecture import Architecture

ARCHITECTURES: dict[str, Architecture] = {**TEXT, **SEEING}
