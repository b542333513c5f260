// Activation functions and their derivatives, numbered as the host numbers them (src/arguments.rs).
#pragma once

#include <cmath>
#include <cstdint>

enum Activation : uint32_t { NONE = 0, GELU_ERF = 1, GELU_TANH = 2, RELU = 3, SILU = 4 };

// Beyond this, the tanh form is x or 0 to the last bit, and its polynomial has not overflowed yet.
constexpr float GELU_TANH_LIMIT = 50.0f;

// √(2/π)·(x + 0.044715·x³)
__device__ inline float gelu_tanh_argument(float x) {
    return 0.7978845608028654f * (x + 0.044715f * x * x * x);
}

// The value and the derivative at x. Where one is not used, it costs nothing.
__device__ inline float2 activation_at(float x, uint32_t activation) {
    switch (activation) {
        case GELU_ERF: {
            float below = 0.5f * erfcf(-0.7071067811865476f * x);
            float density = 0.3989422804014327f * expf(-0.5f * x * x);
            return make_float2(x * below, below + x * density);
        }
        case GELU_TANH: {
            // Not by fminf, which would hide a NaN.
            float inside = x > GELU_TANH_LIMIT ? GELU_TANH_LIMIT : x < -GELU_TANH_LIMIT ? -GELU_TANH_LIMIT : x;
            float t = tanhf(gelu_tanh_argument(inside));
            float slope = 0.7978845608028654f * (1.0f + 3.0f * 0.044715f * inside * inside);
            return make_float2(0.5f * x * (1.0f + t), 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * slope);
        }
        case RELU: return make_float2(x <= 0.0f ? 0.0f : x, x <= 0.0f ? 0.0f : 1.0f);
        case SILU: {
            // By e^-|x|, which does not overflow, and in which neither side cancels.
            float e = expf(-fabsf(x));
            float upper = 1.0f / (1.0f + e);
            float sigmoid = x < 0.0f ? e * upper : upper;
            return make_float2(x * sigmoid, sigmoid + x * (e * upper * upper));
        }
        default: return make_float2(x, 1.0f);
    }
}
