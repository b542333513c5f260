// The end of a product of which k was split: adds the partial sums in order, and does what follows the product.
//
// The floor: (parts + 1)·m·n numbers read or written, plus the residual.
#include "epilogue.cuh"

// `partials` has `parts` matrices [m, n].
template <class T>
__device__ void product_parts(const float* partials, uint32_t parts, const Output<T>& out) {
    uint64_t size = uint64_t(out.m) * out.n;
    for (uint64_t i = thread_number(); i < size; i += thread_count()) {
        float sum = 0.0f;
#pragma unroll 4
        for (uint32_t part = 0; part < parts; part++) sum += partials[part * size + i];
        uint32_t row = uint32_t(i / out.n);
        finish_element(sum, row, uint32_t(i - uint64_t(row) * out.n), out);
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void product_parts_##NAME(const float* partials, uint32_t parts, const T* bias,            \
                                                    const T* residual, T* derivative, T* y, uint32_t m,              \
                                                    uint32_t n, Ending ending, Dropout dropout) {                    \
        Output<T> out = {bias, residual, derivative, y, nullptr, ending, dropout, m, n};                             \
        product_parts(partials, parts, out);                                                                         \
    }
FOR_FLOAT_TYPES(DEFINE)
