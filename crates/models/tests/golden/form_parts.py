"""What make_forms.py is made of: parameters, names, and the writing of a folder."""

import argparse
import copy
import dataclasses
import functools
import json
import logging
import math
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import safetensors
import safetensors.torch
import timm
import torch
import torchvision
import transformers
from timm.layers import LayerNorm, SwiGLUPacked
from timm.models._hub import save_for_hf
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

VERSIONS = {
    "torch": "2.15.0", "torchvision": "0.29.2", "timm": "1.0.31", "transformers": "5.24.0", "safetensors": "0.8.0",
}
RTOL, ATOL = 1.3e-6, 1e-5
LARGEST = 80_000  # bytes of a model.safetensors
SMALL, LARGE = 0.02, 3.0

SIDE, PATCH, WIDTH, DEPTH, HEADS, CLASSES, REGISTERS = 16, 4, 16, 2, 2, 5, 4
MLP = 24
LABELS = ["ant", "bee", "cat", "dog", "elk"]
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]

Parameters = dict[str, Tensor]
Files = dict[str, bytes]
Load = Callable[[Path], Callable[[Tensor], Tensor]]


# --- Parameters ----------------------------------------------------------------------------------------------------


class Random:
    """Float32 tensors from one generator, seeded by a name."""

    def __init__(self, name: str):
        self.generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(self, shape: torch.Size, mean: float = 0.0, std: float = 1.0) -> Tensor:
        return mean + std * torch.randn(shape, generator=self.generator)

    def uniform(self, shape: torch.Size, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def parameter(self, name: str, shape: torch.Size) -> Tensor:
        """By what a tensor of that name is, in any of the libraries."""
        module, _, kind = name.rpartition(".")
        if kind in ("gamma", "gamma_1", "gamma_2", "lambda1"):
            return self.uniform(shape, 0.5, 1.5)
        if "norm" in module.split(".")[-1] and kind == "weight":
            return self.normal(shape, mean=1.0, std=0.3)
        if kind == "weight" and not module.endswith("embedding"):
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            return self.uniform(shape, -bound, bound)
        return self.normal(shape, std=0.3)


def drawn(model: nn.Module, seed: str) -> Parameters:
    """For a model of timm's. What the first norm reads is small, so that its eps is felt; the weights of the MLP and of
    the head are large, so that the form of GELU is; those of the attention too, so that it is not uniform."""
    random, parameters = Random(seed), {}
    for name, value in model.state_dict().items():
        small = name.startswith("patch_embed.") or name in ("cls_token", "dist_token", "reg_token", "pos_embed")
        large = re.search(r"(qkv|mlp\.fc[12](_[gx])?|^head(_dist)?)\.weight$", name)
        parameters[name] = (SMALL if small else LARGE if large else 1) * random.parameter(name, value.shape)
    return parameters


def coarse(values: Tensor) -> Tensor:
    """Numbers that float32 adds without rounding."""
    return (values * 65536).round() / 65536


def eps(value: float) -> Callable[..., nn.Module]:
    return partial(LayerNorm, eps=value)


BASE = dict(
    img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=MLP / WIDTH,
    num_classes=CLASSES,
)
ROPE = dict(
    rope_type="dinov3", rope_temperature=100.0, rope_rotate_half=True, use_rot_pos_emb=True, use_abs_pos_emb=False,
    num_reg_tokens=REGISTERS, use_fc_norm=False, norm_layer=eps(1e-5), init_values=1e-5, dynamic_img_size=True,
)
RECTANGLE = (SIDE, 24)


@functools.cache
def twin(name: str) -> tuple[nn.Module, Parameters]:
    """timm's model of an architecture that several libraries have, in float64, and its parameters, in float32."""
    model = {
        "vit": lambda: VisionTransformer(**BASE),
        "vit model": lambda: VisionTransformer(
            **BASE | dict(img_size=RECTANGLE, num_classes=0, qkv_bias=False, act_layer="gelu_tanh"),
            norm_layer=eps(1e-12),
        ),
        "deit": lambda: VisionTransformerDistilled(**BASE),
        "dinov2": lambda: VisionTransformer(**BASE | dict(mlp_ratio=2.0, init_values=1e-5)),
        "dinov2 swiglu": lambda: VisionTransformer(
            **BASE | dict(mlp_ratio=2 * MLP / WIDTH, init_values=1e-5), mlp_layer=SwiGLUPacked, act_layer=nn.SiLU
        ),
        "dinov2 registers": lambda: VisionTransformer(
            **BASE | dict(mlp_ratio=2.0, init_values=1e-5, reg_tokens=REGISTERS, no_embed_class=True)
        ),
        "dinov3": lambda: Eva(**BASE | ROPE, qkv_bias=True, global_pool="token"),
        "dinov3 gated": lambda: Eva(
            **BASE | ROPE, qkv_bias=True, global_pool="token", swiglu_mlp=True, swiglu_align_to=8
        ),
        "siglip": lambda: VisionTransformer(**BASE, class_token=False, global_pool="map", act_layer="gelu_tanh"),
    }[name]()
    parameters = drawn(model, name)
    if name == "dinov2 registers":  # so that it can be split exactly: see `registers`
        parameters["cls_token"] = coarse(parameters["cls_token"])
    return loaded(model, parameters), parameters


def loaded(model: nn.Module, parameters: Parameters) -> nn.Module:
    model.load_state_dict(parameters, strict=True)
    return model.double().eval()


# --- Names: timm's, and those of transformers 5's and torchvision's modules ----------------------------------------


@dataclasses.dataclass(frozen=True)
class Names:
    """Of a module, or of a tensor. A tuple: the tensor is cut along its first dimension."""

    outer: dict[str, str]
    block: str  # with {} for the index
    inner: dict[str, str | tuple[str, ...]]

    def under(self, prefix: str) -> "Names":
        outer = {ours: theirs if ours.startswith("head") else prefix + theirs for ours, theirs in self.outer.items()}
        return Names(outer, prefix + self.block, self.inner)

    def of(self, parameters: Parameters) -> Parameters:
        result = {}
        for name, value in parameters.items():
            table, prefix = self.outer, ""
            if block := re.match(r"blocks\.(\d+)\.", name):
                table, prefix, name = self.inner, self.block.format(block[1]), name[block.end():]
            suffix = ""
            if name not in table:
                name, _, suffix = name.rpartition(".")
            theirs = table[name] if isinstance(table[name], tuple) else (table[name],)
            for part, tensor in zip(theirs, value.chunk(len(theirs)), strict=True):
                result[f"{prefix}{part}.{suffix}" if suffix else prefix + part] = tensor
        return result


def attention(module: str, out: str = "o_proj") -> dict[str, str | tuple[str, ...]]:
    return {
        "attn.qkv": tuple(f"{module}.{part}_proj" for part in "qkv"),
        "attn.q_bias": f"{module}.q_proj.bias",
        "attn.v_bias": f"{module}.v_proj.bias",
        "attn.proj": f"{module}.{out}",
    }


EMBEDDINGS = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "reg_token": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "head": "classifier",
}
MLP_NAMES = {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
NORMS = {"norm1": "norm1", "norm2": "norm2"}
SCALES = {ours: f"layer_scale{i}.lambda1" for i in (1, 2) for ours in (f"ls{i}.gamma", f"gamma_{i}")}
VIT = Names(
    EMBEDDINGS,
    "layers.{}.",
    attention("attention") | MLP_NAMES | {"norm1": "layernorm_before", "norm2": "layernorm_after"},
)
DEIT_HEADS = {"head": "cls_classifier", "head_dist": "distillation_classifier"}
DINOV2 = Names(EMBEDDINGS, "encoder.layer.{}.", attention("attention") | MLP_NAMES | NORMS | SCALES)
DINOV2_GATED = Names(
    EMBEDDINGS,
    "encoder.layer.{}.",
    DINOV2.inner | {"mlp.fc1": ("mlp.gate_proj", "mlp.up_proj"), "mlp.fc2": "mlp.down_proj"},
)
DINOV3 = Names(
    EMBEDDINGS | {"patch_embed.proj": "embeddings.patch_embeddings", "norm": "norm"},
    "model.layer.{}.",
    attention("attention") | NORMS | SCALES | {"mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj"},
)
DINOV3_GATED = Names(
    DINOV3.outer,
    DINOV3.block,
    DINOV3.inner | {"mlp.fc1_g": "mlp.gate_proj", "mlp.fc1_x": "mlp.up_proj"},
)
SIGLIP = Names(
    {
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.proj": "embeddings.patch_embedding",
        "norm": "post_layernorm",
        "head": "classifier",
        "attn_pool.latent": "head.probe",
        "attn_pool.in_proj_weight": "head.attention.in_proj_weight",
        "attn_pool.in_proj_bias": "head.attention.in_proj_bias",
        "attn_pool.proj": "head.attention.out_proj",
        "attn_pool.norm": "head.layernorm",
        "attn_pool.mlp.fc1": "head.mlp.fc1",
        "attn_pool.mlp.fc2": "head.mlp.fc2",
    },
    "encoder.layers.{}.",
    attention("self_attn", "out_proj") | MLP_NAMES | {"norm1": "layer_norm1", "norm2": "layer_norm2"},
)
TORCHVISION = Names(
    {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj": "conv_proj",
        "norm": "encoder.ln",
        "head": "heads.head",
    },
    "encoder.layers.encoder_layer_{}.",
    {
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv.weight": "self_attention.in_proj_weight",
        "attn.qkv.bias": "self_attention.in_proj_bias",
        "attn.proj": "self_attention.out_proj",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
    },
)


def without(parameters: Parameters, *modules: str) -> Parameters:
    return {name: value for name, value in parameters.items() if not name.startswith(modules)}


def registers(parameters: Parameters) -> Parameters:
    """transformers adds a position to the class token too: here timm's class token is the sum of both."""
    position = coarse(SMALL * Random("position of the class token").normal((1, 1, WIDTH), std=0.3))
    return parameters | {
        "cls_token": parameters["cls_token"] - position,
        "pos_embed": torch.cat([position, parameters["pos_embed"]], dim=1),
    }


def siglip(parameters: Parameters) -> Parameters:
    result = {name: value for name, value in parameters.items() if not re.match(r"attn_pool\.(q|kv)\.", name)}
    result["pos_embed"] = parameters["pos_embed"][0]
    for kind in ("weight", "bias"):
        parts = [parameters[f"attn_pool.{part}.{kind}"] for part in ("q", "kv")]
        result[f"attn_pool.in_proj_{kind}"] = torch.cat(parts)
    return result


# --- A folder ------------------------------------------------------------------------------------------------------


def folder(
    write: Callable[[Path], None], load: Load, shape: tuple[int, int, int], about: dict, twin_output=None
) -> Files:
    """What `write` leaves, and what the model that `load` makes of it gives for an input. `twin_output`: another way
    to compute it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        write(path)
        weights = (path / "model.safetensors").read_bytes()
        assert len(weights) <= LARGEST, f"{len(weights)} bytes are too many"

        images = Random("images").normal((2, *shape))
        with torch.no_grad():
            single = load(path)(images)
            exact = load(path).double()(images.double())
            torch.testing.assert_close(single.double(), exact, rtol=RTOL, atol=ATOL)
            if twin_output:
                # Rotary angles are float32 in both libraries, even here
                torch.testing.assert_close(twin_output(images.double()), exact, rtol=0, atol=0.1 * ATOL)
            for mistake in (other_eps, other_gelu):
                if (wrong := mistake(load(path).double())) is not None:
                    effect = (wrong(images.double()) - exact).abs().max().item()
                    assert effect > 10 * ATOL, f"{mistake.__name__}: {effect} is too little to test"
            tensors, metadata = opened(weights)
            assert all(value.dtype in (torch.float32, torch.int64) for value in tensors.values())
            about["no_effect"] = []
            random = Random("changes")
            for key, value in sorted(tensors.items()):
                change = random.normal(value.shape).to(value.dtype) if value.is_floating_point() else 1
                # A variance stays one.
                change = change.abs() if key.endswith("running_var") else change
                safetensors.torch.save_file(
                    tensors | {key: value + change}, path / "model.safetensors", metadata=metadata
                )
                effect = (load(path).double()(images.double()) - exact).abs().max().item()
                assert effect < 1e-12 or effect > 10 * ATOL, f"{key}: {effect} is too little to test"
                if effect < 1e-12:
                    about["no_effect"].append(key)
        files = {file.name: file.read_bytes() for file in sorted(path.iterdir())} | {"model.safetensors": weights}
    expected = {"input": images, "logits": exact.float()}
    metadata = {"config": json.dumps({"versions": VERSIONS, **about}, sort_keys=True)}
    return files | {"expected.safetensors": safetensors.torch.save(expected, metadata=metadata)}


def other_eps(model: nn.Module) -> nn.Module | None:
    """None: there is no layer norm."""
    found = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    for module in found:
        module.eps = 1e-5 if module.eps == 1e-6 else 1e-6
    return model if found else None


def other_gelu(model: nn.Module) -> nn.Module | None:
    """With the error function in place of tanh, or the other way round. None: there is no GELU."""
    found = [module for module in model.modules() if "GELU" in type(module).__name__]
    for module in found:
        tanh = "Tanh" in type(module).__name__ or getattr(module, "approximate", "none") == "tanh"
        module.forward = partial(nn.functional.gelu, approximate="none" if tanh else "tanh")
    return model if found else None


def opened(content: bytes) -> tuple[Parameters, dict[str, str] | None]:
    header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
    return safetensors.torch.load(content), header.get("__metadata__")


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
