// Products of f32 in full precision, on the ordinary arithmetic units.
//
// A block of four warps computes ROWS x COLUMNS elements, a warp WARP_ROWS x 64 of them. With WARP_ROWS = 64 a thread has
// 16 x 8 sums, and takes 24 numbers from shared memory for 128 products. Two tiles of 8 along k take turns in shared
// memory: while one is multiplied, the next is on its way from global memory into registers.
//
// The floor: 2·m·n·k operations at the rate of the multiply-add units; a block with 128 x 128 elements reads 256 numbers
// for 16384 products, 32 operations a byte, which no card's L2 cache keeps waiting.
#include "epilogue.cuh"
#include "product.cuh"
#include "product_kernels.cuh"

constexpr int DEPTH = 8;

// Tiles lie in shared memory with k as the outer axis. So that filling does not ask a bank twice, groups of 16 columns
// are exchanged in the second half of a tile.
__device__ inline uint32_t swizzle(uint32_t k) { return k / 4 * 16; }

// One operand on its way into shared memory. Its other axis than k (m of A, n of B) has EXTENT elements in a tile, of
// which each thread takes EACH times four that lie side by side.
template <int EXTENT, bool ALONG_K>
struct Operand {
    static constexpr int EACH = EXTENT * DEPTH / 4 / PRODUCT_THREADS;
    static constexpr int ROW_PIECES = (ALONG_K ? DEPTH : EXTENT) / 4;
    static constexpr int ROWS_APART = PRODUCT_THREADS / ROW_PIECES;

    const float* at;  // this thread's first elements of the next tile
    uint32_t stride;
    uint32_t left;  // of the axis that is not k, from those elements on
    bool aligned;

    // The operand of which the tiles begin at `origin` on the axis that is not k, which is `extent` long, and at `k`.
    __device__ Operand(const float* from, uint32_t stride, uint32_t origin, uint32_t extent, uint32_t k, bool aligned)
        : stride(stride), aligned(aligned) {
        uint32_t row = threadIdx.x / ROW_PIECES, column = threadIdx.x % ROW_PIECES * 4;
        uint32_t outer = (ALONG_K ? origin : k) + row, inner = (ALONG_K ? k : origin) + column;
        at = from + uint64_t(outer) * stride + inner;
        uint32_t place = ALONG_K ? outer : inner;
        left = place < extent ? extent - place : 0;
    }

    // This thread's elements of the next tile, which has `depth` left along k. What lies outside is zero.
    __device__ void load(float4 (&held)[EACH], uint32_t depth) {
        uint32_t k = ALONG_K ? threadIdx.x % ROW_PIECES * 4 : threadIdx.x / ROW_PIECES;
        uint32_t k_left = depth > k ? depth - k : 0;
        uint32_t rows = ALONG_K ? left : k_left, columns = ALONG_K ? k_left : left;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const float* from = at + uint64_t(i * ROWS_APART) * stride;
            uint32_t count = i * ROWS_APART < rows ? columns : 0;
            held[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (aligned) {
                if (count > 0) held[i] = *reinterpret_cast<const float4*>(from);
            } else {
                if (count > 0) held[i].x = from[0];
                if (count > 1) held[i].y = from[1];
                if (count > 2) held[i].z = from[2];
                if (count > 3) held[i].w = from[3];
            }
        }
        at += ALONG_K ? DEPTH : uint64_t(stride) * DEPTH;
    }

    static __device__ void store(const float4 (&held)[EACH], float* tile) {
        uint32_t row = threadIdx.x / ROW_PIECES, column = threadIdx.x % ROW_PIECES * 4;
#pragma unroll
        for (int i = 0; i < EACH; i++, row += ROWS_APART) {
            if constexpr (ALONG_K) {
                float* to = tile + column * EXTENT + (row ^ swizzle(column));
                to[0] = held[i].x;
                to[EXTENT] = held[i].y;
                to[2 * EXTENT] = held[i].z;
                to[3 * EXTENT] = held[i].w;
            } else {
                *reinterpret_cast<float4*>(tile + row * EXTENT + (column ^ swizzle(row))) = held[i];
            }
        }
    }
};

// The product of one block.
template <class T, int ROWS, int COLUMNS, int WARP_ROWS, bool A_ALONG_K, bool B_ALONG_K>
__device__ void multiply_tile(const float* a, const float* b, const Product& product, const Output<float>& out) {
    static_assert((ROWS / WARP_ROWS) * (COLUMNS / SLICE_COLUMNS) == WARPS);
    constexpr int TILE = (ROWS + COLUMNS) * DEPTH;
    constexpr int SLICES = WARP_ROWS / SLICE_ROWS;
    constexpr int FOR_SLICES = WARPS * SLICE_FLOATS;
    __shared__ __align__(16) float shared[2 * TILE > FOR_SLICES ? 2 * TILE : FOR_SLICES];

    uint2 place = place_of_tile<ROWS, COLUMNS>(product);
    using Left = Operand<ROWS, A_ALONG_K>;
    using Right = Operand<COLUMNS, B_ALONG_K>;
    uint32_t k = first_k(product), depth = end_of_k(product) - k;
    Left left(a, product.a_stride, place.x, product.m, k, product.a_aligned != 0);
    Right right(b, product.b_stride, place.y, product.n, k, product.b_aligned != 0);

    // Of each 16 x 64 elements, lane 8r + c has rows 4r .. 4r + 3 and columns 4c .. 4c + 3 and 32 + 4c .. 32 + 4c + 3.
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t warp_row = warp % (ROWS / WARP_ROWS) * WARP_ROWS;
    uint32_t warp_column = warp / (ROWS / WARP_ROWS) * SLICE_COLUMNS;
    uint32_t lane_row = lane / 8 * 4, lane_column = lane % 8 * 4;
    float sums[SLICES][4][8] = {};

    uint32_t which_tile = 0;
    float4 left_held[Left::EACH], right_held[Right::EACH];
    left.load(left_held, depth);
    right.load(right_held, depth);
    while (depth > 0) {
        float* tile = shared + which_tile;
        Left::store(left_held, tile);
        Right::store(right_held, tile + ROWS * DEPTH);
        // The other tile may still be read by some, but this one is read by none: all have met the barrier since.
        __syncthreads();
        depth = depth > DEPTH ? depth - DEPTH : 0;
        left.load(left_held, depth);
        right.load(right_held, depth);
#pragma unroll
        for (uint32_t inner = 0; inner < DEPTH; inner++) {
            const float* rows = tile + inner * ROWS;
            const float* columns = tile + ROWS * DEPTH + inner * COLUMNS;
            float4 x[SLICES], y[2];
#pragma unroll
            for (uint32_t i = 0; i < SLICES; i++) {
                uint32_t place = (warp_row + lane_row) ^ (i * SLICE_ROWS ^ swizzle(inner));
                x[i] = *reinterpret_cast<const float4*>(rows + place);
            }
#pragma unroll
            for (uint32_t j = 0; j < 2; j++) {
                uint32_t place = ((warp_column + lane_column) ^ swizzle(inner)) + j * 32;
                y[j] = *reinterpret_cast<const float4*>(columns + place);
            }
#pragma unroll
            for (int i = 0; i < SLICES; i++) {
                float row_values[4] = {x[i].x, x[i].y, x[i].z, x[i].w};
#pragma unroll
                for (int row = 0; row < 4; row++) {
                    float* sum = sums[i][row];
                    float value = row_values[row];
                    sum[0] = fmaf(value, y[0].x, sum[0]);
                    sum[1] = fmaf(value, y[0].y, sum[1]);
                    sum[2] = fmaf(value, y[0].z, sum[2]);
                    sum[3] = fmaf(value, y[0].w, sum[3]);
                    sum[4] = fmaf(value, y[1].x, sum[4]);
                    sum[5] = fmaf(value, y[1].y, sum[5]);
                    sum[6] = fmaf(value, y[1].z, sum[6]);
                    sum[7] = fmaf(value, y[1].w, sum[7]);
                }
            }
        }
        which_tile ^= TILE;
    }
    __syncthreads();

    float* slice = shared + warp * SLICE_FLOATS;
    float* mine = slice + lane_row * SLICE_STRIDE + lane_column;
#pragma unroll 1
    for (uint32_t i = 0; i < SLICES; i++) {
        __syncwarp();
#pragma unroll
        for (uint32_t which = 0; which < SLICES; which++) {
            if (which != i) continue;  // registers have no numbers that can be computed
#pragma unroll
            for (int row = 0; row < 4; row++) {
                const float(&sum)[8] = sums[which][row];
                float* to = mine + row * SLICE_STRIDE;
                *reinterpret_cast<float4*>(to) = make_float4(sum[0], sum[1], sum[2], sum[3]);
                *reinterpret_cast<float4*>(to + 32) = make_float4(sum[4], sum[5], sum[6], sum[7]);
            }
        }
        __syncwarp();
        finish_slice(slice, place.x + warp_row + i * SLICE_ROWS, place.y + warp_column, out);
    }
}

DEFINE_PRODUCTS(float, f32)
