// Softmax over the last axis, with its gradient. A warp works on a row.
#include "element.cuh"
#include "reduce.cuh"

template <class T>
__device__ void softmax(const T* x, T* y, uint64_t rows, uint32_t width) {
    uint64_t row = thread_number() / 32;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    uint32_t lane = threadIdx.x % 32;
    float top = -INFINITY;
    for (uint32_t i = lane; i < width; i += 32) top = fmaxf(top, to_float(x[i]));
    top = warp_max(top);
    float sum = 0.0f;
    for (uint32_t i = lane; i < width; i += 32) sum += expf(to_float(x[i]) - top);
    float factor = 1.0f / warp_sum(sum);
    for (uint32_t i = lane; i < width; i += 32) y[i] = from_float<T>(expf(to_float(x[i]) - top) * factor);
}

// dx = y·(dy − Σ dy·y)
template <class T>
__device__ void softmax_grad(const T* y, const T* dy, T* dx, uint64_t rows, uint32_t width) {
    uint64_t row = thread_number() / 32;
    if (row >= rows) return;
    y += row * width;
    dy += row * width;
    dx += row * width;
    uint32_t lane = threadIdx.x % 32;
    float sum = 0.0f;
    for (uint32_t i = lane; i < width; i += 32) sum += to_float(dy[i]) * to_float(y[i]);
    sum = warp_sum(sum);
    for (uint32_t i = lane; i < width; i += 32) dx[i] = from_float<T>(to_float(y[i]) * (to_float(dy[i]) - sum));
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void softmax_##NAME(const T* x, T* y, uint64_t rows, uint32_t width) {                     \
        softmax(x, y, rows, width);                                                                                  \
    }                                                                                                                \
    extern "C" __global__ void softmax_grad_##NAME(const T* y, const T* dy, T* dx, uint64_t rows, uint32_t width) {  \
        softmax_grad(y, dy, dx, rows, width);                                                                        \
    }
FOR_FLOAT_TYPES(DEFINE)
