// The entry points of the products of one element type: three layouts, and tiles of 128 x 128 and of 64 x 64 elements.
// The file that includes this has the template `multiply_tile`, which computes one tile.
//
// The grid is (tiles, parts of k, batch); with `partials`, each part leaves its sums there for `product_parts`.
#pragma once

#include "epilogue.cuh"
#include "product.cuh"

#define DEFINE_PRODUCT(NAME, T, BLOCKS, ...)                                                                         \
    extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, BLOCKS)                                            \
        NAME(const T* a, const T* b, const T* bias, const T* residual, T* derivative, T* y, float* partials,         \
             Product product, Ending ending, Dropout dropout) {                                                      \
        uint64_t size = uint64_t(product.m) * product.n;                                                             \
        a += blockIdx.z * product.a_batch;                                                                           \
        b += blockIdx.z * product.b_batch;                                                                           \
        y += blockIdx.z * size;                                                                                      \
        if (partials) partials += blockIdx.y * size;                                                                 \
        Output<T> out = {bias, residual, derivative, y, partials, ending, dropout, product.m, product.n};            \
        multiply_tile<T, __VA_ARGS__>(a, b, product, out);                                                           \
    }

// At least 2 or 4 blocks share a multiprocessor. The numbers are the rows and columns of a tile, and the rows of a warp.
#define DEFINE_PRODUCTS(T, NAME)                                                                                     \
    DEFINE_PRODUCT(product_nt_128_##NAME, T, 2, 128, 128, 64, true, true)                                            \
    DEFINE_PRODUCT(product_nn_128_##NAME, T, 2, 128, 128, 64, true, false)                                           \
    DEFINE_PRODUCT(product_tn_128_##NAME, T, 2, 128, 128, 64, false, false)                                          \
    DEFINE_PRODUCT(product_nt_64_##NAME, T, 4, 64, 64, 16, true, true)                                               \
    DEFINE_PRODUCT(product_nn_64_##NAME, T, 4, 64, 64, 16, true, false)                                              \
    DEFINE_PRODUCT(product_tn_64_##NAME, T, 4, 64, 64, 16, false, false)
