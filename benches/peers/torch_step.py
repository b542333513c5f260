#!/usr/bin/env python3
"""The training step in PyTorch, to time `vitrine bench train-step` against.

One step: forward, cross-entropy, backward, plain SGD, on a random batch. `--model d2l` (the default) is the d2l recipe:
images 1x96x96, patch 16, width 512, MLP 2048, 8 heads, 2 blocks, 10 classes, all dropouts 0.1; `--model vit_s16` is
ViT-S/16 at 224x224. `--forward` times the forward pass alone, without dropout and gradients. Attention is PyTorch's
fused one. `--compile` is `torch.compile`, in a forward pass with the weights as constants ("freezing"), which is faster.
Prints one JSON line with the keys of `vitrine bench`; `peak_rss_mb` is the whole process's, in MiB, with PyTorch's
libraries.

    pip install torch==2.15.0
    python benches/peers/torch_step.py --threads 2 --steps 20 --precision f32
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timing import LEARNING_RATE, MODELS, Sizes, arguments, not_available, report


class Block(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        width, mlp_width, dropout = sizes.width, sizes.mlp_width, sizes.dropout
        self.heads, self.dropout = sizes.heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=sizes.attention_bias)
        self.proj = nn.Linear(width, width, bias=sizes.attention_bias)
        self.mlp = nn.Sequential(
            *(nn.Linear(width, mlp_width), nn.GELU(), nn.Dropout(dropout)),
            *(nn.Linear(mlp_width, width), nn.Dropout(dropout)),
        )

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.proj(x.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        width = sizes.width
        self.patch_embed = nn.Conv2d(sizes.channels, width, sizes.patch, stride=sizes.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, sizes.patches + 1, width))
        self.dropout = nn.Dropout(sizes.dropout)
        self.blocks = nn.Sequential(*(Block(sizes) for _ in range(sizes.blocks)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sizes.classes))
        parameters = sum(p.numel() for p in self.parameters())
        assert parameters == sizes.parameters, parameters

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.blocks(self.dropout(x + self.pos_embed))
        return self.head(x[:, 0])


def main() -> None:
    compiled = ("--compile", "torch.compile in place of eager mode (needs a C++ compiler)")
    cuda = ("--cuda", "on the first GPU in place of the CPU: the batch comes from pinned memory in each step")
    given = arguments("Times a training step in PyTorch; bf16 is autocast.", compiled, cuda)
    if given.cuda and not torch.cuda.is_available():
        not_available("this PyTorch sees no CUDA device")
    device = torch.device("cuda" if given.cuda else "cpu")
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    sizes = MODELS[given.model]
    model = Vit(sizes).to(device).train(not given.forward)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    images = torch.rand(given.batch_size, sizes.channels, sizes.image, sizes.image)
    labels = torch.randint(sizes.classes, (given.batch_size,))
    if given.cuda:
        images, labels = images.pin_memory(), labels.pin_memory()
    run = model
    if given.compile:
        from torch._inductor import config

        config.freezing = given.forward
        run = torch.compile(model)

    def autocast():
        bf16 = given.precision == "bf16"
        return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def wait() -> None:
        if given.cuda:
            torch.cuda.synchronize()

    def train_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            logits = run(images.to(device, non_blocking=True))
        F.cross_entropy(logits.float(), labels.to(device, non_blocking=True)).backward()
        optimizer.step()
        wait()

    @torch.inference_mode()
    def forward() -> None:
        with autocast():
            run(images.to(device, non_blocking=True))
        wait()

    program = f"torch {torch.__version__}" + (" compiled" if given.compile else "")
    report(given, program, torch.get_num_threads(), forward if given.forward else train_step)


if __name__ == "__main__":
    main()
