// Element-wise arithmetic.
#include "element.cuh"
#include "walk.cuh"

// to += factor · from, dense.
template <class T>
__device__ void add_scaled(const T* from, float factor, T* to, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        to[i] = from_float<T>(to_float(to[i]) + factor * to_float(from[i]));
    }
}

enum Binary : uint32_t { ADD = 0, SUB = 1, MUL = 2, DIV = 3 };

__device__ float apply(uint32_t op, float a, float b) {
    switch (op) {
        case ADD: return a + b;
        case SUB: return a - b;
        case MUL: return a * b;
        default: return a / b;
    }
}

// to = op(a, b); the strides of a, b and to are the first, second and third.
template <class T>
__device__ void binary(uint32_t op, const T* a, const T* b, T* to, const Walk& walk) {
    for (uint64_t i = thread_number(); i < walk.elements; i += thread_count()) {
        uint64_t place[3];
        walk.places(uint32_t(i), place);
        to[place[2]] = from_float<T>(apply(op, to_float(a[place[0]]), to_float(b[place[1]])));
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void add_scaled_##NAME(const T* from, float factor, T* to, uint64_t elements) {            \
        add_scaled(from, factor, to, elements);                                                                      \
    }                                                                                                                \
    extern "C" __global__ void binary_##NAME(uint32_t op, const T* a, const T* b, T* to, Walk walk) {                \
        binary(op, a, b, to, walk);                                                                                  \
    }
FOR_FLOAT_TYPES(DEFINE)
