// Layer norm over the last axis, with its gradients (Ba, Kiros and Hinton 2016, equation 4). A warp works on a row.
#include "element.cuh"
#include "reduce.cuh"

__device__ inline uint64_t row_of_warp() { return (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32; }

// y = (x − mean)·root·scale + shift, with root = 1/√(variance + ε); statistics [rows, 2] are mean and root.
template <class T>
__device__ void layer_norm(const T* x, const T* scale, const T* shift, float epsilon, T* y, float* statistics,
                           uint64_t rows, uint32_t width) {
    uint64_t row = row_of_warp();
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    uint32_t lane = threadIdx.x % 32;
    float sum = 0.0f;
    for (uint32_t i = lane; i < width; i += 32) sum += to_float(x[i]);
    float mean = warp_sum(sum) / float(width);
    float squares = 0.0f;
    for (uint32_t i = lane; i < width; i += 32) {
        float distance = to_float(x[i]) - mean;
        squares += distance * distance;
    }
    float root = 1.0f / sqrtf(warp_sum(squares) / float(width) + epsilon);
    for (uint32_t i = lane; i < width; i += 32) {
        y[i] = from_float<T>((to_float(x[i]) - mean) * root * to_float(scale[i]) + to_float(shift[i]));
    }
    if (lane == 0) {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = root;
    }
}

// With n = (x − mean)·root and g = dy·scale: dx = root·(g − mean(g) − n·mean(g·n)).
template <class T>
__device__ void layer_norm_grad(const T* x, const T* scale, const float* statistics, const T* dy, T* dx,
                                uint64_t rows, uint32_t width) {
    uint64_t row = row_of_warp();
    if (row >= rows) return;
    x += row * width;
    dy += row * width;
    dx += row * width;
    uint32_t lane = threadIdx.x % 32;
    float mean = statistics[2 * row], root = statistics[2 * row + 1];
    float g_sum = 0.0f, gn_sum = 0.0f;
    for (uint32_t i = lane; i < width; i += 32) {
        float g = to_float(dy[i]) * to_float(scale[i]);
        g_sum += g;
        gn_sum += g * ((to_float(x[i]) - mean) * root);
    }
    float g_mean = warp_sum(g_sum) / float(width), gn_mean = warp_sum(gn_sum) / float(width);
    for (uint32_t i = lane; i < width; i += 32) {
        float g = to_float(dy[i]) * to_float(scale[i]), n = (to_float(x[i]) - mean) * root;
        dx[i] = from_float<T>(root * (g - g_mean - n * gn_mean));
    }
}

constexpr int COLUMNS = 32;  // columns of a block, one a lane
constexpr int LANES = 8;     // rows that a block adds side by side, one a warp

// The sums dscale = Σ dy·n and dshift = Σ dy over blocks of rows: partial [blocks of rows, 2, width].
template <class T>
__device__ void layer_norm_grad_parameters(const T* x, const float* statistics, const T* dy, float* to,
                                           uint64_t rows, uint32_t width, uint32_t block_rows) {
    __shared__ float partial[2][LANES][COLUMNS];
    uint32_t lane = threadIdx.x % COLUMNS, warp = threadIdx.x / COLUMNS;
    uint32_t blocks = (width + COLUMNS - 1) / COLUMNS;
    uint64_t block = blockIdx.x / blocks, first = block * block_rows;
    uint64_t end = first + block_rows < rows ? first + block_rows : rows;
    uint32_t column = blockIdx.x % blocks * COLUMNS + lane;
    float dscale = 0.0f, dshift = 0.0f;
    if (column < width) {
        for (uint64_t row = first + warp; row < end; row += LANES) {
            float d = to_float(dy[row * width + column]);
            float n = (to_float(x[row * width + column]) - statistics[2 * row]) * statistics[2 * row + 1];
            dscale += d * n;
            dshift += d;
        }
    }
    partial[0][warp][lane] = dscale;
    partial[1][warp][lane] = dshift;
    __syncthreads();
    if (warp < 2 && column < width) {
        float total = 0.0f;
        for (int other = 0; other < LANES; other++) total += partial[warp][other][lane];
        to[(2 * block + warp) * width + column] = total;
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void layer_norm_##NAME(const T* x, const T* scale, const T* shift, float epsilon, T* y,    \
                                                 float* statistics, uint64_t rows, uint32_t width) {                 \
        layer_norm(x, scale, shift, epsilon, y, statistics, rows, width);                                            \
    }                                                                                                                \
    extern "C" __global__ void layer_norm_grad_##NAME(const T* x, const T* scale, const float* statistics,           \
                                                      const T* dy, T* dx, uint64_t rows, uint32_t width) {           \
        layer_norm_grad(x, scale, statistics, dy, dx, rows, width);                                                  \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        layer_norm_grad_parameters_##NAME(const T* x, const float* statistics, const T* dy, float* to,               \
                                          uint64_t rows, uint32_t width, uint32_t block_rows) {                      \
        layer_norm_grad_parameters(x, statistics, dy, to, rows, width, block_rows);                                  \
    }
FOR_FLOAT_TYPES(DEFINE)
