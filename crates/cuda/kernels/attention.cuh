// What the kernels of attention share: the tensors and sizes that they take, which head a block works on, and
// dropout.
//
// All follow Dao et al. 2022 (FlashAttention, algorithms 1 and 4): scores exist a tile at a time, softmax is
// corrected as larger scores come, and the gradient computes the weights again from the logarithms of their sums.
#pragma once

#include "element.cuh"
#include "random.cuh"

// A tensor [B, N, D] with any distance between images and between tokens; mirrors `Rows` in src/ops/attention.rs.
template <class T>
struct Rows {
    T* start;
    uint64_t image_stride;
    uint64_t token_stride;
};

// Mirrors `AttentionArgument` in src/ops/attention.rs.
struct Attention {
    const int64_t* valid_lens;  // [B]: keys from there on get no weight; null: all count
    // What the general kernels alone know: [groups, H, Q, K] of the inputs' type, added to the scores, and
    // [B, H, Q, K], where the gradients of the scores go; null: none.
    const void* bias;
    float* score_grads;
    uint64_t groups;
    uint32_t queries;
    uint32_t keys;
    uint32_t heads;
    uint32_t width;    // of a head
    float scale;       // of the scores: 1/√width
    uint32_t vectors;  // whether rows may be read four elements at a time
    Dropout dropout;   // the factors of kept weights; how samples lie is not asked for
};

// The head of an image that a block works on, and which of the head's blocks it is.
struct Head {
    uint64_t image;
    uint64_t number;  // in the image
    uint32_t block;

    __device__ Head(const Attention& attention, uint32_t blocks) {
        block = blockIdx.x % blocks;
        number = blockIdx.x / blocks % attention.heads;
        image = blockIdx.x / blocks / attention.heads;
    }

    // Where its columns of the first token begin.
    template <class T>
    __device__ T* of(const Rows<T>& rows, const Attention& attention) const {
        return rows.start + image * rows.image_stride + number * attention.width;
    }

    // Where its numbers in a tensor [B, H, Q] begin.
    template <class T>
    __device__ T* of(T* per_query, const Attention& attention) const {
        return per_query + (image * attention.heads + number) * attention.queries;
    }

    // The keys that count.
    __device__ uint32_t valid_keys(const Attention& attention) const {
        if (attention.valid_lens == nullptr) return attention.keys;
        int64_t length = attention.valid_lens[image];
        return length <= 0 ? 0 : length < attention.keys ? uint32_t(length) : attention.keys;
    }

    // The index of a weight's random number (`vitrine_tensor::Attention::dropout`).
    __device__ uint64_t weight_index(const Attention& attention, uint32_t query, uint32_t key) const {
        uint32_t rows = attention.queries > attention.keys ? attention.queries : attention.keys;
        return ((image * attention.heads + number) * rows + query) * attention.keys + key;
    }
};

// Which of the elements of a counter dropout keeps, one bit each.
__device__ inline uint32_t kept_of_counter(uint64_t counter, const Dropout& mask) {
    uint4 words = philox(counter, mask);
    return uint32_t(words.x >= mask.threshold) | uint32_t(words.y >= mask.threshold) << 1 |
           uint32_t(words.z >= mask.threshold) << 2 | uint32_t(words.w >= mask.threshold) << 3;
}

// Which of the elements index + {0, 16, 32, 48} dropout keeps, one bit each. They belong to one counter where
// index/16 is a multiple of four, else to two that lie 16 apart.
__device__ inline uint32_t kept_elements(uint64_t index, const Dropout& mask) {
    if (mask.threshold == 0) return 15;
    uint64_t counter = index / 64 * 16 + index % 16;
    uint32_t word = uint32_t(index / 16 % 4);
    uint32_t kept = kept_of_counter(counter, mask) >> word;
    if (word != 0) kept |= kept_of_counter(counter + 16, mask) << (4 - word);
    return kept & 15;
}

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

// 2^x, to 2 units in the last place; 0 in place of a denormal number.
__device__ inline float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
