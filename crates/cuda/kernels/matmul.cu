// Batched products of matrices with any strides, among them 0. Simple: what has a dense inner axis is multiplied by the
// kernels of product_*.cu.
#include "element.cuh"

// Mirrors `Strided` in src/ops/linear.rs. The strides, in elements, are those of batch, row and column.
struct Strided {
    uint32_t batch;
    uint32_t m;
    uint32_t n;
    uint32_t k;
    uint64_t a[3];
    uint64_t b[3];
};

constexpr int TILE = 32;
constexpr int DEPTH = 32;
constexpr int THREADS = 256;
constexpr int EACH = TILE * TILE / THREADS;

// A block computes 32 x 32 elements, a thread four rows of one column.
template <class T>
__device__ void matmul(const T* a, const T* b, T* c, const Strided& product) {
    __shared__ float left[TILE][DEPTH + 1];
    __shared__ float right[DEPTH][TILE + 1];
    uint32_t across = (product.n - 1) / TILE + 1;
    uint32_t first_row = blockIdx.x / across * TILE, first_column = blockIdx.x % across * TILE;
    uint32_t x = threadIdx.x % 32, y = threadIdx.x / 32;

    for (uint64_t batch = blockIdx.z; batch < product.batch; batch += gridDim.z) {
        float sums[EACH] = {};
        for (uint32_t k = 0; k < product.k; k += DEPTH) {
            __syncthreads();
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                uint32_t line = y + i * (THREADS / 32);
                uint32_t row = first_row + line, column = first_column + x;
                bool in_a = row < product.m && k + x < product.k, in_b = k + line < product.k && column < product.n;
                const T* from_a = a + batch * product.a[0] + row * product.a[1] + (k + x) * product.a[2];
                const T* from_b = b + batch * product.b[0] + (k + line) * product.b[1] + column * product.b[2];
                left[line][x] = in_a ? to_float(*from_a) : 0.0f;
                right[line][x] = in_b ? to_float(*from_b) : 0.0f;
            }
            __syncthreads();
#pragma unroll 8
            for (int inner = 0; inner < DEPTH; inner++) {
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    sums[i] = fmaf(left[y + i * (THREADS / 32)][inner], right[inner][x], sums[i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            uint32_t row = first_row + y + i * (THREADS / 32), column = first_column + x;
            if (row < product.m && column < product.n) {
                c[(batch * product.m + row) * product.n + column] = from_float<T>(sums[i]);
            }
        }
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) matmul_##NAME(const T* a, const T* b, T* c,                \
                                                                        Strided product) {                           \
        matmul(a, b, c, product);                                                                                    \
    }
FOR_FLOAT_TYPES(DEFINE)
