// Philox 4x32-10 and dropout masks, as vitrine_tensor::random defines them: a mask is a function of its address.
#pragma once

#include <cstdint>

// A dropout mask over samples that lie one after the other. With threshold 0 nothing is dropped.
struct Dropout {
    uint32_t threshold;      // a word below this drops its element
    float scale;             // factor of a kept element
    uint32_t seed_low;       // key of the generator
    uint32_t seed_high;
    uint32_t step;
    uint32_t stream;
    uint64_t sample;         // elements of one sample in the tensor
    uint64_t sample_stride;  // elements that one sample takes in the index space

    // The index of element `element` of the tensor.
    __device__ uint64_t index(uint64_t element) const {
        if (sample == sample_stride) return element;
        return element / sample * sample_stride + element % sample;
    }
};

// The four words of a counter (Salmon et al. 2011, section 4.2).
__device__ inline uint4 philox(uint64_t counter, const Dropout& key) {
    uint4 c = make_uint4(uint32_t(counter), uint32_t(counter >> 32), key.stream, key.step);
    uint32_t k0 = key.seed_low, k1 = key.seed_high;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint32_t high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
        uint32_t high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
        c = make_uint4(high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

__device__ inline float factor_of(uint32_t word, const Dropout& mask) {
    return word >= mask.threshold ? mask.scale : 0.0f;
}

// A value times its factor. A dropped one is 0, whatever it was.
__device__ inline float dropped(float value, float factor) { return factor == 0.0f ? 0.0f : value * factor; }

// The factors of the four elements that a counter serves: 64·(counter/16) + counter%16 + {0, 16, 32, 48}.
__device__ inline float4 dropout_factors(uint64_t counter, const Dropout& mask) {
    if (mask.threshold == 0) return make_float4(mask.scale, mask.scale, mask.scale, mask.scale);
    uint4 words = philox(counter, mask);
    return make_float4(factor_of(words.x, mask), factor_of(words.y, mask), factor_of(words.z, mask),
                       factor_of(words.w, mask));
}

// The factor of the element with this index.
__device__ inline float dropout_factor(uint64_t index, const Dropout& mask) {
    if (mask.threshold == 0) return mask.scale;
    uint4 words = philox(index / 64 * 16 + index % 16, mask);
    uint32_t lane = uint32_t(index % 64 / 16);
    uint32_t word = lane == 0 ? words.x : lane == 1 ? words.y : lane == 2 ? words.z : words.w;
    return factor_of(word, mask);
}

// Calls each(element, factor) for this thread's share of a tensor's elements, for a grid of a quarter as many threads
// as there are elements, rounded up to whole counters (`Launch::over_masked` on the host).
template <class Each>
__device__ inline void for_each_with_factor(uint64_t elements, const Dropout& mask, Each each) {
    uint64_t thread = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    uint64_t threads = uint64_t(gridDim.x) * blockDim.x;
    if (mask.sample != mask.sample_stride) {
        for (uint64_t i = thread; i < elements; i += threads) each(i, dropout_factor(mask.index(i), mask));
        return;
    }
    uint64_t counters = (elements + 63) / 64 * 16;
    for (uint64_t counter = thread; counter < counters; counter += threads) {
        float4 factors = dropout_factors(counter, mask);
        uint64_t first = counter / 16 * 64 + counter % 16;
        if (first < elements) each(first, factors.x);
        if (first + 16 < elements) each(first + 16, factors.y);
        if (first + 32 < elements) each(first + 32, factors.z);
        if (first + 48 < elements) each(first + 48, factors.w);
    }
}
