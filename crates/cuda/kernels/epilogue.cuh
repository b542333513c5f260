// How a product ends: bias, activation, dropout, residual, in this order, all in float, and one rounding when the result
// is stored; beside it, the derivative of activation and dropout. Or, on the way back, times that derivative.
#pragma once

#include "activation.cuh"
#include "element.cuh"
#include "random.cuh"

// What a linear layer does to each element. Mirrors `Ending` in src/ops/linear.rs.
struct Ending {
    uint32_t activation;
    uint32_t through;         // `derivative` is multiplied with, and not written
    uint32_t paired;          // elements 2i and 2i+1 of every row and of the bias can be read and written at once
    uint32_t whole_counters;  // every row begins at a multiple of 64 in the index space of the dropout mask
};

// Where the result of a product goes. Null pointers are left out.
template <class T>
struct Output {
    const T* bias;
    const T* residual;  // may be y itself, for a sum in place
    T* derivative;
    T* y;
    float* partials;  // if not null, the sums go here as they are, and `sum_partials` does the rest
    Ending ending;
    Dropout dropout;
    uint32_t m;
    uint32_t n;
};

// Ends one element of the result.
template <class T>
__device__ inline void finish_element(float value, uint32_t row, uint32_t column, const Output<T>& out) {
    uint64_t first = uint64_t(row) * out.n;
    if (out.bias) value += to_float(out.bias[column]);
    float2 at = activation_at(value, out.ending.activation);
    value = at.x;
    if (out.dropout.threshold != 0) {
        float factor = dropout_factor(out.dropout.index(first) + column, out.dropout);
        value = dropped(value, factor);
        at.y = dropped(at.y, factor);
    }
    if (out.ending.through) {
        value *= to_float(out.derivative[first + column]);
    } else if (out.derivative) {
        out.derivative[first + column] = from_float<T>(at.y);
    }
    if (out.residual) value += to_float(out.residual[first + column]);
    out.y[first + column] = from_float<T>(value);
}

// A warp ends its part of a tile in slices of 16 rows and 64 columns. They pass through shared memory, where whichever
// layout the sums had in registers becomes rows: each access to global memory is one whole row of a slice, and the four
// elements of a dropout counter, 16 columns apart, come to one thread.
constexpr uint32_t SLICE_ROWS = 16;
constexpr uint32_t SLICE_COLUMNS = 64;
// Floats from one row to the next: with this, no access to pairs below asks a bank of shared memory twice.
constexpr uint32_t SLICE_STRIDE = 72;
constexpr uint32_t SLICE_FLOATS = SLICE_ROWS * SLICE_STRIDE;

// Two neighbouring elements.
template <class T>
struct alignas(2 * sizeof(T)) Two {
    T first;
    T second;
};

template <class T>
__device__ inline Two<T> load_two(const T* from) {
    return *reinterpret_cast<const Two<T>*>(from);
}

template <class T>
__device__ inline void store_two(T* to, float2 value) {
    *reinterpret_cast<Two<T>*>(to) = {from_float<T>(value.x), from_float<T>(value.y)};
}

// Sets the derivative to 0 at those of two neighbouring elements that were dropped.
template <class T>
__device__ inline void drop_derivative(T* at, float first, float second) {
    if (first == 0.0f) at[0] = from_float<T>(0.0f);
    if (second == 0.0f) at[1] = from_float<T>(0.0f);
}

// Multiplies a slice of `rows` rows by its dropout factors. The derivative that was written for it, if there is one, is
// set to 0 where they are.
template <class T>
__device__ void drop_slice(float* slice, uint32_t first_row, uint32_t first_column, uint32_t rows,
                           const Output<T>& out) {
    const Dropout& dropout = out.dropout;
    uint32_t lane = threadIdx.x % 32, column = lane % 8 * 2;
#pragma unroll 1
    for (uint32_t turn = 0; turn < SLICE_ROWS / 4; turn++) {
        uint32_t row = lane / 8 * 2 + turn % 2 + turn / 2 * 8;
        if (row >= rows) continue;
        uint64_t first = uint64_t(first_row + row) * out.n;
        uint64_t index = dropout.index(first) + first_column + column;
        float2* at = reinterpret_cast<float2*>(&slice[row * SLICE_STRIDE + column]);
        float4 even, odd;
        if (out.ending.whole_counters) {
            uint64_t counter = index / 64 * 16 + column;
            even = dropout_factors(counter, dropout);
            odd = dropout_factors(counter + 1, dropout);
        } else {
            even = make_float4(dropout_factor(index, dropout), dropout_factor(index + 16, dropout),
                               dropout_factor(index + 32, dropout), dropout_factor(index + 48, dropout));
            odd = make_float4(dropout_factor(index + 1, dropout), dropout_factor(index + 17, dropout),
                              dropout_factor(index + 33, dropout), dropout_factor(index + 49, dropout));
        }
        at[0] = make_float2(dropped(at[0].x, even.x), dropped(at[0].y, odd.x));
        at[8] = make_float2(dropped(at[8].x, even.y), dropped(at[8].y, odd.y));
        at[16] = make_float2(dropped(at[16].x, even.z), dropped(at[16].y, odd.z));
        at[24] = make_float2(dropped(at[24].x, even.w), dropped(at[24].y, odd.w));
        if (!out.derivative) continue;
        T* derivative = out.derivative + first + first_column + column;
        uint32_t columns = out.n - first_column;
        if (column < columns) drop_derivative(derivative, even.x, odd.x);
        if (column + 16 < columns) drop_derivative(derivative + 16, even.y, odd.y);
        if (column + 32 < columns) drop_derivative(derivative + 32, even.z, odd.z);
        if (column + 48 < columns) drop_derivative(derivative + 48, even.w, odd.w);
    }
}

// Ends a slice of which elements 2i and 2i + 1 of each row can be accessed at once.
template <class T>
__device__ void finish_pairs(float* slice, uint32_t first_row, uint32_t first_column, uint32_t rows,
                             const Output<T>& out) {
    uint32_t lane = threadIdx.x % 32, column = first_column + 2 * lane;
    bool inside = column < out.n;
    uint64_t first = uint64_t(first_row) * out.n + column;
    float2* at = reinterpret_cast<float2*>(&slice[2 * lane]);
    constexpr uint32_t NEXT = SLICE_STRIDE / 2;

    // As much of it at once as 16 registers hold, long before it is needed.
    constexpr uint32_t AHEAD = 32 / sizeof(T);
    Two<T> residual[AHEAD];
    auto load_residual = [&](uint32_t from) {
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            residual[i] = {from_float<T>(0.0f), from_float<T>(0.0f)};
            if (out.residual && inside && from + i < rows) {
                residual[i] = load_two(out.residual + first + uint64_t(from + i) * out.n);
            }
        }
    };
    load_residual(0);
    float2 bias = make_float2(0.0f, 0.0f);
    if (out.bias && inside) {
        Two<T> two = load_two(out.bias + column);
        bias = make_float2(to_float(two.first), to_float(two.second));
    }
    T* derivative = out.derivative && inside ? out.derivative + first : nullptr;
    if (out.ending.through) {
#pragma unroll 2
        for (uint32_t row = 0; row < rows && derivative; row++) {
            Two<T> factors = load_two(derivative + uint64_t(row) * out.n);
            at[row * NEXT].x *= to_float(factors.first);
            at[row * NEXT].y *= to_float(factors.second);
        }
    } else {
#pragma unroll 2
        for (uint32_t row = 0; row < rows; row++) {
            float2 value = at[row * NEXT];
            float2 even = activation_at(value.x + bias.x, out.ending.activation);
            float2 odd = activation_at(value.y + bias.y, out.ending.activation);
            at[row * NEXT] = make_float2(even.x, odd.x);
            if (derivative) {
                float scale = out.dropout.scale;
                store_two(derivative + uint64_t(row) * out.n, make_float2(even.y * scale, odd.y * scale));
            }
        }
    }
    if (out.dropout.threshold != 0) {
        __syncwarp();
        drop_slice(slice, first_row, first_column, rows, out);
        __syncwarp();
    }
#pragma unroll
    for (uint32_t from = 0; from < SLICE_ROWS; from += AHEAD) {
        if (from > 0) load_residual(from);
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            float2 value = at[(from + i) * NEXT];
            value.x += to_float(residual[i].first);
            value.y += to_float(residual[i].second);
            if (inside && from + i < rows) store_two(out.y + first + uint64_t(from + i) * out.n, value);
        }
    }
}

// Ends the slice whose first element is (first_row, first_column) of the result. Called by whole warps, which have
// written the sums there and met a barrier since.
template <class T>
__device__ void finish_slice(float* slice, uint32_t first_row, uint32_t first_column, const Output<T>& out) {
    if (first_row >= out.m) return;
    uint32_t rows = min(SLICE_ROWS, out.m - first_row);
    uint32_t lane = threadIdx.x % 32;
    if (out.partials) {
        float* to = out.partials + uint64_t(first_row) * out.n;
#pragma unroll 4
        for (uint32_t row = 0; row < rows; row++, to += out.n) {
#pragma unroll
            for (uint32_t i = lane; i < SLICE_COLUMNS; i += 32) {
                if (first_column + i < out.n) to[first_column + i] = slice[row * SLICE_STRIDE + i];
            }
        }
    } else if (out.ending.paired) {
        finish_pairs(slice, first_row, first_column, rows, out);
    } else {
#pragma unroll 1
        for (uint32_t i = lane; i < rows * SLICE_COLUMNS; i += 32) {
            uint32_t row = i / SLICE_COLUMNS, column = i % SLICE_COLUMNS;
            if (first_column + column >= out.n) continue;
            finish_element(slice[row * SLICE_STRIDE + column], first_row + row, first_column + column, out);
        }
    }
}
