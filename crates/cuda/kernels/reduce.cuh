// Sums and maxima over a warp or a block. The order is fixed, so the result is the same in every run.
#pragma once

constexpr unsigned FULL_WARP = 0xffffffffu;

// The sum over a warp, in every lane.
__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, distance);
    }
    return value;
}

// The maximum over a warp, in every lane.
__device__ inline float warp_max(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, distance));
    }
    return value;
}

// The sum over a block whose size is a multiple of 32, in every thread. `partial` is shared memory for one value a
// warp; it may be used again after the next barrier.
template <class Reduce>
__device__ inline float block_reduce(float value, float* partial, float start, Reduce reduce) {
    value = reduce(value);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : start;
    value = reduce(value);
    __syncthreads();
    return value;
}

__device__ inline float block_sum(float value, float* partial) { return block_reduce(value, partial, 0.0f, warp_sum); }
__device__ inline float block_max(float value, float* partial) {
    return block_reduce(value, partial, -INFINITY, warp_max);
}
