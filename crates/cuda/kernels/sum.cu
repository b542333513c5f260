// Sums over an axis, and the sums over rows that gradients of biases are. Each has a fixed order.
#include "element.cuh"
#include "reduce.cuh"

constexpr int COLUMNS = 32;  // columns of a block, one a lane
constexpr int LANES = 8;     // rows that a block adds side by side, one a warp

// The sum of rows first, first + 1, … below `end` of column `column`, in the threads of the first warp.
template <class T>
__device__ float column_sum(const T* from, uint64_t row_stride, uint64_t first, uint64_t end, uint64_t column,
                            bool inside, float (&partial)[LANES][COLUMNS]) {
    int lane = threadIdx.x % COLUMNS, warp = threadIdx.x / COLUMNS;
    float sum = 0.0f;
    if (inside) {
        for (uint64_t row = first + warp; row < end; row += LANES) sum += to_float(from[row * row_stride + column]);
    }
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp == 0) {
        for (int other = 1; other < LANES; other++) sum += partial[other][lane];
    }
    return sum;
}

// from [outer, reduced, inner] → to [outer, inner]; a block for 32 columns of one outer index.
template <class T, class S>
__device__ void sum(const T* from, S* to, uint64_t reduced, uint32_t inner) {
    __shared__ float partial[LANES][COLUMNS];
    uint32_t blocks = (inner + COLUMNS - 1) / COLUMNS;
    uint64_t outer = blockIdx.x / blocks;
    uint32_t column = blockIdx.x % blocks * COLUMNS + threadIdx.x % COLUMNS;
    float total =
        column_sum(from + outer * reduced * inner, inner, 0, reduced, column, column < inner, partial);
    if (threadIdx.x < COLUMNS && column < inner) to[outer * inner + column] = from_float<S>(total);
}

// from [outer, reduced] → to [outer]; a block for each outer index.
template <class T, class S>
__device__ void sum_last(const T* from, S* to, uint64_t reduced) {
    __shared__ float partial[32];
    const T* row = from + blockIdx.x * reduced;
    float total = 0.0f;
    for (uint64_t i = threadIdx.x; i < reduced; i += blockDim.x) total += to_float(row[i]);
    total = block_sum(total, partial);
    if (threadIdx.x == 0) to[blockIdx.x] = from_float<S>(total);
}

// from [rows, columns] → partial [blocks of ROWS rows, columns].
template <class T>
__device__ void column_sums(const T* from, float* to, uint64_t rows, uint32_t columns, uint32_t block_rows) {
    __shared__ float partial[LANES][COLUMNS];
    uint32_t blocks = (columns + COLUMNS - 1) / COLUMNS;
    uint64_t first = uint64_t(blockIdx.x / blocks) * block_rows;
    uint64_t end = first + block_rows < rows ? first + block_rows : rows;
    uint32_t column = blockIdx.x % blocks * COLUMNS + threadIdx.x % COLUMNS;
    float total = column_sum(from, columns, first, end, column, column < columns, partial);
    if (threadIdx.x < COLUMNS && column < columns) to[uint64_t(blockIdx.x / blocks) * columns + column] = total;
}

// to [columns] += the sum over partial [count, stride], in order.
template <class T>
__device__ void add_partial(const float* partial, uint32_t count, uint32_t stride, T* to, uint32_t columns) {
    for (uint64_t column = thread_number(); column < columns; column += thread_count()) {
        float total = 0.0f;
        for (uint32_t i = 0; i < count; i++) total += partial[uint64_t(i) * stride + column];
        to[column] = from_float<T>(to_float(to[column]) + total);
    }
}

// Sums of T that are stored as S.
#define DEFINE_SUMS(T, S, NAME)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        sum_##NAME(const T* from, S* to, uint64_t reduced, uint32_t inner) {                                         \
        sum(from, to, reduced, inner);                                                                               \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) sum_last_##NAME(const T* from, S* to, uint64_t reduced) {      \
        sum_last(from, to, reduced);                                                                                 \
    }
DEFINE_SUMS(float, float, f32)
DEFINE_SUMS(bf16, bf16, bf16)
DEFINE_SUMS(bf16, float, bf16_f32)

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        column_sums_##NAME(const T* from, float* to, uint64_t rows, uint32_t columns, uint32_t block_rows) {         \
        column_sums(from, to, rows, columns, block_rows);                                                            \
    }                                                                                                                \
    extern "C" __global__ void add_partial_##NAME(const float* partial, uint32_t count, uint32_t stride, T* to,      \
                                                  uint32_t columns) {                                                \
        add_partial(partial, count, stride, to, columns);                                                            \
    }
FOR_FLOAT_TYPES(DEFINE)
