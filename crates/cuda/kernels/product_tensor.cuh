// Products on tensor cores (mma.sync), for bf16, and for f32 rounded to tf32 on the way; sums are kept in float.
//
// A block of four warps computes ROWS x COLUMNS elements. The operands pass through shared memory in tiles that are 64
// bytes of k deep, in a ring of three: while one is multiplied, the next two are on their way (cp.async). With 128 x 128
// that is 48 KiB, which fits twice into the multiprocessors of all cards since compute capability 8.0.
//
// The floor: 2·m·n·k operations at the tensor cores' rate, and (m·k + k·n + m·n) elements at the memory's. From L2 or
// memory, a block reads (ROWS + COLUMNS)·k elements for ROWS·COLUMNS·k products: with 128 x 128 in bf16, 128 operations
// a byte. From shared memory, a warp reads (64 + 64)·k elements for 64·64·k products.
#pragma once

#include "epilogue.cuh"
#include "product.cuh"
#include "tensor_core.cuh"

constexpr int STAGES = 3;
constexpr int DEPTH_BYTES = 64;

// What differs between the element types. `sum += a·b` for 16 x 8 elements and 32 bytes of k.
template <class T>
struct TensorCore;

template <>
struct TensorCore<bf16> {
    // Swizzle of the rows of a tile whose inner axis is m or n: eight rows of k are read at once.
    static __device__ uint32_t swizzle(uint32_t row) { return row % 8; }
    static __device__ void round(uint32_t (&)[4]) {}
    static __device__ void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        add_product(sum, a, b0, b1);
    }
};

template <>
struct TensorCore<float> {
    // Four rows of k are read at once, eight neighbours in each.
    static __device__ uint32_t swizzle(uint32_t row) { return row % 4 * 2; }
    // To nearest; what the instruction does with the bits that tf32 does not have is not specified.
    static __device__ void round(uint32_t (&values)[4]) {
#pragma unroll
        for (uint32_t& value : values) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(value) : "f"(__uint_as_float(value)));
    }
    static __device__ void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

// One operand: its way into shared memory, and from there into registers. Its other axis than k (m of A, n of B) has
// EXTENT elements in a tile. In shared memory a tile has the rows of the operand; the 16-byte pieces of a row lie in an
// order that differs from row to row, so that neither filling nor reading asks a bank twice.
template <class T, int EXTENT, bool ALONG_K>
struct Operand {
    static constexpr int PIECE = 16 / sizeof(T);
    static constexpr int DEPTH = DEPTH_BYTES / sizeof(T);
    static constexpr int ROW_PIECES = ALONG_K ? DEPTH / PIECE : EXTENT / PIECE;
    static constexpr int ROW_BYTES = 16 * ROW_PIECES;
    static constexpr int BYTES = EXTENT * DEPTH_BYTES;
    static constexpr int EACH = BYTES / 16 / PRODUCT_THREADS;
    static constexpr int ROWS_APART = PRODUCT_THREADS / ROW_PIECES;

    const T* at;      // this thread's first piece of the next tile
    uint64_t apart;   // elements from one of its pieces to the next
    uint32_t left;    // of the axis that is not k, from that piece on
    uint32_t target;  // where the piece goes in a stage; the others lie ROWS_APART rows further each
    bool whole;       // the tile ends before the operand, on the axis that is not k
    bool aligned;

    // The operand of which the tiles begin at `origin` on the axis that is not k, which is `extent` long, and at `k`.
    __device__ Operand(const T* from, uint32_t stride, uint32_t origin, uint32_t extent, uint32_t k, bool aligned)
        : apart(uint64_t(stride) * ROWS_APART), whole(origin + EXTENT <= extent), aligned(aligned) {
        uint32_t row = threadIdx.x / ROW_PIECES, piece = threadIdx.x % ROW_PIECES;
        uint32_t outer = (ALONG_K ? origin : k) + row, inner = (ALONG_K ? k : origin) + piece * PIECE;
        at = from + uint64_t(outer) * stride + inner;
        uint32_t place = ALONG_K ? outer : inner;
        left = place < extent ? extent - place : 0;
        target = row * ROW_BYTES + (piece ^ swizzle(row)) * 16;
    }

    // Where a piece lies in a row. It is the same for all pieces of a thread.
    static __device__ uint32_t swizzle(uint32_t row) {
        if constexpr (ALONG_K) return row / 2 % 4;
        return TensorCore<T>::swizzle(row);
    }

    // Fills a stage with the next tile, which has `depth` left along k. What lies outside of the operand becomes zero.
    __device__ void fill(uint8_t* stage, uint32_t depth) {
        const T* from = at;
        uint8_t* to = stage + target;
        at += ALONG_K ? uint64_t(DEPTH) : apart * (DEPTH / ROWS_APART);
        if (aligned && whole && depth >= DEPTH) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                copy_async(shared_address(to + i * ROWS_APART * ROW_BYTES), from + i * apart);
            }
            return;
        }
        uint32_t k = ALONG_K ? threadIdx.x % ROW_PIECES * PIECE : threadIdx.x / ROW_PIECES;
        uint32_t k_left = depth > k ? depth - k : 0;
        uint32_t rows = ALONG_K ? left : k_left, columns = ALONG_K ? k_left : left;
#pragma unroll 1
        for (uint32_t i = 0; i < EACH; i++, from += apart, to += ROWS_APART * ROW_BYTES) {
            uint32_t count = i * ROWS_APART < rows ? columns : 0;
            if (aligned && count > 0) {
                copy_async(shared_address(to), from);
                continue;
            }
            alignas(16) T values[PIECE];
#pragma unroll
            for (uint32_t j = 0; j < PIECE; j++) values[j] = j < count ? from[j] : from_float<T>(0.0f);
            *reinterpret_cast<uint4*>(to) = *reinterpret_cast<uint4*>(values);
        }
    }
};

// A: 16 rows (from `first` in the tile) and 32 bytes of k (the half `half` of the tile).
template <class T, int EXTENT, bool ALONG_K>
__device__ inline void load_left(uint32_t (&to)[4], const uint8_t* stage, uint32_t first, uint32_t half) {
    using Tile = Operand<T, EXTENT, ALONG_K>;
    uint32_t lane = threadIdx.x % 32;
    if constexpr (ALONG_K) {
        uint32_t row = first + lane % 16, piece = half * 2 + lane / 16;
        load_matrices(to, shared_address(stage + row * Tile::ROW_BYTES + (piece ^ Tile::swizzle(row)) * 16));
    } else if constexpr (sizeof(T) == 2) {
        uint32_t row = half * 16 + lane / 16 * 8 + lane % 8, piece = first / 8 + lane / 8 % 2;
        load_matrices_transposed(
            to, shared_address(stage + row * Tile::ROW_BYTES + (piece ^ Tile::swizzle(row)) * 16));
    } else {
#pragma unroll
        for (uint32_t part = 0; part < 4; part++) {
            uint32_t row = half * 8 + part / 2 * 4 + lane % 4, column = first + part % 2 * 8 + lane / 4;
            uint32_t word = column ^ (Tile::swizzle(row) * 4);
            to[part] = *reinterpret_cast<const uint32_t*>(stage + row * Tile::ROW_BYTES + word * 4);
        }
    }
    TensorCore<T>::round(to);
}

// B: two times 8 columns (from `first` in the tile) and 32 bytes of k.
template <class T, int EXTENT, bool ALONG_K>
__device__ inline void load_right(uint32_t (&to)[4], const uint8_t* stage, uint32_t first, uint32_t half) {
    using Tile = Operand<T, EXTENT, ALONG_K>;
    uint32_t lane = threadIdx.x % 32;
    if constexpr (ALONG_K) {
        uint32_t row = first + lane / 16 * 8 + lane % 8, piece = half * 2 + lane / 8 % 2;
        load_matrices(to, shared_address(stage + row * Tile::ROW_BYTES + (piece ^ Tile::swizzle(row)) * 16));
    } else if constexpr (sizeof(T) == 2) {
        uint32_t row = half * 16 + lane % 16, piece = first / 8 + lane / 16;
        load_matrices_transposed(
            to, shared_address(stage + row * Tile::ROW_BYTES + (piece ^ Tile::swizzle(row)) * 16));
    } else {
#pragma unroll
        for (uint32_t part = 0; part < 4; part++) {
            uint32_t row = half * 8 + part % 2 * 4 + lane % 4, column = first + part / 2 * 8 + lane / 4;
            uint32_t word = column ^ (Tile::swizzle(row) * 4);
            to[part] = *reinterpret_cast<const uint32_t*>(stage + row * Tile::ROW_BYTES + word * 4);
        }
    }
    TensorCore<T>::round(to);
}

// The product of one block. A warp has WARP_ROWS x 64 elements.
template <class T, int ROWS, int COLUMNS, int WARP_ROWS, bool A_ALONG_K, bool B_ALONG_K>
__device__ void multiply_tile(const T* a, const T* b, const Product& product, Output<T> out) {
    using Left = Operand<T, ROWS, A_ALONG_K>;
    using Right = Operand<T, COLUMNS, B_ALONG_K>;
    static_assert((ROWS / WARP_ROWS) * (COLUMNS / SLICE_COLUMNS) == WARPS);
    constexpr int STAGE = Left::BYTES + Right::BYTES;
    constexpr int SLICES = WARP_ROWS / SLICE_ROWS;
    constexpr int PAIRS = SLICE_COLUMNS / 16;
    static_assert(WARPS * SLICE_FLOATS * sizeof(float) <= STAGES * STAGE);
    __shared__ __align__(128) uint8_t shared[STAGES * STAGE];

    uint2 place = place_of_tile<ROWS, COLUMNS>(product);
    uint32_t k = first_k(product), depth = end_of_k(product) - k;
    Left left(a, product.a_stride, place.x, product.m, k, product.a_aligned != 0);
    Right right(b, product.b_stride, place.y, product.n, k, product.b_aligned != 0);

    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t warp_row = warp % (ROWS / WARP_ROWS) * WARP_ROWS;
    uint32_t warp_column = warp / (ROWS / WARP_ROWS) * SLICE_COLUMNS;
    float sums[SLICES][2 * PAIRS][4] = {};

    // Copies are counted in groups, one a tile: where there is no tile left, the group is empty.
    uint32_t filled = 0, read = 0;  // stages
    auto fill = [&] {
        if (depth > 0) {
            uint8_t* stage = shared + filled * STAGE;
            left.fill(stage, depth);
            right.fill(stage + Left::BYTES, depth);
            depth = depth > Left::DEPTH ? depth - Left::DEPTH : 0;
            filled = filled + 1 == STAGES ? 0 : filled + 1;
        }
        commit_copies();
    };
    uint32_t tiles = (depth + Left::DEPTH - 1) / Left::DEPTH;
    for (int i = 0; i < STAGES - 1; i++) fill();
    for (uint32_t tile = 0; tile < tiles; tile++) {
        wait_for_copies<STAGES - 2>();
        // After this all see the tile, and none still reads the stage that is filled next.
        __syncthreads();
        fill();
        const uint8_t* stage = shared + read * STAGE;
        read = read + 1 == STAGES ? 0 : read + 1;
#pragma unroll
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t rows[SLICES][4], columns[PAIRS][4];
#pragma unroll
            for (int i = 0; i < SLICES; i++) {
                load_left<T, ROWS, A_ALONG_K>(rows[i], stage, warp_row + i * SLICE_ROWS, half);
            }
#pragma unroll
            for (int j = 0; j < PAIRS; j++) {
                load_right<T, COLUMNS, B_ALONG_K>(columns[j], stage + Left::BYTES, warp_column + j * 16, half);
            }
#pragma unroll
            for (int i = 0; i < SLICES; i++) {
#pragma unroll
                for (int j = 0; j < PAIRS; j++) {
                    TensorCore<T>::multiply(sums[i][2 * j], rows[i], columns[j][0], columns[j][1]);
                    TensorCore<T>::multiply(sums[i][2 * j + 1], rows[i], columns[j][2], columns[j][3]);
                }
            }
        }
    }
    wait_for_copies<0>();
    __syncthreads();

    // Lane 4g + t has the columns 2t and 2t + 1 of rows g and g + 8 of each 16 x 8 elements.
    float* slice = reinterpret_cast<float*>(shared) + warp * SLICE_FLOATS;
    float2* mine = reinterpret_cast<float2*>(&slice[lane / 4 * SLICE_STRIDE + lane % 4 * 2]);
#pragma unroll 1
    for (uint32_t i = 0; i < SLICES; i++) {
        __syncwarp();
#pragma unroll
        for (uint32_t which = 0; which < SLICES; which++) {
            if (which != i) continue;  // registers have no numbers that can be computed
#pragma unroll
            for (int j = 0; j < 2 * PAIRS; j++) {
                const float(&sum)[4] = sums[which][j];
                mine[j * 4] = make_float2(sum[0], sum[1]);
                mine[j * 4 + 8 * SLICE_STRIDE / 2] = make_float2(sum[2], sum[3]);
            }
        }
        __syncwarp();
        finish_slice(slice, place.x + warp_row + i * SLICE_ROWS, place.y + warp_column, out);
    }
}
