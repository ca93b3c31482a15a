"""LwF: on the new task's records the model shall go on answering as it did before the stage."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import kl_div, log_softmax
from typing_extensions import override

from ...adapters.lora import Tensors
from ..method import Extras
from ..stage_start import StageStart
from ..terms import BatchTerm, Weights
from .options import LwfOptions

TEACHER = "teacher"
_IGNORED = -100


class Lwf(StageStart[LwfOptions]):
    """Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282): distilled from the model of the stage's start.

    The server keeps the weights with which a stage begins, and sends them along. A client adds to its loss

        alpha T^2 KL(p_teacher(T) || p(T)),  p(T) = softmax(logits / T),

    as a mean over the tokens of the answers (the paper's equation 2, with the factor T^2 of Hinton et al. 2015, arXiv
    1503.02531, that keeps the size of the gradient).
    """

    kept_as = TEACHER

    @override
    def batch_terms(self, sent: Extras) -> list[BatchTerm]:
        options = self.options
        return [Distillation(sent[TEACHER], options.fcit_lwf_alpha, options.fcit_lwf_temperature)] if TEACHER in sent else []


class Distillation(BatchTerm):
    """alpha T^2 KL(p_teacher(T) || p(T)), summed over the learned tokens.

    Args:
        teacher: The weights of the teacher that differ from the model's.
        alpha: Weight of the term.
        temperature: T.
    """

    def __init__(self, teacher: Tensors, alpha: float, temperature: float) -> None:
        self.teacher = teacher
        self.alpha = alpha
        self.temperature = temperature
        self._here: dict[str, torch.Tensor] = {}

    @override
    def loss(
        self, model: nn.Module, weights: Weights, inputs: Mapping[str, torch.Tensor], logits: torch.Tensor
    ) -> torch.Tensor:
        if not self._here:  # once a training, by the names that the model has for them
            names = {parameter: name for name, parameter in model.named_parameters()}
            self._here = {names[weight]: self.teacher[key].to(weight) for key, weight in weights.items()}
        learned = inputs["labels"][:, 1:] != _IGNORED  # the logits of a position are for the next token
        given = {key: value for key, value in inputs.items() if key != "labels"}
        was_training = model.training
        model.eval()  # the teacher answers without dropout
        with torch.no_grad():
            taught = functional_call(model, self._here, (), given).logits
        model.train(was_training)
        student, teacher = (
            log_softmax(values[:, :-1][learned].float() / self.temperature, dim=-1) for values in (logits, taught)
        )
        return self.alpha * self.temperature**2 * kl_div(student, teacher, reduction="sum", log_target=True)
