// What the kernels of matrix products share: the sizes, and which part of the result a block computes.
//
// C = A·B, [m, n] = [m, k]·[k, n]. Each operand lies in memory in one of two ways, whence the names of the kernels:
// `nt` is x·wᵀ (the inner axis of both is k), `nn` is dy·w, and `tn` is dyᵀ·x (the inner axes are m and n).
#pragma once

#include <cstdint>

// Every block of a product has four warps.
constexpr int WARPS = 4;
constexpr int PRODUCT_THREADS = 32 * WARPS;

// Mirrors `Product` in src/ops/linear.rs. The strides are in elements.
struct Product {
    uint32_t m;
    uint32_t n;
    uint32_t k;
    uint32_t part;        // of k that one block sums: a multiple of every kernel's depth, or k
    uint32_t a_stride;    // from one stored row of A to the next
    uint32_t b_stride;
    uint32_t a_aligned;   // whether 16 bytes of A's inner axis always lie together, at a multiple of 16 bytes
    uint32_t b_aligned;
    uint64_t a_batch;     // from one matrix of a batch to the next
    uint64_t b_batch;
};

// The part of k that this block sums.
__device__ inline uint32_t first_k(const Product& product) { return blockIdx.y * product.part; }
__device__ inline uint32_t end_of_k(const Product& product) {
    return min(product.k - first_k(product), product.part) + first_k(product);
}

// The first row and column of this block's tile. Blocks that run at the same time should share what they read, so that
// it comes from the L2 cache: tiles are numbered in bands of eight rows of tiles, and down the columns in a band.
template <int ROWS, int COLUMNS>
__device__ inline uint2 place_of_tile(const Product& product) {
    constexpr uint32_t BAND = 8;
    uint32_t down = (product.m - 1) / ROWS + 1, across = (product.n - 1) / COLUMNS + 1;
    uint32_t band = blockIdx.x / (BAND * across), in_band = blockIdx.x % (BAND * across);
    uint32_t height = min(BAND, down - band * BAND);
    return make_uint2((band * BAND + in_band % height) * ROWS, in_band / height * COLUMNS);
}
