// Prefix tokens and positions, added and as rotations.
#include "element.cuh"
#include "random.cuh"

// y [B, N, D] = (prefix ++ patches + positions) · mask; `first` is the number of elements of the prefix, P·D, and
// `sample` those of all tokens, N·D.
template <class T>
__device__ void embed_tokens(const T* patches, const T* prefix, const T* positions, const Dropout& mask, T* y,
                             uint32_t first, uint32_t sample, uint64_t elements) {
    for_each_with_factor(elements, mask, [&](uint64_t i, float factor) {
        uint64_t image = i / sample;
        uint32_t at = uint32_t(i - image * sample);
        float token = at < first ? to_float(prefix[at]) : to_float(patches[image * (sample - first) + at - first]);
        y[i] = from_float<T>(dropped(token + to_float(positions[at]), factor));
    });
}

// y = x [B, N, W], with the first heads of each token turned but for the first `still` tokens: cos and sin [M, half],
// `pairs` is W/2. A warp works on a token, a thread on a pair of columns, which are `half` apart also where none turns.
template <class T>
__device__ void rotate(const T* x, const float* cos, const float* sin, float sign, T* y, uint64_t rows, uint32_t tokens,
                       uint32_t still, uint32_t pairs, uint32_t half, uint32_t heads) {
    uint64_t row = thread_number() / 32;
    if (row >= rows) return;
    uint32_t token = uint32_t(row % tokens);
    uint32_t turning = token < still ? 0 : heads * half;
    uint64_t angles = uint64_t(token - still) * half;
    x += row * pairs * 2;
    y += row * pairs * 2;
    for (uint32_t pair = threadIdx.x % 32; pair < pairs; pair += 32) {
        uint32_t head = pair / half;
        uint32_t at = pair - head * half;
        uint32_t first = pair + head * half;
        T a = x[first];
        T b = x[first + half];
        if (pair < turning) {
            float c = cos[angles + at];
            float s = sin[angles + at] * sign;
            T turned = from_float<T>(to_float(a) * c - to_float(b) * s);
            b = from_float<T>(to_float(b) * c + to_float(a) * s);
            a = turned;
        }
        y[first] = a;
        y[first + half] = b;
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void embed_tokens_##NAME(const T* patches, const T* prefix, const T* positions,            \
                                                   Dropout mask, T* y, uint32_t first, uint32_t sample,              \
                                                   uint64_t elements) {                                              \
        embed_tokens(patches, prefix, positions, mask, y, first, sample, elements);                                  \
    }                                                                                                                \
    extern "C" __global__ void rotate_##NAME(const T* x, const float* cos, const float* sin, float sign, T* y,       \
                                             uint64_t rows, uint32_t tokens, uint32_t still, uint32_t pairs,         \
                                             uint32_t half, uint32_t heads) {                                        \
        rotate(x, cos, sin, sign, y, rows, tokens, still, pairs, half, heads);                                       \
    }
FOR_FLOAT_TYPES(DEFINE)
