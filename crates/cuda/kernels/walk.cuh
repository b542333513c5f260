// Walking over views: from the number of an element in row-major order to its place in up to three strided tensors.
#pragma once

#include <cstdint>

constexpr int MAX_RANK = 6;

// The host merges axes where it can, so that dense tensors have one. Mirrors `Walk` in src/arguments.rs.
struct Walk {
    uint32_t rank;  // at least 1
    uint32_t extents[MAX_RANK];
    uint32_t elements;
    uint64_t strides[3][MAX_RANK];

    // The places of element `index` in the first COUNT tensors.
    template <int COUNT>
    __device__ void places(uint32_t index, uint64_t (&place)[COUNT]) const {
#pragma unroll
        for (int tensor = 0; tensor < COUNT; tensor++) place[tensor] = 0;
        for (uint32_t axis = rank - 1; axis > 0; axis--) {
            uint32_t rest = index / extents[axis];
            uint32_t at = index - rest * extents[axis];
#pragma unroll
            for (int tensor = 0; tensor < COUNT; tensor++) place[tensor] += at * strides[tensor][axis];
            index = rest;
        }
#pragma unroll
        for (int tensor = 0; tensor < COUNT; tensor++) place[tensor] += index * strides[tensor][0];
    }
};
