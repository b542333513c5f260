// Element types: how values of a stored type are read and written, and how a value is split over the axes of a view.
// Arithmetic is done in float whatever the stored type is.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

using bf16 = __nv_bfloat16;

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(bf16 value) { return __bfloat162float(value); }

template <class T>
__device__ inline T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
    return value;
}
template <>
__device__ inline bf16 from_float<bf16>(float value) {
    return __float2bfloat16_rn(value);
}

// This thread's number in a grid of one axis, and the number of threads in it.
__device__ inline uint64_t thread_number() { return uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline uint64_t thread_count() { return uint64_t(gridDim.x) * blockDim.x; }

// Defines the entry points NAME_f32 and NAME_bf16 of a template kernel `NAME<T>`. PARAMETERS may use T.
#define FOR_FLOAT_TYPES(DEFINE) \
    DEFINE(float, f32)          \
    DEFINE(bf16, bf16)
