// Windows that slide over images.
#pragma once

#include <cstdint>

// How windows cut images. Mirrors `Cut` in src/ops/convolution.rs.
struct Cut {
    uint32_t channels, height, width;
    uint32_t kernel[2], stride[2], padding[2];
    uint32_t rows, columns;  // of windows
};

// Calls each(row, column, inner_y, inner_x) for the windows that have a pixel, row by row, with its place in each.
template <class Each>
__device__ void for_each_window_at(uint32_t y, uint32_t x, const Cut& cut, Each each) {
    y += cut.padding[0];
    x += cut.padding[1];
    uint32_t above = y < cut.kernel[0] ? 0 : (y - cut.kernel[0]) / cut.stride[0] + 1;
    uint32_t left = x < cut.kernel[1] ? 0 : (x - cut.kernel[1]) / cut.stride[1] + 1;
    for (uint32_t row = above; row < cut.rows && row * cut.stride[0] <= y; row++) {
        for (uint32_t column = left; column < cut.columns && column * cut.stride[1] <= x; column++) {
            each(row, column, y - row * cut.stride[0], x - column * cut.stride[1]);
        }
    }
}
