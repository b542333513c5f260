#!/usr/bin/env python3
"""Makes the folders in `forms` of the families around the Vision Transformer: small Swin Transformers and a residual
network as timm, transformers and torchvision save them. `make_forms.py` says what is in a folder, and with what it is
made; run this one the same way.
"""

import functools
import sys
from pathlib import Path

import safetensors.torch
import timm
import torch
import torchvision
import transformers
from timm.models._hub import save_for_hf
from torch import Tensor, nn

import make_forms
from form_parts import *
from make_forms import NAMED, Output, dinov2_processor, square, timm_load, vit_processor

# Two stages; in the second one window is all.
SWIN = dict(patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4, mlp_ratio=2.0)


def redrawn(model: nn.Module, seed: str) -> Parameters:
    """Parameters and running statistics; distances are as large as scores."""
    random = Random(seed)
    parameters = {}
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if name.endswith("running_var"):
            value = 1 + random.parameter("norm.bias", value.shape).abs()
        elif name.endswith("running_mean"):
            value = random.parameter("norm.bias", value.shape)
        elif name.endswith("relative_position_bias_table"):
            value = 0.5 * random.normal(value.shape)
        else:
            # As `drawn` has it, so that eps and GELU are felt.
            small = name.startswith("patch_embed.proj")
            large = name.endswith(("qkv.weight", "fc1.weight", "fc2.weight", "head.fc.weight"))
            value = (SMALL if small else LARGE if large else 1) * random.parameter(name, value.shape)
        parameters[name] = value.float()
    return parameters


@functools.cache
def swin_twin() -> tuple[nn.Module, Parameters]:
    model = timm.models.SwinTransformer(img_size=SIDE, num_classes=CLASSES, **SWIN)
    parameters = redrawn(model, "swin")
    model.load_state_dict(parameters, strict=False)
    return model.double().eval(), parameters


def timm_swin() -> Files:
    twin, parameters = swin_twin()
    model = timm.create_model("swin_tiny_patch4_window7_224", img_size=SIDE, num_classes=CLASSES, **SWIN)
    model.load_state_dict(parameters, strict=False)
    about = {"library": "timm", "class": "SwinTransformer", "output": "logits"}

    def write(path: Path) -> None:
        save_for_hf(model, path, safe_serialization=True)

    return folder(write, timm_load, (3, SIDE, SIDE), about, twin)


def hf(kind: type, config, given: Parameters, processor, shape, twin, new_names: bool) -> Files:
    model = kind(config)
    missing = model.load_state_dict(given, strict=False)
    assert not missing.unexpected_keys, missing
    assert all(name.endswith(("num_batches_tracked", "relative_position_index")) for name in missing.missing_keys), missing

    def write(path: Path) -> None:
        model.save_pretrained(path, save_original_format=not new_names)
        processor.save_pretrained(path)

    def load(path: Path) -> nn.Module:
        return Output(kind.from_pretrained(path).eval(), "logits")

    about = {"library": "transformers", "class": kind.__name__, "output": "logits"}
    return folder(write, load, shape, about, twin)


def hf_swin(new_names: bool = False) -> Files:
    twin, parameters = swin_twin()
    theirs = {}
    for name, value in parameters.items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("patch_embed.norm", "embeddings.norm").replace("head.fc", "classifier")
        name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        name = name.replace("attn.proj", "attention.o_proj").replace("attn.rel", "attention.relative_position_bias.rel")
        name = name.replace("layers.1.downsample", "layers.0.downsample")
        name = "layernorm" + name.removeprefix("norm") if name.startswith("norm.") else name
        name = name if name.startswith("classifier") else "swin." + name.replace("layers.", "encoder.layers.", 1)
        if ".attn.qkv" in name:
            for part, rows in zip("qkv", value.chunk(3)):
                theirs[name.replace("attn.qkv", f"attention.{part}_proj")] = rows
        else:
            theirs[name] = value
    sizes = dict(SWIN) | {"image_size": SIDE, "layer_norm_eps": 1e-5}
    config = transformers.SwinConfig(**sizes, **NAMED)
    return hf(
        transformers.SwinForImageClassification, config, theirs, vit_processor(), (3, SIDE, SIDE), twin, new_names
    )


def torchvision_swin() -> Files:
    twin, parameters = swin_twin()
    theirs = {}
    for name, value in parameters.items():
        stage = int(name.split(".")[1]) if name.startswith("layers.") else 0
        name = name.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
        name = name.replace(f"layers.{stage}.blocks", f"features.{2 * stage + 1}").replace("head.fc", "head")
        name = name.replace(f"layers.{stage}.downsample", f"features.{2 * stage}")
        name = name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
        theirs[name] = value

    def load(path: Path) -> nn.Module:
        model = torchvision.models.SwinTransformer(
            [SWIN["patch_size"]] * 2, SWIN["embed_dim"], SWIN["depths"], SWIN["num_heads"], [SWIN["window_size"]] * 2,
            SWIN["mlp_ratio"], num_classes=CLASSES,
        )
        state = safetensors.torch.load_file(path / "model.safetensors")
        missing = model.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys, missing
        assert all(name.endswith("relative_position_index") for name in missing.missing_keys), missing
        return model.eval()

    def write(path: Path) -> None:
        tensors = {name: value.contiguous() for name, value in theirs.items()}
        safetensors.torch.save_file(tensors, path / "model.safetensors")

    about = {"library": "torchvision", "class": "SwinTransformer", "output": "logits"}
    return folder(write, load, (3, SIDE, SIDE), about, twin)


def hf_resnet() -> Files:
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[16, 32], depths=[1, 2], layer_type="bottleneck", **NAMED
    )
    kind = transformers.ResNetForImageClassification
    return hf(kind, config, redrawn(kind(config), "resnet"), dinov2_processor(), (3, SIDE, SIDE), None, False)


make_forms.FORMS = {
    "timm_swin": timm_swin,
    "hf_swin": hf_swin,
    "hf_swin_new_names": lambda: hf_swin(new_names=True),
    "torchvision_swin": torchvision_swin,
    "hf_resnet": hf_resnet,
}

if __name__ == "__main__":
    sys.exit(make_forms.main())
