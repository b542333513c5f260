#!/usr/bin/env python3
"""Whether `vitrine predict` gives the logits of timm, transformers and torchvision, and of the compact transformers'
authors, at full size with random weights.

Each model is timm's, its parameters drawn anew from a seed (as in the golden files). Its weights are saved as timm saves
them for the Hub, and where the same architecture exists there, by transformers' `save_pretrained` and as torchvision's
state dict. Of each, the library itself must read back a model with timm's logits. Then Vitrine classifies a picture of
exactly the model's size: the logits must differ from timm's by no more than 1e-4 of the largest; with `--precision
bf16`, by a norm of no more than 1.6e-2 of theirs.

Beforehand, parts of timm's model are left out or done wrong in turn. Each must move the logits by a hundred tolerances,
so that a model without the part cannot pass.

transformers' models of SigLIP classify the mean of the patches, those of DINOv3 do not classify. Its DINOv2 classifies
the class token beside the mean of the patches; here the mean's weights are zero, and Vitrine may refuse such a head.

    pip install torch==2.15.0 torchvision==0.29.2 timm==1.0.31 transformers==5.24.0 pillow==13.0.0
    python benches/peers/parity.py --program target/release/vitrine --only vit_tiny
    python benches/peers/parity.py --no-program     # the libraries among themselves
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import timm
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import Tensor, nn
from torchvision.transforms.functional import normalize, to_tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "crates/testkit/golden"))

import make_families  # noqa: E402
from make import Random  # noqa: E402
from make_models import CASES, TEETH, TOLERANCE, Parameters, Wrong, changed, draw  # noqa: E402

BF16_TOLERANCE = 1.6e-2
CLASSES = 1000
# Two libraries, or one that reads back what it wrote, are closer than this.
LIBRARY_TOLERANCE = 1e-5


class Failed(Exception):
    pass


# The forms that weights come in.


@dataclass(frozen=True)
class Form:
    """How a library saves a model. `save` writes to a folder and returns what `--weights` is to name, and `read` the
    logits of the library's own model read back from there."""

    library: str
    save: Callable[["Model", nn.Module, Path], Path]
    read: Callable[["Model", Path, Image.Image], Tensor]
    # What else `vitrine predict` is told.
    arguments: Callable[["Model"], list[str]] = lambda model: []
    may_be_refused: bool = False


def save_timm(model: "Model", module: nn.Module, folder: Path) -> Path:
    save_for_hf(module, folder, safe_serialization=True, data_config={"crop_pct": 1.0})
    return folder


def read_timm(model: "Model", folder: Path, picture: Image.Image) -> Tensor:
    module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(module)
    transform = timm.data.create_transform(**config, is_training=False)
    return module(transform(picture)[None])


# Names on the Hub, and timm's.
ENCODER = {
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer.{i}.attention.output.dense": "blocks.{i}.attn.proj",
    "layernorm": "norm",
}
VIT = ENCODER | {
    "encoder.layer.{i}.layernorm_before": "blocks.{i}.norm1",
    "encoder.layer.{i}.layernorm_after": "blocks.{i}.norm2",
    "encoder.layer.{i}.intermediate.dense": "blocks.{i}.mlp.fc1",
    "encoder.layer.{i}.output.dense": "blocks.{i}.mlp.fc2",
}
DINOV2 = ENCODER | {
    f"encoder.layer.{{i}}.{part}": f"blocks.{{i}}.{part}" for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")
}


def hub_names(prefix: str, names: dict[str, str], given: Parameters) -> Parameters:
    """The weights and biases of the encoder under the Hub's names."""
    depth = 1 + max(int(name.split(".")[1]) for name in given if name.startswith("blocks."))
    found = {}
    for i in range(depth):
        for end in ("weight", "bias"):
            for theirs, ours in names.items():
                found[f"{theirs.format(i=i)}.{end}"] = given[f"{ours.format(i=i)}.{end}"]
            thirds = given[f"blocks.{i}.attn.qkv.{end}"].chunk(3)
            for name, third in zip(("query", "key", "value"), thirds):
                found[f"encoder.layer.{i}.attention.attention.{name}.{end}"] = third
    return {f"{prefix}.{name}": value for name, value in found.items()}


def classifier(name: str, head: str, given: Parameters) -> Parameters:
    return {f"{name}.{end}": given[f"{head}.{end}"] for end in ("weight", "bias")}


def hub_vit(given: Parameters) -> Parameters:
    tokens = {"vit.embeddings.cls_token": "cls_token", "vit.embeddings.position_embeddings": "pos_embed"}
    own = {theirs: given[ours] for theirs, ours in tokens.items()}
    return hub_names("vit", VIT, given) | own | classifier("classifier", "head", given)


def hub_deit(given: Parameters) -> Parameters:
    tokens = {"cls_token": "cls_token", "distillation_token": "dist_token", "position_embeddings": "pos_embed"}
    own = {f"deit.embeddings.{theirs}": given[ours] for theirs, ours in tokens.items()}
    heads = classifier("cls_classifier", "head", given) | classifier("distillation_classifier", "head_dist", given)
    return hub_names("deit", VIT, given) | own | heads


def hub_dinov2(given: Parameters) -> Parameters:
    """transformers adds a position to the class token, which timm has in the token. The mask token is not used."""
    prefix, token, head = "dinov2_with_registers", given["cls_token"], given["head.weight"]
    own = {
        "embeddings.cls_token": 0.25 * token,
        "embeddings.position_embeddings": torch.cat([0.75 * token, given["pos_embed"]], dim=1),
        "embeddings.register_tokens": given["reg_token"],
        "embeddings.mask_token": torch.ones_like(token[0]),
    }
    for i in range(12):
        for k in (1, 2):
            own[f"encoder.layer.{i}.layer_scale{k}.lambda1"] = given[f"blocks.{i}.ls{k}.gamma"]
    own = {f"{prefix}.{name}": value for name, value in own.items()}
    heads = {"classifier.weight": torch.cat([head, torch.zeros_like(head)], dim=1), "classifier.bias": given["head.bias"]}
    return hub_names(prefix, DINOV2, given) | own | heads


def transformers_form(
    classifier: type, configuration: type, processor: type, rename: Callable[[Parameters], Parameters], **more
) -> Form:
    may_be_refused = more.pop("may_be_refused", False)

    def save(model: "Model", module: nn.Module, folder: Path) -> Path:
        side = {"height": model.size, "width": model.size}
        config = configuration(
            hidden_size=module.embed_dim, num_hidden_layers=len(module.blocks), image_size=model.size,
            num_attention_heads=module.blocks[0].attn.num_heads, patch_size=module.patch_embed.patch_size[0],
            intermediate_size=module.blocks[0].mlp.fc1.out_features, layer_norm_eps=module.norm.eps,
            num_labels=CLASSES, **more,
        )
        theirs = classifier.from_pretrained(None, config=config, state_dict=rename(module.state_dict()))
        theirs.save_pretrained(folder)
        options = {"do_center_crop": False, "do_convert_rgb": True} if processor is not transformers.ViTImageProcessor else {}
        processor(size=side, image_mean=model.mean, image_std=model.std, resample=3, **options).save_pretrained(folder)
        return folder

    def read(model: "Model", folder: Path, picture: Image.Image) -> Tensor:
        pixels = processor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
        return classifier.from_pretrained(folder).eval()(pixels).logits

    return Form("transformers", save, read, may_be_refused=may_be_refused)


HUB_VIT = transformers_form(
    transformers.ViTForImageClassification, transformers.ViTConfig, transformers.ViTImageProcessor, hub_vit
)
HUB_DEIT = transformers_form(
    transformers.DeiTForImageClassificationWithTeacher, transformers.DeiTConfig, transformers.DeiTImageProcessor, hub_deit
)
HUB_DINOV2 = transformers_form(
    transformers.Dinov2WithRegistersForImageClassification, transformers.Dinov2WithRegistersConfig,
    transformers.BitImageProcessor, hub_dinov2, num_register_tokens=4, may_be_refused=True,
)

# torchvision's names, and timm's.
TORCHVISION = {
    "class_token": "cls_token",
    "conv_proj": "patch_embed.proj",
    "encoder.pos_embedding": "pos_embed",
    "encoder.layers.encoder_layer_{i}.ln_1": "blocks.{i}.norm1",
    "encoder.layers.encoder_layer_{i}.self_attention.in_proj_": "blocks.{i}.attn.qkv.",
    "encoder.layers.encoder_layer_{i}.self_attention.out_proj": "blocks.{i}.attn.proj",
    "encoder.layers.encoder_layer_{i}.ln_2": "blocks.{i}.norm2",
    "encoder.layers.encoder_layer_{i}.mlp.0": "blocks.{i}.mlp.fc1",
    "encoder.layers.encoder_layer_{i}.mlp.3": "blocks.{i}.mlp.fc2",
    "encoder.ln": "norm",
    "heads.head": "head",
}


def save_torchvision(model: "Model", module: nn.Module, folder: Path) -> Path:
    names = [(t.format(i=i), o.format(i=i)) for i in range(len(module.blocks)) for t, o in TORCHVISION.items()]
    state = {}
    for name, value in module.state_dict().items():
        theirs, ours = next((theirs, ours) for theirs, ours in names if name.startswith(ours))
        state[theirs + name.removeprefix(ours)] = value.clone()
    folder.mkdir()
    save_file(state, folder / "vit_b_16.safetensors")
    return folder / "vit_b_16.safetensors"


def read_torchvision(model: "Model", path: Path, picture: Image.Image) -> Tensor:
    module = torchvision.models.vit_b_16(num_classes=CLASSES)
    module.load_state_dict(load_file(path), strict=True)
    return module.eval()(model.pixels(picture))


def recipe(model: "Model") -> list[str]:
    mean_and_std = {"model.mean": list(model.mean), "model.std": list(model.std)}
    keys = {"model.preset": model.name, "model.classes": CLASSES, "data.crop_pct": 1.0, **mean_and_std}
    return ["--recipe", "finetune", *(part for key, value in keys.items() for part in ("--set", f"{key}={value}"))]


def save_as_it_is(model: "Model", module: nn.Module, folder: Path) -> Path:
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


def read_torchvision_resnet(model: "Model", path: Path, picture: Image.Image) -> Tensor:
    """timm's names are torchvision's."""
    module = getattr(torchvision.models, model.name)(num_classes=CLASSES)
    module.load_state_dict(load_file(path), strict=True)
    return module.eval()(model.pixels(picture))


def read_authors(model: "Model", path: Path, picture: Image.Image) -> Tensor:
    module = model.make()
    module.load_state_dict(load_file(path), strict=True)
    return module.eval()(model.pixels(picture))


TIMM = Form("timm", save_timm, read_timm)
TORCHVISION_RESNET = Form("torchvision", save_as_it_is, read_torchvision_resnet, recipe)
AUTHORS = Form("the authors", save_as_it_is, read_authors, recipe)
FROM_TORCHVISION = Form("torchvision", save_torchvision, read_torchvision, recipe)


# The models.

PLAIN = {
    "positions": changed(torch.zeros_like, "pos_embed"),
    "biases of queries, keys and values": changed(torch.zeros_like, "attn.qkv.bias"),
    "the class token at the head": Wrong({"global_pool": "avg", "fc_norm": False}),
}


def without_masks(module: nn.Module) -> None:
    for part in module.modules():
        if getattr(part, "attn_mask", None) is not None:
            part.attn_mask = None


def without_shifts(module: nn.Module) -> None:
    for part in module.modules():
        if any(getattr(part, "shift_size", None) or ()):
            part.shift_size, part.attn_mask = (0, 0), None


SWIN = {
    "biases of distances": changed(torch.zeros_like, "relative_position_bias_table"),
    "masks": Wrong(model=without_masks),
    "shifts": Wrong(model=without_shifts),
}
RESNET = {
    "running means": changed(torch.zeros_like, "running_mean"),
    "running variances": changed(torch.ones_like, "running_var"),
    "the shortcuts' convolutions": changed(torch.zeros_like, "downsample.0.weight"),
}
CCT = {
    "positions": changed(torch.zeros_like, "positional_emb"),
    "the learned mean": changed(torch.zeros_like, "attention_pool.weight"),
}


def cct() -> nn.Module:
    """CCT-7/3×1 for 32×32 pixels."""
    tokenizer = [make_families.convolutional(3, 256, 3, 1, 1)]
    return make_families.Compact(tokenizer, 16 * 16, 256, 7, 4, 512, True, CLASSES)


@dataclass
class Model:
    name: str
    forms: list[Form]
    wrong: dict[str, Wrong]
    options: dict = field(default_factory=dict)
    size: int = 224
    # What the pixels are normalised with, by timm's configuration of the model.
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    # Where it is not timm's.
    own: Callable[[], nn.Module] | None = None
    # Parameters that are drawn so many times as large. After many layers of random weights all tokens are alike, so that
    # what weighs them would not be felt.
    scales: dict[str, float] = field(default_factory=dict)
    draw: Callable[[str, Tensor, Random], Tensor] = lambda name, value, random: draw(name, value.shape, random)

    def make(self, **other) -> nn.Module:
        if self.own:
            return self.own()
        return timm.create_model(self.name, **{"num_classes": CLASSES, **self.options, **other})

    def scaled(self, name: str, value: Tensor) -> Tensor:
        return value * next((scale for ending, scale in self.scales.items() if name.endswith(ending)), 1.0)

    def pixels(self, picture: Image.Image, mean=None, std=None) -> Tensor:
        return normalize(to_tensor(picture), mean or self.mean, std or self.std)[None]


MODELS = [
    Model("vit_tiny_patch16_224", [TIMM, HUB_VIT], PLAIN),
    Model("vit_small_patch16_224", [TIMM, HUB_VIT], PLAIN),
    Model("vit_base_patch16_224", [TIMM, HUB_VIT, FROM_TORCHVISION], PLAIN),
    Model("vit_small_patch14_reg4_dinov2", [TIMM, HUB_DINOV2], CASES["vit_dinov2"].wrong, {"img_size": 224}),
    Model(
        "vit_base_patch16_dinov3", [TIMM], CASES["vit_dinov3"].wrong, size=256, scales={"patch_embed.proj.weight": 8}
    ),
    Model("vit_base_patch16_siglip_224", [TIMM], CASES["vit_siglip"].wrong, scales={"attn_pool.q.weight": 10}),
    Model("deit_small_distilled_patch16_224", [TIMM, HUB_DEIT], CASES["deit_distilled"].wrong),
    Model("swin_tiny_patch4_window7_224", [TIMM], SWIN, draw=make_families.draw),
    Model("resnet18", [TIMM, TORCHVISION_RESNET], RESNET, draw=make_families.draw),
    Model("resnet50", [TIMM, TORCHVISION_RESNET], RESNET, draw=make_families.draw),
    Model(
        "cct_7_3x1_32",
        [AUTHORS],
        CCT,
        size=32,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
        own=cct,
        scales={"attention_pool.weight": 30, "linear2.weight": 0.3, "proj.weight": 0.3},
        draw=make_families.draw,
    ),
]


def loaded_all(make: Callable[..., nn.Module], given: Parameters, wrong: Wrong = Wrong()) -> nn.Module:
    """As `loaded`, with the buffers."""
    model = make(**wrong.options)
    model.load_state_dict(wrong.parameters(dict(given)), strict=False)
    wrong.model(model)
    return model


def made_picture(size: int, random: Random) -> Image.Image:
    """Noise over a slope in another direction for each channel."""
    ramp = torch.linspace(0, 1, size)
    slopes = torch.stack([ramp[:, None].expand(size, size), ramp.expand(size, size), 1 - (ramp[:, None] + ramp) / 2], dim=2)
    pixels = 255 * (0.5 * slopes + 0.5 * random.uniform(size, size, 3))
    return Image.fromarray(pixels.round().to(torch.uint8).numpy())


# The comparison.


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest, in parts of the largest logit."""
    return float((found - expected).abs().max() / expected.abs().max())


def vitrine(program: Path, weights: Path, picture: Path, arguments: list[str]) -> Tensor:
    command = [program, "predict", "--weights", weights, "--json", "--top", CLASSES, *arguments, picture]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    (line,) = done.stdout.splitlines()
    classes = json.loads(line)["classes"]
    logits = {guess["label"]: guess["logit"] for guess in classes}
    if sorted(logits) != list(range(CLASSES)):
        raise Failed(f"{len(classes)} classes, {len(logits)} labels")
    return torch.tensor([logits[label] for label in range(CLASSES)], dtype=torch.float64)


@torch.inference_mode()
def teeth(model: Model, parameters: Parameters, picture: Image.Image, expected: Tensor) -> None:
    """Prints by how many tolerances each option left out moves the logits."""

    def report(what: str, logits: Tensor) -> None:
        factor = difference(logits[0], expected) / TOLERANCE
        print(f"  {factor:>8.0f} tolerances without {what}", flush=True)
        if factor < TEETH:
            raise Failed(f"{model.name} without {what} is too much like itself: {factor:.0f} tolerances")

    for what, wrong in model.wrong.items():
        report(what, loaded_all(model.make, parameters, wrong).eval()(model.pixels(picture)))
    right = loaded_all(model.make, parameters).eval()
    report("the picture", right(model.pixels(Image.new("RGB", picture.size, (128, 128, 128)))))
    report("mean and std", right(to_tensor(picture)[None]))
    report("the channels' order", right(model.pixels(picture).flip(1)))


@torch.inference_mode()
def check(model: Model, given: argparse.Namespace, folder: Path) -> int:
    """How many of the model's forms Vitrine computes otherwise than timm."""
    print(model.name, flush=True)
    random = Random(given.seed)
    module = model.make()
    # Buffers that are drawn are those of batch norm.
    names = [name for name, _ in module.named_parameters()]
    state = {name: value for name, value in module.state_dict().items() if name in names or "running" in name}
    parameters = {name: model.scaled(name, model.draw(name, value, random)) for name, value in state.items()}
    module = loaded_all(model.make, parameters).eval()
    if not model.mean:
        config = timm.data.resolve_model_data_config(module)
        model.mean, model.std = config["mean"], config["std"]
    picture, path = made_picture(model.size, random), folder / "picture.png"
    picture.save(path)
    expected = module(model.pixels(picture))[0]
    if not given.no_teeth:
        teeth(model, parameters, picture, expected)

    failures = 0
    for form in model.forms:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            weights = form.save(model, module, Path(place) / "weights")
            own = difference(form.read(model, weights, picture)[0], expected)
            print(f"  {own:.1e} of the largest logit: {form.library}'s own model and timm's", flush=True)
            if own > LIBRARY_TOLERANCE:
                raise Failed(f"{form.library}'s model is not the same")
            if given.no_program:
                continue
            more = form.arguments(model) + (["--precision", given.precision] if given.precision else [])
            try:
                found = vitrine(given.program, weights, path, more)
            except Failed as error:
                print(f"  {'refused' if form.may_be_refused else 'FAILED'} from {form.library}: {error}", flush=True)
                failures += not form.may_be_refused
                continue
        if given.precision == "bf16":
            error, tolerance = float((found - expected).norm() / expected.norm()), BF16_TOLERANCE
        else:
            error, tolerance = difference(found, expected), TOLERANCE
        good = error <= tolerance
        failures += not good
        what = "of the logits' norm" if given.precision == "bf16" else "of the largest logit"
        print(f"  {error:.1e} {what}: Vitrine from {form.library}{'' if good else f': FAILED, over {tolerance}'}", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares Vitrine's logits with timm's, transformers' and torchvision's.")
    program = ROOT / "target/release/vitrine"
    parser.add_argument("--program", type=Path, default=program, help="default: target/release/vitrine")
    parser.add_argument("--no-program", action="store_true", help="compare the libraries among themselves")
    parser.add_argument("--no-teeth", action="store_true", help="do not try what is left out")
    parser.add_argument("--precision", choices=["f32", "bf16"], help="for Vitrine")
    parser.add_argument("--only", metavar="TEXT", nargs="+", help="models whose names contain one of these")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="for the libraries (default: 1)")
    given = parser.parse_args()
    if not given.no_program and not given.program.is_file():
        parser.error(f"{given.program} is not there; `cargo build --release` makes it")
    models = [model for model in MODELS if not given.only or any(text in model.name for text in given.only)]
    if not models:
        parser.error("no model has such a name")
    torch.set_num_threads(given.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("timm").setLevel(logging.ERROR)

    failures = 0
    with tempfile.TemporaryDirectory(prefix="vitrine-parity-") as folder:
        for model in models:
            try:
                failures += check(model, given, Path(folder))
            except Failed as error:
                print(f"  FAILED: {error}", flush=True)
                failures += 1
    print("all good" if not failures else f"{failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
