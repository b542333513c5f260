#!/usr/bin/env python3
"""Makes the golden files of timm's models beside this script: DINOv2, DINOv3, SigLIP, DeiT and their parts, small.

Run as `make.py` is, which says how the numbers are made (float32 in, float64 inside, rounded once):

    target/golden/bin/python crates/testkit/golden/make_models.py            # writes the files
    target/golden/bin/python crates/testkit/golden/make_models.py --check    # only compares them, byte for byte

The models are timm's own classes, in train mode with all dropout 0. No parameter keeps its initial value: a bias of zero
or a LayerScale of one would hide a mistake. Each option is also left out or done wrong (`Wrong`): that must move the
logits by a hundred times a tolerance of 1e-4 of the largest, so a model without it fails a test at that tolerance.
"""

import dataclasses
import functools
import json
import math
import sys
from typing import Callable

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm, RotaryEmbeddingDinoV3, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from make import VERSIONS, Random, main, rounded, safetensors_file, with_prefix

TOLERANCE = 1e-4  # of the largest logit
TEETH = 100  # an option left out moves the logits by so many tolerances

Parameters = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A model that lacks an option: other arguments, other parameters (those it has no place for are dropped), or a
    change to the model."""

    options: dict = dataclasses.field(default_factory=dict)
    parameters: Callable[[Parameters], Parameters] = lambda parameters: parameters
    model: Callable[[nn.Module], None] = lambda model: None


@dataclasses.dataclass(frozen=True)
class Case:
    timm: type[nn.Module]
    options: dict  # arguments of timm's class beside the sizes
    ours: dict  # what is not default in our configuration
    wrong: dict[str, Wrong]
    image_size: tuple[int, int] = (8, 12)
    input_size: tuple[int, int] | None = None  # where it is not the model's own
    patch_size: tuple[int, int] = (4, 4)
    width: int = 12
    heads: int = 3
    mlp_width: int = 20  # what enters fc2
    hidden: int = 20  # what timm's `mlp_ratio` gives: twice as much where two halves are packed, less where it aligns
    depth: int = 2
    layer_norm_eps: float = 1e-6
    classes: int = 5
    batch: int = 3

    def make(self, **other) -> nn.Module:
        norm_layer = functools.partial(LayerNorm, eps=self.layer_norm_eps)
        sizes = dict(
            img_size=self.image_size, patch_size=self.patch_size, in_chans=3, num_classes=self.classes,
            embed_dim=self.width, depth=self.depth, num_heads=self.heads, mlp_ratio=self.hidden / self.width,
            norm_layer=norm_layer,
        )
        model = self.timm(**sizes | self.options | other)
        fc2 = model.blocks[0].mlp.fc2.in_features
        assert fc2 == self.mlp_width or "mlp_layer" in other or "swiglu_mlp" in other, fc2
        return model

    def config(self) -> dict:
        """The model as our `VitConfig` is written in a file."""
        defaults = {
            "image_size": self.image_size, "patch_size": self.patch_size, "channels": 3, "mean": [0.0], "std": [1.0],
            "classes": self.classes, "width": self.width, "depth": self.depth, "heads": self.heads,
            "mlp_width": self.mlp_width, "dropout": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0,
            "qkv_bias": True, "projection_bias": True, "key_bias": True, "qk_norm": False, "mlp_layer": "mlp",
            "gelu": "erf", "layer_norm_eps": self.layer_norm_eps, "init": "flax", "class_token": True,
            "distilled": False, "reg_tokens": 0, "pos_embed": "learn", "no_embed_class": False, "rope_type": "none",
            "rope_temperature": 100.0, "pool": "class-token", "fc_norm": False, "last_block_saving": True,
            "recompute": False,
        }
        return defaults | self.ours


def our_name(timm_name: str) -> str:
    """Our names are those of timm's `VisionTransformer`; its `Eva` calls LayerScale otherwise."""
    return timm_name.replace(".gamma_1", ".ls1.gamma").replace(".gamma_2", ".ls2.gamma")


def draw(name: str, shape: torch.Size, random: Random) -> Tensor:
    """A parameter, none at its trivial value. Patches are small, so that the norm's eps and the tokens are felt; queries
    and keys large, so that attention is not uniform."""
    kind = our_name(name).removesuffix(".weight").removesuffix(".bias")
    if kind.endswith(".gamma"):
        return random.uniform(*shape, low=0.5, high=1.5)
    if "norm" in kind:
        return random.normal(*shape, mean=float(name.endswith(".weight")), std=0.3)
    if name.endswith(".weight"):
        scales = {"patch_embed.proj": 0.2, "attn.qkv": 3, "attn_pool.kv": 3, "attn_pool.q": 6}
        scale = next((scale for ending, scale in scales.items() if kind.endswith(ending)), 1)
        return scale * random.linear(*shape)
    return random.normal(*shape, std=0.3)


def exact_rope(model: nn.Module) -> None:
    """timm computes the sines and cosines in float32. Here they are computed in float64, by the same formula."""
    for rope in model.modules():
        if isinstance(rope, RotaryEmbeddingDinoV3):
            rows, columns = (2 * torch.arange(0.5, n, dtype=torch.float64) / n - 1 for n in rope.feat_shape)
            places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
            count = rope.dim // 4
            periods = rope.temperature ** (torch.arange(count, dtype=torch.float64) / count)
            angles = (2 * math.pi * places[:, :, None] / periods).flatten(1).repeat(1, 2)
            table = torch.cat([angles.sin(), angles.cos()], dim=-1)
            torch.testing.assert_close(rope.pos_embed_cached, table, rtol=0, atol=1e-6)
            rope.pos_embed_cached = table


def loaded(make: Callable[..., nn.Module], parameters: Parameters, wrong: Wrong = Wrong()) -> nn.Module:
    model = make(**wrong.options)
    given = wrong.parameters(dict(parameters))
    model.load_state_dict({name: given[name] for name, _ in model.named_parameters()}, strict=True)
    wrong.model(model)
    return model


SINGLE = torch.Tensor.float


def case_file(name: str, case: Case, seed: int) -> bytes:
    random, distilled = Random(seed), case.timm is VisionTransformerDistilled
    parameters = {name: draw(name, value.shape, random) for name, value in case.make().named_parameters()}
    images = random.uniform(case.batch, 3, *(case.input_size or case.image_size))
    labels = random.labels(case.batch, case.classes)

    def compute(dtype):
        model = loaded(case.make, parameters).to(dtype).train()
        # timm resamples positions in float32; here in the type of all else.
        torch.Tensor.float = lambda tensor: tensor.to(dtype)
        if dtype == torch.float64:
            exact_rope(model)
        if distilled:
            model.set_distilled_training()
        # The distilled model has two heads, whose losses are averaged.
        outputs = model(images.to(dtype)) if distilled else (model(images.to(dtype)),)
        loss = torch.stack([F.cross_entropy(logits, labels) for logits in outputs]).mean()
        names, values = zip(*model.named_parameters())
        grads = dict(zip(map(our_name, names), torch.autograd.grad(loss, values)))
        results = dict(zip(["logits", "distilled"], (logits.detach() for logits in outputs)))
        if distilled:
            results["prediction"] = model.eval()(images.to(dtype)).detach()
        torch.Tensor.float = SINGLE
        return results | {"loss": loss.detach()} | with_prefix("grad", grads)

    # The softmax does not see what is the same for all keys.
    zero = tuple(f"grad.blocks.{i}.attn.k_norm.bias" for i in range(case.depth))
    results = rounded(compute, name, zero)
    expected = results["prediction" if distilled else "logits"].double()

    @torch.no_grad()
    def moved(wrong: Wrong) -> float:
        logits = loaded(case.make, parameters, wrong).double().eval()(images.double())
        return float((logits - expected).abs().max())

    largest = float(expected.abs().max())
    assert moved(Wrong()) < 1e-6, f"{name}: train and eval mode differ"
    for option, wrong in case.wrong.items():
        factor = moved(wrong) / (TOLERANCE * largest)
        print(f"{factor:>8.0f} tolerances  {name} without {option}")
        assert factor > TEETH, f"{name} without {option} would pass unseen"
    eps = functools.partial(LayerNorm, eps=1.1e-5 - case.layer_norm_eps)
    assert moved(Wrong({"norm_layer": eps})) > 3e-6 * largest, f"{name}: another eps would pass unseen in float64"

    given = {our_name(name): value for name, value in parameters.items()}
    tensors = with_prefix("param", given) | {"input": images, "labels": labels} | results
    return safetensors_file({"model": case.config(), "parameters": list(given)}, tensors)


# --- What is left out or done wrong --------------------------------------------------------------------------------


def changed(change: Callable[[Tensor], Tensor], *endings: str) -> Wrong:
    """Some parameters are others."""
    return Wrong(
        parameters=lambda p: {name: change(value) if name.endswith(endings) else value for name, value in p.items()}
    )


def each_mlp(change: Callable[[nn.Module], None]) -> Wrong:
    return Wrong(model=lambda model: [change(block.mlp) for block in model.blocks])


def first_head_only(model: nn.Module) -> None:
    model.forward_head = lambda x: model.head(x[:, 0])


def one_token_for_both_heads(model: nn.Module) -> None:
    model.forward_head = lambda x: (model.head(x[:, 0]) + model.head_dist(x[:, 0])) / 2


def positions_from_the_first_token(parameters: Parameters) -> Parameters:
    """The prefix tokens get the first position too."""
    positions = parameters["pos_embed"]
    prefix = 1 + parameters["reg_token"].shape[1]
    return parameters | {"pos_embed": torch.cat([positions[:, :1].expand(-1, prefix, -1), positions], dim=1)}


def swap_halves(mlp: nn.Module) -> None:
    mlp.gate_last = True


LAYER_SCALE = changed(torch.ones_like, ".gamma", ".gamma_1", ".gamma_2")
GATE = {
    "the gate": each_mlp(lambda mlp: setattr(mlp, "act", nn.Threshold(math.inf, 1.0))),  # one everywhere
    "the gate's SiLU": each_mlp(lambda mlp: setattr(mlp, "act", nn.Identity())),
}
ROPE = {
    "rope": Wrong({"use_rot_pos_emb": False}),
    "rope's temperature": Wrong({"rope_temperature": 10000.0}),
    "rope by halves": Wrong({"rope_rotate_half": False}),
    "rope's first direction down": Wrong({"rope_grid_indexing": "xy"}),
}


# --- The models ----------------------------------------------------------------------------------------------------

DINOV3 = dict(
    use_rot_pos_emb=True, rope_type="dinov3", rope_temperature=100, rope_rotate_half=True, use_abs_pos_emb=False,
    num_reg_tokens=2, init_values=1e-5, use_fc_norm=False,
)
OUR_DINOV3 = {"reg_tokens": 2, "init_values": 1e-5, "pos_embed": "none", "rope_type": "dinov3"}
# Four rows and three columns of patches; heads of 8 numbers have two periods.
DINOV3_SIZES = dict(patch_size=(2, 4), width=16, heads=2, layer_norm_eps=1e-5)

CASES = {
    "vit_dinov2": Case(
        VisionTransformer,
        dict(init_values=1e-5, reg_tokens=2, no_embed_class=True),
        {"init_values": 1e-5, "reg_tokens": 2, "no_embed_class": True},
        {
            "registers": Wrong({"reg_tokens": 0}),
            "LayerScale": LAYER_SCALE,
            "positions": changed(torch.zeros_like, "pos_embed"),
            "no_embed_class": Wrong({"no_embed_class": False}, positions_from_the_first_token),
        },
    ),
    "vit_dinov3": Case(
        Eva,
        DINOV3 | dict(qkv_bias=False, global_pool="avg"),
        OUR_DINOV3 | {"qkv_bias": False, "pool": "mean"},
        ROPE
        | {
            "registers": Wrong({"num_reg_tokens": 0}),
            "LayerScale": LAYER_SCALE,
            "the class token": Wrong({"class_token": False}),
            "mean over patches": Wrong({"global_pool": "token"}),
            "the norm before the mean": Wrong(
                {"use_fc_norm": True}, lambda p: p | {f"fc_{name}": p[name] for name in ("norm.weight", "norm.bias")}
            ),
        },
        **DINOV3_SIZES,
    ),
    "vit_dinov3_qkvb_swiglu": Case(
        Eva,
        DINOV3 | dict(qkv_bias=True, swiglu_mlp=True, swiglu_align_to=8, global_pool="token"),
        OUR_DINOV3 | {"key_bias": False, "mlp_layer": "swiglu"},
        ROPE
        | GATE
        | {
            "q_bias": changed(torch.zeros_like, "q_bias"),
            "v_bias": changed(torch.zeros_like, "v_bias"),
        },
        mlp_width=24,
        **DINOV3_SIZES,
    ),
    "vit_swiglu_packed": Case(
        VisionTransformer,
        dict(init_values=1e-5, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU),
        {"init_values": 1e-5, "mlp_layer": "swiglu-packed"},
        GATE | {"the order of the halves": each_mlp(swap_halves)},
        hidden=40,
    ),
    "vit_siglip": Case(
        VisionTransformer,
        dict(class_token=False, global_pool="map"),
        {"class_token": False, "pool": "map"},
        {
            "attention pooling": Wrong({"global_pool": "avg", "fc_norm": False}),
            "the latent's attention": changed(torch.zeros_like, "attn_pool.q.weight", "attn_pool.q.bias"),
            "the pool's MLP": Wrong(model=lambda model: setattr(model.attn_pool, "mlp", None)),
            "the pool's norm": Wrong(model=lambda model: setattr(model.attn_pool, "norm", nn.Identity())),
        },
    ),
    "vit_qk_norm": Case(
        VisionTransformer,
        dict(qk_norm=True, global_pool="avg"),
        {"qk_norm": True, "pool": "mean", "fc_norm": True},
        {
            "qk_norm": Wrong({"qk_norm": False}),
            "fc_norm": Wrong(
                {"fc_norm": False}, lambda p: p | {name: p[f"fc_{name}"] for name in ("norm.weight", "norm.bias")}
            ),
            "the class token": Wrong({"class_token": False}, lambda p: p | {"pos_embed": p["pos_embed"][:, 1:]}),
            "mean over patches alone": Wrong({"pool_include_prefix": True}),
        },
    ),
    "vit_gap": Case(
        VisionTransformer,
        dict(class_token=False, global_pool="avg", fc_norm=False),
        {"class_token": False, "pool": "mean"},
        {
            "the norm before the mean": Wrong(
                {"fc_norm": True}, lambda p: p | {f"fc_{name}": p[name] for name in ("norm.weight", "norm.bias")}
            ),
        },
    ),
    "deit_distilled": Case(
        VisionTransformerDistilled,
        {},
        {"distilled": True},
        {
            "the second head": Wrong(model=first_head_only),
            "the second head's token": Wrong(model=one_token_for_both_heads),
            "the distillation token": changed(torch.zeros_like, "dist_token"),
        },
    ),
    # Fewer patches down than the model's own, and more across.
    "vit_dynamic": Case(
        VisionTransformer,
        {"dynamic_img_size": True},
        {"dynamic_img_size": True},
        {
            "positions": changed(torch.zeros_like, "pos_embed"),
            "the position of each patch": Wrong(
                parameters=lambda p: p | {"pos_embed": p["pos_embed"][:, [0, *range(p["pos_embed"].shape[1] - 1, 0, -1)]]}
            ),
        },
        image_size=(16, 12),
        input_size=(8, 20),
    ),
}


def param_groups() -> bytes:
    """The learning rate's scale and the weight decay of each parameter, as timm's optimizer has them."""
    weight_decay, layer_decay = 0.05, 0.75
    models = {}
    for name, case in ({"vit": Case(VisionTransformer, {}, {}, {})} | CASES).items():
        case = dataclasses.replace(case, depth=3)
        model = case.make()
        options = dict(opt="adamw", lr=1.0, weight_decay=weight_decay, filter_bias_and_bn=True)
        groups = create_optimizer_v2(model, layer_decay=layer_decay, **options).param_groups
        scales = {parameter: group["lr_scale"] for group in groups for parameter in group["params"]}
        decays = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
        # The weight decay is the same without layer decay.
        for group in create_optimizer_v2(model, **options).param_groups:
            assert all(decays[parameter] == group["weight_decay"] for parameter in group["params"])
        parameters = [
            {"name": our_name(name), "lr_scale": scales[parameter], "weight_decay": decays[parameter]}
            for name, parameter in model.named_parameters()
        ]
        lines = ",\n".join(json.dumps(parameter) for parameter in parameters)
        models[name] = f'{{"model": {json.dumps(case.config(), sort_keys=True)},\n"parameters": [\n{lines}]}}'
    head = {"versions": VERSIONS, "layer_decay": layer_decay, "weight_decay": weight_decay}
    body = ",\n".join(f'"{name}": {text}' for name, text in models.items())
    return f'{json.dumps(head)[:-1]},\n"models": {{\n{body}\n}}}}\n'.encode()


FILES = {
    f"{name}.safetensors": functools.partial(case_file, name, case, seed)
    for seed, (name, case) in enumerate(CASES.items(), 100)
} | {"param_groups.json": param_groups}

if __name__ == "__main__":
    sys.exit(main(FILES))
