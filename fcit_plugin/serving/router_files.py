"""What picks an adapter for a prompt, as files: for servers that hold many adapters and know nothing of this plugin.

``router.json`` names the adapters and says how an identity token is made, ``router.safetensors`` holds the numbers, and
``encoder/`` the tokenizer, and the text encoder if there is one. docs/guide/serving.md shows the few lines that use them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from ..errors import FcitError
from ..files import write_bytes, write_json
from ..knowledge.activation import Router
from ..knowledge.embedding import EmbeddingEncoder
from ..knowledge.encoders import CenteredEncoder, OncePerText, TextEncoder
from ..knowledge.image_tokens import token_width
from ..knowledge.turns import AUTO
from ..knowledge.vectors import unit
from .other_router import Agreement

ROUTER_JSON, ROUTER_TENSORS, ENCODER = "router.json", "router.safetensors", "encoder"


def write_router(
    folder: Path,
    router: Router,
    adapters: Sequence[Mapping[str, Any]],
    base_model: str,
    agreement: Agreement | None = None,
) -> None:
    """Write the files.

    Args:
        folder: The folder, made if missing.
        router: Encoder and identity tokens.
        adapters: Name, path and what else is worth knowing of the adapter of each subspace 0..K-1. Those of unused
            subspaces are left out: no prompt is theirs.
        base_model: Name or path of the base model.
        agreement: How a router by another encoder than the run's compares with it.

    Raises:
        FcitError: The identity encoder cannot be written down.
    """
    used = router.tokens.counts > 0
    tensors, encoder = _encoder(router.encoder, folder / ENCODER)
    kinds = router.tokens.kinds
    rows = router.tokens.tokens[:, None] if kinds is None else [part.means for part in kinds]
    listed = [(adapter, row) for adapter, row, kept in zip(adapters, rows, used, strict=True) if kept]
    tensors["tokens"] = torch.from_numpy(unit(np.concatenate([row for _, row in listed]))).float()
    if (directions := router.form.directions(token_width(router.encoder))) is not None:
        mixing = torch.from_numpy(directions)
        if "vectors" in tensors:  # a mean of mixtures is the mixture of the mean: readers of a table need not know
            mixed = tensors["vectors"].float() @ mixing.T
            tensors["vectors"] = (mixed / mixed.abs().max()).half()
        else:
            tensors["directions"] = mixing
    write_bytes(folder / ROUTER_TENSORS, save({key: value.contiguous() for key, value in tensors.items()}))
    near = router.nearness.turn * router.form.left  # of cosines to signs, as readers have them
    described = {
        "format_version": 1,
        "base_model": base_model,
        "encoder": encoder,
        "activation": router.mode,
        "temperature": router.temperature,
        # which of a user's turns count, and for `auto` the cosine from which one is near to a subspace
        "turns": {
            "rule": router.turns,
            **({"near": near} if router.turns == AUTO else {}),
        },
        **({} if agreement is None else {"differs": str(agreement)}),
        # once for each of its tokens, so that the nearest token's place is its adapter's
        "adapters": [dict(adapter) for adapter, row in listed for _ in row],
    }
    write_json(folder / ROUTER_JSON, described)


def _encoder(encoder: Any, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What an identity encoder needs: tensors, and its description; its tokenizer and model are written to the folder."""
    inner = encoder.encoder if isinstance(encoder, OncePerText) else encoder
    if isinstance(inner, EmbeddingEncoder):
        vectors, rarity = inner.table()
        inner.tokenizer.save_pretrained(folder)
        vectors = vectors / vectors.abs().max()  # a cosine does not see it, half precision does
        return {"vectors": vectors.half(), "rarity": rarity}, {"kind": "table", "folder": ENCODER}
    if isinstance(inner, TextEncoder) and isinstance(encoder, CenteredEncoder):
        inner.model.save_pretrained(folder)
        inner.tokenizer.save_pretrained(folder)
        center = torch.zeros(inner.model.config.hidden_size) + torch.as_tensor(encoder.center)
        description = {"pooling": inner.pooling, "max_length": inner.max_length}
        return {"center": center.float()}, {"kind": "transformer", "folder": ENCODER, **description}
    raise FcitError(
        f"The identity encoder {type(inner).__name__} comes from another package and cannot be written into a bundle; "
        "write the adapters alone (--no-router)."
    )
