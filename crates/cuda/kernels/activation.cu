// Activations and dropout over dense tensors, with their gradients.
#include "activation.cuh"
#include "element.cuh"
#include "random.cuh"

// y = activation(x)
template <class T>
__device__ void activate(const T* x, uint32_t activation, T* y, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        y[i] = from_float<T>(activation_at(to_float(x[i]), activation).x);
    }
}

// dx = dy · activation'(x)
template <class T>
__device__ void activate_grad(const T* x, uint32_t activation, const T* dy, T* dx, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        dx[i] = from_float<T>(to_float(dy[i]) * activation_at(to_float(x[i]), activation).y);
    }
}

// y = x · mask
template <class T>
__device__ void dropout(const T* x, const Dropout& mask, T* y, uint64_t elements) {
    for_each_with_factor(elements, mask, [&](uint64_t i, float factor) {
        y[i] = from_float<T>(dropped(to_float(x[i]), factor));
    });
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void activate_##NAME(const T* x, uint32_t activation, T* y, uint64_t elements) {           \
        activate(x, activation, y, elements);                                                                        \
    }                                                                                                                \
    extern "C" __global__ void activate_grad_##NAME(const T* x, uint32_t activation, const T* dy, T* dx,             \
                                                    uint64_t elements) {                                             \
        activate_grad(x, activation, dy, dx, elements);                                                              \
    }                                                                                                                \
    extern "C" __global__ void dropout_##NAME(const T* x, Dropout mask, T* y, uint64_t elements) {                   \
        dropout(x, mask, y, elements);                                                                               \
    }
FOR_FLOAT_TYPES(DEFINE)
