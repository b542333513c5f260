#!/usr/bin/env python3
"""Makes the folders in `forms` beside this script: small Vision Transformers as timm, Hugging Face's transformers and
torchvision save them, each with the output that the owner library computes, for the Rust tests to load and compare.

Made with Python 3.11 and the packages below. To make the folders again:

    python3 -m venv target/forms
    target/forms/bin/pip install torch==2.15.0 torchvision==0.29.2 timm==1.0.31 transformers==5.24.0 safetensors==0.8.0
    target/forms/bin/python crates/models/tests/golden/make_forms.py            # writes the folders
    target/forms/bin/python crates/models/tests/golden/make_forms.py --check    # only compares them, byte for byte

A folder holds what the library wrote (`config.json`, `model.safetensors`, and of transformers also
`preprocessor_config.json`; torchvision writes no config) and `expected.safetensors`: `input` `[2, C, H, W]`, already
normalised, and `logits`: the output in eval mode, computed in float64 and rounded once to float32. The library's own
float32 output was seen to agree within RTOL and ATOL. Its one metadata entry, `config`, is a JSON object:
- `library`, `class`: who computed it;
- `output`: `logits`, or of a model without a head what `logits` holds: the `class token` after the last norm, or the
  `attention pool`;
- `no_effect`: the tensors of the file that do not change the output (biases of the keys among them: the softmax does
  not feel them). Every tensor was changed, loaded by the library and run to find these.

Parameters are redrawn from a seed: nothing is at its trivial value, and a wrong eps or form of GELU moves the output by
more than ten times ATOL. Where two libraries have the same architecture,
both get the same parameters and must give the same output: each folder of transformers or torchvision is checked
against timm's model, by way of the tables of names here.

transformers 5.24 names its modules in a new way, but by default writes the names that 4.x wrote. Folders called
`*_new_names` were written with `save_original_format=False`. Those called `*_4x` are like the older files of the Hub
in more than the names: their configs are written here by hand.
"""

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

from form_parts import *

# --- timm ----------------------------------------------------------------------------------------------------------


def timm_load(path: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{path}", pretrained=True).eval()


def timm_folder(
    architecture: str, seed: str | Parameters, classifier=None, edit=None, model_config=None, data_config=None, **args
) -> Files:
    """timm's own model of that name with other sizes, as timm saves it. `edit` may change the parameters."""
    args = BASE | args
    model = timm.create_model(architecture, **args)
    parameters = drawn(model, seed) if isinstance(seed, str) else seed
    if edit:
        parameters = edit(parameters)
    model.load_state_dict(parameters, strict=True)
    size = args["img_size"]
    shape = (args.get("in_chans", 3), *((size, size) if isinstance(size, int) else size))

    def write(path: Path) -> None:
        save_for_hf(model, path, safe_serialization=True, model_config=model_config, data_config=data_config)

    about = {"library": "timm", "class": type(model).__name__, "output": "logits"}
    return folder(write, timm_load, shape, about, copy.deepcopy(model).double().eval())


def timm_by_hand() -> Files:
    """A config.json with no more than timm needs. This name is the only way to an eps of 1e-5 by JSON alone."""
    sizes = BASE | dict(qkv_bias=False, in_chans=1)
    arguments = {name: value for name, value in sizes.items() if name != "num_classes"}
    config = {
        "architecture": "vit_base_patch16_clip_224",
        "num_classes": CLASSES,
        "num_features": WIDTH,
        "label_names": LABELS,
        "model_args": arguments | {"pre_norm": False},
        "pretrained_cfg": {
            "input_size": [1, SIDE, SIDE],
            "fixed_input_size": True,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": [0.25],
            "std": [0.5],
            "num_classes": CLASSES,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    model = VisionTransformer(**sizes, norm_layer=eps(1e-5))
    parameters = drawn(model, "eps 1e-5")
    loaded(model, parameters)

    def write(path: Path) -> None:
        write_json(path / "config.json", config)
        safetensors.torch.save_file(parameters, path / "model.safetensors")

    about = {"library": "timm", "class": "VisionTransformer", "output": "logits"}
    return folder(write, timm_load, (1, SIDE, SIDE), about, model)


# --- transformers --------------------------------------------------------------------------------------------------


class Output(nn.Module):
    """A model of transformers, giving one tensor."""

    def __init__(self, model: nn.Module, output: str):
        super().__init__()
        self.model, self.output = model, output

    def forward(self, images: Tensor) -> Tensor:
        if self.output == "logits":
            return self.model(pixel_values=images).logits
        vision = self.model.vision_model if isinstance(self.model, transformers.SiglipModel) else self.model
        result = vision(pixel_values=images)
        return result.pooler_output if self.output == "attention pool" else result.last_hidden_state[:, 0]


def hf_folder(
    kind: type, config, parameters: Parameters, processor, output: str, twin_output, new_names=False, edit=None
) -> Files:
    """`parameters` by the names of the modules; those not given are drawn. `processor`: one of transformers', or the
    JSON. `edit` changes what was written."""
    model = kind(config)
    extra = {name: value for name, value in model.state_dict().items() if name not in parameters}
    random = Random("extra")
    extra = {name: random.parameter(name, value.shape) for name, value in extra.items()}
    model.load_state_dict(parameters | extra, strict=True)
    vision = getattr(config, "vision_config", config)
    size = vision.image_size
    shape = (vision.num_channels, *((size, size) if isinstance(size, int) else size))

    def write(path: Path) -> None:
        model.save_pretrained(path, save_original_format=not new_names)
        if edit:
            edit(path)
        if isinstance(processor, dict):
            write_json(path / "preprocessor_config.json", processor)
        else:
            processor.save_pretrained(path)

    def load(path: Path) -> nn.Module:
        model, info = kind.from_pretrained(path, output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"], info
        assert all(name.endswith("position_ids") for name in info["unexpected_keys"]), info
        return Output(model.eval(), output)

    about = {"library": "transformers", "class": kind.__name__, "output": output}
    return folder(write, load, shape, about, twin_output)


def hf_config(kind: type, **settings):
    sizes = dict(
        image_size=SIDE, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS
    )
    if kind in (transformers.Dinov2Config, transformers.Dinov2WithRegistersConfig):
        sizes["mlp_ratio"] = 2
    else:
        sizes["intermediate_size"] = MLP
    return kind(**sizes | settings)


NAMED = dict(id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)})


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def vit_processor(side: dict[str, int] | None = None):
    """google/vit-base-patch16-224 has these settings, with 224 for the size."""
    return transformers.ViTImageProcessor(size=side or square(SIDE), resample=2, image_mean=HALF[0], image_std=HALF[1])


def deit_processor():
    """facebook/deit-base-distilled-patch16-224: 256 and 224."""
    return transformers.DeiTImageProcessor(
        size=square(18), crop_size=square(SIDE), resample=3, image_mean=IMAGENET[0], image_std=IMAGENET[1]
    )


def dinov2_processor(size: int = 18, crop: int = SIDE):
    """facebook/dinov2-base: 256 and 224."""
    return transformers.BitImageProcessor(
        size={"shortest_edge": size}, crop_size=square(crop), resample=3, image_mean=IMAGENET[0],
        image_std=IMAGENET[1],
    )


def dinov3_processor():
    return transformers.DINOv3ViTImageProcessor(size=square(SIDE))


def siglip_processor():
    return transformers.SiglipImageProcessor(size=square(SIDE))


def hf_vit(new_names: bool = False, old: bool = False) -> Files:
    def edit(path: Path) -> None:
        """As 4.13 wrote it."""
        labels = {"id2label": {str(i): name for i, name in enumerate(LABELS)}, "label2id": NAMED["label2id"]}
        write_json(
            path / "config.json",
            {
                "_name_or_path": "google/vit-base-patch16-224-in21k",
                "architectures": ["ViTForImageClassification"],
                "attention_probs_dropout_prob": 0.0,
                "hidden_act": "gelu",
                "hidden_dropout_prob": 0.0,
                "hidden_size": WIDTH,
                "id2label": labels["id2label"],
                "image_size": SIDE,
                "initializer_range": 0.02,
                "intermediate_size": MLP,
                "label2id": labels["label2id"],
                "layer_norm_eps": 1e-06,
                "model_type": "vit",
                "num_attention_heads": HEADS,
                "num_channels": 3,
                "num_hidden_layers": DEPTH,
                "patch_size": PATCH,
                "qkv_bias": True,
                "torch_dtype": "float32",
                "transformers_version": "4.13.0",
            },
        )

    processor = {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": HALF[0],
        "image_std": HALF[1],
        "resample": 2,
        "size": SIDE,
    }
    model, parameters = twin("vit")
    config = hf_config(transformers.ViTConfig, layer_norm_eps=1e-6, **NAMED)
    return hf_folder(
        transformers.ViTForImageClassification, config, VIT.under("vit.").of(parameters),
        processor if old else vit_processor(), "logits", model, new_names, edit if old else None,
    )


def hf_vit_model() -> Files:
    model, parameters = twin("vit model")
    config = hf_config(
        transformers.ViTConfig, image_size=list(RECTANGLE), qkv_bias=False, hidden_act="gelu_pytorch_tanh"
    )
    assert config.layer_norm_eps == 1e-12
    side = {"height": RECTANGLE[0], "width": RECTANGLE[1]}
    return hf_folder(
        transformers.ViTModel, config, VIT.of(parameters), vit_processor(side), "class token", model
    )


def hf_deit() -> Files:
    """Only the class token is read. timm has that as one register with a position."""
    _, parameters = twin("deit")
    model = VisionTransformer(**BASE, reg_tokens=1)
    ours = without(parameters, "dist_token", "head_dist") | {"reg_token": parameters["dist_token"]}
    config = hf_config(transformers.DeiTConfig, layer_norm_eps=1e-6, **NAMED)
    return hf_folder(
        transformers.DeiTForImageClassification, config, VIT.under("deit.").of(without(parameters, "head_dist")),
        deit_processor(), "logits", loaded(model, ours),
    )


def hf_deit_teacher(new_names: bool = False) -> Files:
    processor = {
        "crop_size": SIDE,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "DeiTFeatureExtractor",
        "image_mean": IMAGENET[0],
        "image_std": IMAGENET[1],
        "resample": 3,
        "size": 18,
    }
    model, parameters = twin("deit")
    config = hf_config(transformers.DeiTConfig, layer_norm_eps=1e-6, **NAMED)
    names = Names(VIT.outer | DEIT_HEADS, VIT.block, VIT.inner).under("deit.")
    return hf_folder(
        transformers.DeiTForImageClassificationWithTeacher, config, names.of(parameters), processor, "logits", model,
        new_names,
    )


def both(model: nn.Module, prefix: int, seed: str) -> tuple[Parameters, Callable[[Tensor], Tensor]]:
    """A head on the class token and the mean of the patches, and what it gives on top of `model`."""
    random = Random(seed)
    shapes = {"head.weight": (CLASSES, 2 * WIDTH), "head.bias": (CLASSES,)}
    head = {name: LARGE * random.parameter(name, shape) for name, shape in shapes.items()}

    def output(images: Tensor) -> Tensor:
        tokens = model.forward_features(images)
        read = torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=1)
        return nn.functional.linear(read, head["head.weight"].double(), head["head.bias"].double())

    return head, output


def hf_dinov2(gated: bool = False, new_names: bool = False) -> Files:
    model, parameters = twin("dinov2 swiglu" if gated else "dinov2")
    head, output = both(model, 1, "dinov2 head")
    config = hf_config(transformers.Dinov2Config, use_swiglu_ffn=gated, **NAMED)
    names = (DINOV2_GATED if gated else DINOV2).under("dinov2.")
    return hf_folder(
        transformers.Dinov2ForImageClassification, config, names.of(parameters | head), dinov2_processor(), "logits",
        output, new_names,
    )


def features(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda images: model.forward_head(model.forward_features(images), pre_logits=True)


def hf_dinov2_model() -> Files:
    """The published models too are resized to another size than that of their positions (518)."""
    model, parameters = twin("dinov2")
    return hf_folder(
        transformers.Dinov2Model, hf_config(transformers.Dinov2Config), DINOV2.of(without(parameters, "head.")),
        dinov2_processor(256, 224), "class token", features(model),
    )


def hf_dinov2_registers(new_names: bool = False) -> Files:
    model, parameters = twin("dinov2 registers")
    head, output = both(model, 1 + REGISTERS, "dinov2 head")
    config = hf_config(transformers.Dinov2WithRegistersConfig, num_register_tokens=REGISTERS, **NAMED)
    return hf_folder(
        transformers.Dinov2WithRegistersForImageClassification, config,
        DINOV2.under("dinov2_with_registers.").of(registers(parameters) | head), dinov2_processor(), "logits", output,
        new_names,
    )


def hf_dinov3(gated: bool = False, new_names: bool = False) -> Files:
    model, parameters = twin("dinov3 gated" if gated else "dinov3")
    config = hf_config(
        transformers.DINOv3ViTConfig, num_register_tokens=REGISTERS, use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
    )
    assert not config.key_bias
    names = DINOV3_GATED if gated else DINOV3
    return hf_folder(
        transformers.DINOv3ViTModel, config, names.of(without(parameters, "head.")), dinov3_processor(), "class token",
        features(model), new_names,
    )


def siglip_config(**settings):
    tiny = dict(
        vocab_size=3, hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=2, bos_token_id=0, eos_token_id=2,
    )
    return transformers.SiglipConfig(
        vision_config=hf_config(transformers.SiglipVisionConfig).to_dict(), text_config=tiny, **settings
    )


def hf_siglip(old: bool = False) -> Files:
    def edit(path: Path) -> None:
        """As 4.37 wrote it: the inner configs hold only what is not the default."""
        write_json(
            path / "config.json",
            {
                "architectures": ["SiglipModel"],
                "initializer_factor": 1.0,
                "model_type": "siglip",
                "text_config": {
                    "hidden_size": 2,
                    "intermediate_size": 2,
                    "max_position_embeddings": 2,
                    "model_type": "siglip_text_model",
                    "num_attention_heads": 1,
                    "num_hidden_layers": 1,
                    "vocab_size": 3,
                },
                "torch_dtype": "float32",
                "transformers_version": "4.37.0.dev0",
                "vision_config": {
                    "hidden_size": WIDTH,
                    "image_size": SIDE,
                    "intermediate_size": MLP,
                    "model_type": "siglip_vision_model",
                    "num_attention_heads": HEADS,
                    "num_hidden_layers": DEPTH,
                    "patch_size": PATCH,
                },
            },
        )

    model, parameters = twin("siglip")
    names = SIGLIP.under("vision_model.")
    return hf_folder(
        transformers.SiglipModel, siglip_config(), names.of(siglip(without(parameters, "head."))), siglip_processor(),
        "attention pool", features(model), edit=edit if old else None,
    )


def hf_siglip_classifier() -> Files:
    """It reads the mean of the patches: the attention pool is in the file, for nothing."""
    model, parameters = twin("siglip")

    def output(images: Tensor) -> Tensor:
        return model.head(model.forward_features(images).mean(dim=1))

    return hf_folder(
        transformers.SiglipForImageClassification, siglip_config(**NAMED),
        SIGLIP.under("vision_model.").of(siglip(parameters)), siglip_processor(), "logits", output,
    )


def hf_siglip_vision(old: bool = False) -> Files:
    def edit(path: Path) -> None:
        """4.x put `vision_model.` in front, and at first saved the numbers of the positions."""
        tensors, metadata = opened((path / "model.safetensors").read_bytes())
        tensors = {f"vision_model.{name}": value for name, value in tensors.items()}
        tensors["vision_model.embeddings.position_ids"] = torch.arange((SIDE // PATCH) ** 2)[None]
        safetensors.torch.save_file(tensors, path / "model.safetensors", metadata=metadata)
        config = json.loads((path / "config.json").read_text())
        del config["vision_use_head"], config["dtype"]
        write_json(path / "config.json", config | {"torch_dtype": "float32", "transformers_version": "4.37.0"})

    model, parameters = twin("siglip")
    return hf_folder(
        transformers.SiglipVisionModel, hf_config(transformers.SiglipVisionConfig),
        SIGLIP.of(siglip(without(parameters, "head."))), siglip_processor(), "attention pool", features(model),
        edit=edit if old else None,
    )


# --- torchvision ---------------------------------------------------------------------------------------------------


def torchvision_vit(old: bool = False) -> Files:
    """Without a config.json. The published files have the older names of the MLP."""
    ours, parameters = twin("vit")
    theirs = TORCHVISION.of(parameters)
    if old:
        names = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."}
        pattern = re.compile("|".join(re.escape(name) for name in names))
        theirs = {pattern.sub(lambda found: names[found[0]], name): value for name, value in theirs.items()}

    def write(path: Path) -> None:
        safetensors.torch.save_file(
            {name: value.contiguous() for name, value in theirs.items()}, path / "model.safetensors"
        )

    def load(path: Path) -> nn.Module:
        model = torchvision.models.VisionTransformer(SIDE, PATCH, DEPTH, HEADS, WIDTH, MLP, num_classes=CLASSES)
        model.load_state_dict(safetensors.torch.load_file(path / "model.safetensors"), strict=True)
        return model.eval()

    about = {"library": "torchvision", "class": "VisionTransformer", "output": "logits"}
    return folder(write, load, (3, SIDE, SIDE), about, ours)


# --- All of them ---------------------------------------------------------------------------------------------------


def same(name: str) -> Parameters:
    return twin(name)[1]


FORMS: dict[str, Callable[[], Files]] = {
    "timm_vit": lambda: timm_folder("vit_tiny_patch16_224", same("vit")),
    # No class token, the norm after the mean; names and descriptions of the classes
    "timm_vit_rectangle": lambda: timm_folder(
        "vit_tiny_patch16_224", "rectangle", img_size=RECTANGLE, class_token=False, global_pool="avg",
        act_layer="gelu_tanh",
        model_config={"label_names": LABELS, "label_descriptions": {name: f"an animal: {name}" for name in LABELS}},
        data_config={"crop_mode": "border", "crop_pct": 0.9},
    ),
    # Registers with positions, norms of queries and keys, mean of the patches after the norm
    "timm_vit_qk_norm": lambda: timm_folder(
        "vit_tiny_patch16_224", "qk norm", qk_norm=True, reg_tokens=REGISTERS, init_values=1e-5, global_pool="avg",
        fc_norm=False,
    ),
    "timm_vit_eps5": timm_by_hand,
    "timm_deit_distilled": lambda: timm_folder("deit_tiny_distilled_patch16_224", same("deit")),
    "timm_dinov2_reg4": lambda: timm_folder("vit_small_patch14_reg4_dinov2", same("dinov2 registers"), mlp_ratio=2.0),
    "timm_dinov2_swiglu": lambda: timm_folder(
        "vit_giant_patch14_dinov2", same("dinov2 swiglu"), mlp_ratio=2 * MLP / WIDTH
    ),
    # No biases of queries, keys and values; timm's default pool, the mean of the patches after the norm
    "timm_dinov3": lambda: timm_folder(
        "vit_base_patch16_dinov3", "dinov3 without biases", data_config={"input_size": (3, SIDE, SIDE)}
    ),
    # Any image size will do for these models: what is saved for the data stays 256
    "timm_dinov3_qkvb_swiglu": lambda: timm_folder(
        "vit_small_plus_patch16_dinov3_qkvb", same("dinov3 gated"), global_pool="token"
    ),
    "timm_siglip": lambda: timm_folder("vit_base_patch16_siglip_224", same("siglip"), act_layer="gelu_tanh"),
    "hf_vit": hf_vit,
    "hf_vit_new_names": lambda: hf_vit(new_names=True),
    "hf_vit_4x": lambda: hf_vit(old=True),
    "hf_vit_model": hf_vit_model,
    "hf_deit": hf_deit,
    "hf_deit_teacher": hf_deit_teacher,
    "hf_deit_teacher_new_names": lambda: hf_deit_teacher(new_names=True),
    "hf_dinov2": hf_dinov2,
    "hf_dinov2_model": hf_dinov2_model,
    "hf_dinov2_swiglu": lambda: hf_dinov2(gated=True),
    "hf_dinov2_swiglu_new_names": lambda: hf_dinov2(gated=True, new_names=True),
    "hf_dinov2_registers": hf_dinov2_registers,
    "hf_dinov2_registers_new_names": lambda: hf_dinov2_registers(new_names=True),
    "hf_dinov3": hf_dinov3,
    "hf_dinov3_new_names": lambda: hf_dinov3(new_names=True),
    "hf_dinov3_gated": lambda: hf_dinov3(gated=True),
    "hf_siglip": hf_siglip,
    "hf_siglip_4x": lambda: hf_siglip(old=True),
    "hf_siglip_classifier": hf_siglip_classifier,
    "hf_siglip_vision": hf_siglip_vision,
    "hf_siglip_vision_4x": lambda: hf_siglip_vision(old=True),
    "torchvision_vit": torchvision_vit,
    "torchvision_vit_old": lambda: torchvision_vit(old=True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes small models as other libraries save them.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "forms", help="default: beside this script")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these folders")
    arguments = parser.parse_args()

    for package in (torch, torchvision, timm, transformers, safetensors):
        version, wanted = package.__version__.split("+")[0], VERSIONS[package.__name__]
        if version != wanted:
            parser.error(f"{package.__name__} is {version}; the folders are made with {wanted}")
    if unknown := set(arguments.names) - set(FORMS):
        parser.error(f"no such folder: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("timm").setLevel(logging.ERROR)

    different = []
    for name in arguments.names or FORMS:
        files, path = FORMS[name](), arguments.out / name
        there = {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else {}
        if arguments.check:
            different += [f"{name}/{file}" for file in sorted(files | there) if files.get(file) != there.get(file)]
        else:
            path.mkdir(parents=True, exist_ok=True)
            for file in there.keys() - files.keys():
                (path / file).unlink()
            for file, content in files.items():
                (path / file).write_bytes(content)
        print(f"{sum(map(len, files.values())):>8} bytes  {name}", flush=True)
    if different:
        print("not the same as the files here: " + ", ".join(different), file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
