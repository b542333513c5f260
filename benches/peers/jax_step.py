#!/usr/bin/env python3
"""The training step in JAX, compiled as a whole by `jax.jit`, to time `vitrine bench train-step` against.

The same step and options as `torch_step.py`: forward, cross-entropy, gradient, plain SGD, on a random batch. The old
parameters' buffers are donated, and random bits come from the `unsafe_rbg` generator, which is a little faster
here than JAX's default. bf16: parameters in f32, products and activations in bf16; layer norm, softmax and loss in f32.

    pip install jax==0.10.2
    python benches/peers/jax_step.py --threads 2 --steps 20 --precision f32
"""

import os
from functools import partial

from timing import LEARNING_RATE, MODELS, Sizes, arguments, not_available, report


def model(sizes: Sizes, precision: str, training: bool):
    """Initial parameters, and the function from parameters, images and a random key to logits."""
    import jax
    import jax.numpy as jnp

    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    width, heads = sizes.width, sizes.heads

    def linear_parameters(key, fan_in, fan_out, bias=True):
        bound = fan_in**-0.5
        weight = jax.random.uniform(key, (fan_in, fan_out), minval=-bound, maxval=bound)
        return {"weight": weight, "bias": jnp.zeros(fan_out)} if bias else {"weight": weight}

    def norm_parameters():
        return {"weight": jnp.ones(width), "bias": jnp.zeros(width)}

    def block_parameters(key):
        qkv, proj, fc1, fc2 = jax.random.split(key, 4)
        return {
            "norm1": norm_parameters(),
            "qkv": linear_parameters(qkv, width, 3 * width, sizes.attention_bias),
            "proj": linear_parameters(proj, width, width, sizes.attention_bias),
            "norm2": norm_parameters(),
            "fc1": linear_parameters(fc1, width, sizes.mlp_width),
            "fc2": linear_parameters(fc2, sizes.mlp_width, width),
        }

    def initial_parameters(key):
        patch, positions, head, *blocks = jax.random.split(key, 3 + sizes.blocks)
        return {
            "patch": linear_parameters(patch, sizes.channels * sizes.patch**2, width),
            "cls_token": jnp.zeros((1, 1, width)),
            "pos_embed": jax.random.normal(positions, (1, sizes.patches + 1, width)),
            "blocks": [block_parameters(block) for block in blocks],
            "norm": norm_parameters(),
            "head": linear_parameters(head, width, sizes.classes),
        }

    def linear(p, x):
        x = x @ p["weight"].astype(dtype)
        return x + p["bias"].astype(dtype) if "bias" in p else x

    def norm(p, x):
        x = x.astype(jnp.float32)
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + 1e-5) * p["weight"] + p["bias"]).astype(dtype)

    def dropout(key, x):
        if not training or sizes.dropout == 0.0:
            return x
        keep = 1.0 - sizes.dropout
        return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0).astype(x.dtype)

    def attention(p, x, key):
        batch, tokens, _ = x.shape
        q, k, v = jnp.moveaxis(linear(p["qkv"], x).reshape(batch, tokens, 3, heads, -1), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // heads) ** -0.5
        weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(dtype)
        x = jnp.einsum("bhqk,bkhd->bqhd", dropout(key, weights), v)
        return linear(p["proj"], x.reshape(batch, tokens, width))

    def mlp(p, x, hidden_key, key):
        x = dropout(hidden_key, jax.nn.gelu(linear(p["fc1"], x), approximate=False))
        return dropout(key, linear(p["fc2"], x))

    def logits(parameters, images, key):
        batch, side, patch = len(images), sizes.image // sizes.patch, sizes.patch
        x = images.astype(dtype).reshape(batch, sizes.channels, side, patch, side, patch)
        x = x.transpose(0, 2, 4, 1, 3, 5).reshape(batch, sizes.patches, -1)
        x = linear(parameters["patch"], x)
        token = jnp.broadcast_to(parameters["cls_token"].astype(dtype), (batch, 1, width))
        x = jnp.concatenate([token, x], axis=1) + parameters["pos_embed"].astype(dtype)
        key, *keys = jax.random.split(key, 1 + 3 * sizes.blocks)
        x = dropout(key, x)
        for index, p in enumerate(parameters["blocks"]):
            weights_key, hidden_key, key = keys[3 * index : 3 * index + 3]
            x = x + attention(p, norm(p["norm1"], x), weights_key)
            x = x + mlp(p, norm(p["norm2"], x), hidden_key, key)
        return linear(parameters["head"], norm(parameters["norm"], x[:, 0])).astype(jnp.float32)

    return initial_parameters, logits


def main() -> None:
    given = arguments("Times a training step in JAX, compiled by jit.")
    cores = sorted(os.sched_getaffinity(0))
    if given.threads > len(cores):
        not_available(f"JAX takes one thread a core, and there are {len(cores)} cores, not {given.threads}")
    # XLA has no switch for its number of threads: it takes one for each core that it may run on.
    os.sched_setaffinity(0, cores[: given.threads])

    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    sizes = MODELS[given.model]
    initial_parameters, logits = model(sizes, given.precision, not given.forward)
    key = jax.random.key(0)
    state = {"parameters": jax.jit(initial_parameters)(key), "steps": 0}
    count = sum(leaf.size for leaf in jax.tree.leaves(state["parameters"]))
    assert count == sizes.parameters, count
    shape = (given.batch_size, sizes.channels, sizes.image, sizes.image)
    images = jax.random.uniform(key, shape)
    labels = jax.random.randint(key, given.batch_size, 0, sizes.classes)

    def loss(parameters, key):
        log_probabilities = jax.nn.log_softmax(logits(parameters, images, key))
        return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()

    @partial(jax.jit, donate_argnums=0)
    def updated(parameters, step):
        value, gradients = jax.value_and_grad(loss)(parameters, jax.random.fold_in(key, step))
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, gradients), value

    classified = jax.jit(lambda parameters, images: logits(parameters, images, key))

    def train_step() -> None:
        state["parameters"], value = updated(state["parameters"], state["steps"])
        state["steps"] += 1
        jax.block_until_ready((state["parameters"], value))

    def forward() -> None:
        jax.block_until_ready(classified(state["parameters"], images))

    program = f"jax {jax.__version__}"
    report(given, program, given.threads, forward if given.forward else train_step)


if __name__ == "__main__":
    main()
