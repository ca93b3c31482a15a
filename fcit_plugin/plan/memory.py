"""Memory of one training process: weights, gradients and optimizer states are exact, activations a rule of thumb."""

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ModelSize:
    """What the estimate has to know about a model.

    Attributes:
        frozen_bytes: Bytes of the weights that are not trained, in the precision in which they are loaded.
        trained: Numbers that are trained (one subspace and the shared trainables).
        trained_width: Bytes of one of them, 4 for float32.
        layers: Layers of the language model.
        hidden: Its width.
        intermediate: Width inside its MLP.
        vocabulary: Number of its tokens.
    """

    frozen_bytes: int
    trained: int
    trained_width: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


@dataclass(frozen=True)
class Batch:
    """One forward and backward pass.

    Attributes:
        records: ``per_device_train_batch_size``.
        tokens: Length to which a record is padded.
        width: Bytes of one activation, 2 with bf16.
        checkpointing: Whether a layer's activations are computed again in the backward pass.
    """

    records: int
    tokens: int
    width: int
    checkpointing: bool


@dataclass(frozen=True)
class Memory:
    """Bytes of one process.

    Attributes:
        frozen: Base weights.
        trained: Trained weights.
        gradients: Their gradients.
        optimizer: AdamW's two moments, and DeepSpeed's float32 copy where it has one.
        activations: What is kept for the backward pass; an estimate.
    """

    frozen: int
    trained: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


def estimate(model: ModelSize, batch: Batch, *, processes: int = 1, zero_stage: int = 0) -> Memory:
    """Memory of one of ``processes`` processes.

    ZeRO shares the optimizer states (stage 1), the gradients (2) and the weights (3) out over the processes:
    Rajbhandari et al., "ZeRO", SC 2020, arXiv 1910.02054. Its half precision engine trains a copy of 2 bytes a number
    beside a float32 one.

    Args:
        model: The model.
        batch: The batch.
        processes: Processes that train one client together.
        zero_stage: DeepSpeed's ZeRO stage, 0 without DeepSpeed.
    """
    shares = [processes if zero_stage >= stage else 1 for stage in (1, 2, 3)]
    engine_casts = zero_stage > 0 and batch.width < model.trained_width
    width = batch.width if engine_casts else model.trained_width
    moments = 2 * model.trained_width + (model.trained_width if engine_casts else 0)
    return Memory(
        frozen=math.ceil(model.frozen_bytes / shares[2]),
        trained=math.ceil(model.trained * width / shares[2]),
        gradients=math.ceil(model.trained * width / shares[1]),
        optimizer=math.ceil(model.trained * moments / shares[0]),
        activations=activation_bytes(model, batch),
    )


def activation_bytes(model: ModelSize, batch: Batch) -> int:
    """What the language model keeps for the backward pass.

    Terms by Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", arXiv 2205.05198,
    section 4.1, in numbers a token and layer: attention 5.5 h and norms 2 h; its MLP is exchanged for a gated one, h
    and 4 times the inner width. Attention scores are not kept (SDPA, FlashAttention). With checkpointing only each layer's
    input is, and one layer at a time is computed again. Logits come once as they are, and twice in float32 for the loss.
    """
    tokens = batch.records * batch.tokens
    layer = tokens * batch.width * (8.5 * model.hidden + 4 * model.intermediate)
    kept = model.layers * tokens * batch.width * model.hidden + layer if batch.checkpointing else model.layers * layer
    logits = tokens * model.vocabulary * (batch.width + 2 * 4)
    return math.ceil(kept + logits)
