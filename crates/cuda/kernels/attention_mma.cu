// Attention and its gradients on tensor cores: bf16, heads of up to W columns whose width is a multiple of 16, rows
// that begin at multiples of 16 bytes. Sums, softmax and statistics are float; weights and their gradients are
// rounded to bf16 before they are multiplied.
//
// A block of four warps works on 64 rows of scores (queries; keys for the gradients of keys and values), which stay
// in registers as first factors, a warp having 16. It goes over the columns a tile at a time: while one is worked on,
// the next is on its way. See tensor_core.cuh for what a lane holds.
#include "attention.cuh"
#include "tensor_core.cuh"

constexpr uint32_t WARPS = 4;
constexpr uint32_t THREADS = 32 * WARPS;
constexpr uint32_t ROWS = 16 * WARPS;
// Columns of a tile of scores: with all buffers, a block stays below 48 KiB of shared memory.
template <int W>
constexpr uint32_t COLUMNS = W <= 64 ? 64 : 32;

// A row of queries, keys or values. The 16 bytes more put the rows that are read at once into different banks.
template <int W>
struct alignas(16) Row {
    bf16 at[W + 8];
};

// What a block reads of the columns of two tiles, one after the other: keys and values, or queries and the result's
// gradient. At first the space holds what it reads of its rows.
template <int W>
struct alignas(16) Tiles {
    Row<W> rows[4 * COLUMNS<W>];

    // What is read of the tile that begins at column `first`; `other` is 1 for values and the result's gradient.
    __device__ Row<W>* of(uint32_t first, uint32_t other) {
        return rows + (first / COLUMNS<W> % 2 * 2 + other) * COLUMNS<W>;
    }
    // One of the halves of the space.
    __device__ Row<W>* half(uint32_t number) { return rows + number * 2 * COLUMNS<W>; }
};

// Factors over all columns of 16 rows.
template <int W>
using Fragments = uint32_t[W / 16][4];

// Starts to copy `count` rows of a head from `first` on. 0 is written from row `end` and from the head's width on.
template <int W>
__device__ void load(Row<W>* to, uint32_t count, const bf16* head, uint64_t stride, uint32_t first, uint32_t end,
                     uint32_t width) {
    for (uint32_t i = threadIdx.x; i < count * (W / 8); i += THREADS) {
        uint32_t row = i / (W / 8), column = i % (W / 8) * 8;
        bool there = first + row < end && column < width;
        const bf16* from = there ? head + (first + row) * stride + column : head;
        copy_async(shared_address(&to[row].at[column]), from, there ? 16 : 0);
    }
}

// The first factors of 16 rows.
template <int W>
__device__ void load_fragments(Fragments<W>& to, const Row<W>* rows) {
    uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < W / 16; k++) load_matrices(to[k], shared_address(&rows[lane % 16].at[16 * k + lane / 16 * 8]));
}

// Adds the products of a warp's rows with 16 columns, whose vectors lie in `columns`.
template <int W>
__device__ void add_scores(float (&scores)[2][4], const Fragments<W>& rows, const Row<W>* columns, uint32_t width) {
    uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < W / 16; k++) {
        if (16 * k < width) {
            uint32_t factors[4];
            load_matrices(factors, shared_address(&columns[lane / 16 * 8 + lane % 8].at[16 * k + lane / 8 % 2 * 8]));
            add_product(scores[0], rows[k], factors[0], factors[1]);
            add_product(scores[1], rows[k], factors[2], factors[3]);
        }
    }
}

// Adds weights·vectors for a warp's rows and 16 columns of the scores.
template <int W>
__device__ void add_weighted(float (&out)[W / 8][4], const float (&weights)[2][4], const Row<W>* vectors,
                             uint32_t width) {
    uint32_t lane = threadIdx.x % 32;
    uint32_t rounded[4] = {pack(weights[0][0], weights[0][1]), pack(weights[0][2], weights[0][3]),
                           pack(weights[1][0], weights[1][1]), pack(weights[1][2], weights[1][3])};
#pragma unroll
    for (int k = 0; k < W / 16; k++) {
        if (16 * k < width) {
            uint32_t factors[4];
            load_matrices_transposed(factors, shared_address(&vectors[lane % 16].at[16 * k + lane / 16 * 8]));
            add_product(out[2 * k], rounded, factors[0], factors[1]);
            add_product(out[2 * k + 1], rounded, factors[2], factors[3]);
        }
    }
}

// Writes a warp's rows, which begin at `first`, times a factor for each of a lane's two rows. They go through
// `through`, so that lanes beside each other write what lies beside each other.
template <int W>
__device__ void store(const float (&out)[W / 8][4], const float (&factors)[2], Row<W>* through, bf16* head,
                      uint64_t stride, uint32_t first, uint32_t end, uint32_t width) {
    uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int k = 0; k < W / 8; k++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t pair = pack(out[k][2 * i] * factors[i], out[k][2 * i + 1] * factors[i]);
            *reinterpret_cast<uint32_t*>(&through[g + 8 * i].at[8 * k + 2 * t]) = pair;
        }
    }
    __syncwarp();
    for (uint32_t i = lane; i < 16 * (W / 8); i += 32) {
        uint32_t row = i / (W / 8), column = i % (W / 8) * 8;
        if (first + row < end && column < width) {
            *reinterpret_cast<uint4*>(head + (first + row) * stride + column) =
                *reinterpret_cast<const uint4*>(&through[row].at[column]);
        }
    }
    __syncwarp();
}

// Which weights dropout keeps where rows are queries, in columns first..first + 64: one bit each for four that lie 16
// keys apart, and a group of bits for each of this lane's two rows and four of its columns. For `is_kept`.
__device__ uint32_t kept_by_columns(const Attention& a, const Head& head, uint32_t first_query, uint32_t first) {
    if (a.dropout.threshold == 0) return 0xffffffffu;
    uint32_t lane = threadIdx.x % 32, kept = 0;
#pragma unroll 1
    for (uint32_t group = 0; group < 8; group++) {
        uint32_t query = first_query + lane / 4 + group / 4 * 8;
        uint32_t key = first + group / 2 % 2 * 8 + lane % 4 * 2 + group % 2;
        kept |= kept_elements(head.weight_index(a, query, key), a.dropout) << 4 * group;
    }
    return kept;
}

// The bit of element `i` of result `half` of two side by side, whose columns begin at `first`.
__device__ bool is_kept(uint32_t kept, uint32_t first, int half, int i) {
    return kept >> (4 * (i / 2 * 4 + half * 2 + i % 2) + first % 64 / 16) & 1;
}

// y = dropout(softmax(q·kᵀ·scale))·v, and the logarithms of the sums. The grid: for each head, tiles of queries.
template <int W>
__device__ void attention(const Attention& a, const Rows<const bf16>& q, const Rows<const bf16>& k,
                          const Rows<const bf16>& v, const Rows<bf16>& y, float* log_sums) {
    __shared__ Tiles<W> tiles;
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Head head(a, (a.queries + ROWS - 1) / ROWS);
    uint32_t first_query = head.block * ROWS, warp_query = first_query + 16 * warp;
    uint32_t valid = head.valid_keys(a);
    float exponent_scale = a.scale * LOG2_E;
    auto load_columns = [&](uint32_t first) {
        if (first >= valid) return;
        load(tiles.of(first, 0), COLUMNS<W>, head.of(k, a), k.token_stride, first, valid, a.width);
        load(tiles.of(first, 1), COLUMNS<W>, head.of(v, a), v.token_stride, first, valid, a.width);
    };

    Fragments<W> queries;
    load(tiles.half(1), ROWS, head.of(q, a), q.token_stride, first_query, a.queries, a.width);
    load_columns(0);
    finish_copies();
    __syncthreads();
    load_fragments<W>(queries, tiles.half(1) + 16 * warp);

    float out[W / 8][4] = {}, sums[2] = {}, tops[2] = {-INFINITY, -INFINITY};  // tops: the largest exponents so far
    uint32_t kept = 0;
    for (uint32_t first = 0; first < valid; first += COLUMNS<W>) {
        finish_copies();
        __syncthreads();  // this tile is there, and nobody reads the one before
        load_columns(first + COLUMNS<W>);
        if (warp_query >= a.queries) continue;
        const Row<W>*keys = tiles.of(first, 0), *values = tiles.of(first, 1);
        float scores[COLUMNS<W> / 16][2][4] = {}, last[2] = {tops[0], tops[1]};
#pragma unroll
        for (int c = 0; c < COLUMNS<W> / 16; c++) {
            if (first + 16 * c < valid) add_scores<W>(scores[c], queries, keys + 16 * c, a.width);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float& score = scores[c][i / 4][i % 4];
                uint32_t key = first + 16 * c + i / 4 * 8 + lane % 4 * 2 + i % 2;
                score = key < valid ? score * exponent_scale : -INFINITY;
                tops[i / 2 % 2] = fmaxf(tops[i / 2 % 2], score);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            tops[i] = fmaxf(tops[i], __shfl_xor_sync(0xffffffffu, tops[i], 1));
            tops[i] = fmaxf(tops[i], __shfl_xor_sync(0xffffffffu, tops[i], 2));
            float correction = power_of_two(last[i] - tops[i]);
            sums[i] *= correction;
#pragma unroll
            for (int n = 0; n < W / 8; n++) out[n][2 * i] *= correction, out[n][2 * i + 1] *= correction;
        }
        if (first % 64 == 0) kept = kept_by_columns(a, head, warp_query, first);
#pragma unroll
        for (int c = 0; c < COLUMNS<W> / 16; c++) {
            if (first + 16 * c < valid) {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    float weight = power_of_two(scores[c][i / 4][i % 4] - tops[i / 2 % 2]);
                    sums[i / 2 % 2] += weight;
                    scores[c][i / 4][i % 4] = is_kept(kept, first + 16 * c, i / 4, i % 4) ? weight : 0.0f;
                }
                add_weighted<W>(out, scores[c], values + 16 * c, a.width);
            }
        }
    }
    __syncthreads();
    if (warp_query >= a.queries) return;
    float factors[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], 1);
        sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], 2);
        factors[i] = sums[i] == 0.0f ? 0.0f : a.dropout.scale / sums[i];  // no sum: no key counts
        uint32_t query = warp_query + lane / 4 + 8 * i;
        if (lane % 4 == 0 && query < a.queries) head.of(log_sums, a)[query] = tops[i] * LN_2 + logf(sums[i]);
    }
    store<W>(out, factors, tiles.rows + 16 * warp, head.of(y, a), y.token_stride, warp_query, a.queries, a.width);
}

// What the gradient of keys reads for the queries in the columns of a tile.
template <int W>
struct Queries {
    float log_sum[COLUMNS<W>];  // times log2(e)
    float dot[COLUMNS<W>];
    // Which weights dropout keeps: of the keys k + {0, 16, 32, 48} of the block, a bit for each warp.
    uint8_t kept[COLUMNS<W>][16];
};

// The gradient of queries (a row is a query, a column a key), or those of keys and values (the other way round); with
// the same formulas and parameters as `attention_grad` in attention.cu. The grid: for each head, tiles of rows.
template <int W, bool OF_KEYS>
__device__ void attention_grad(const Attention& a, const Rows<const bf16>& row, const Rows<const bf16>& other_row,
                               const Rows<const bf16>& column, const Rows<const bf16>& other_column,
                               const float* log_sums, const float* dots, const Rows<bf16>& to,
                               const Rows<bf16>& other_to) {
    __shared__ Tiles<W> tiles;
    __shared__ Queries<W> queries[OF_KEYS ? 2 : 1];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t count = OF_KEYS ? a.keys : a.queries;
    Head head(a, (count + ROWS - 1) / ROWS);
    uint32_t first_row = head.block * ROWS, warp_row = first_row + 16 * warp;
    uint32_t valid = head.valid_keys(a);
    uint32_t rows_end = OF_KEYS ? valid : a.queries, columns_end = OF_KEYS ? a.queries : valid;
    if (first_row >= rows_end) columns_end = 0;
    float exponent_scale = a.scale * LOG2_E;
    log_sums = head.of(log_sums, a);
    dots = head.of(dots, a);
    auto load_columns = [&](uint32_t first) {
        if (first >= columns_end) return;
        load(tiles.of(first, 0), COLUMNS<W>, head.of(column, a), column.token_stride, first, columns_end, a.width);
        load(tiles.of(first, 1), COLUMNS<W>, head.of(other_column, a), other_column.token_stride, first, columns_end,
             a.width);
    };

    // The block's rows take the second half of the space, and the first columns come beside them; or all of it.
    constexpr bool SIDE_BY_SIDE = COLUMNS<W> == ROWS;
    Row<W>* own = tiles.half(SIDE_BY_SIDE ? 1 : 0);
    Fragments<W> rows, other_rows;
    load(own, ROWS, head.of(row, a), row.token_stride, first_row, rows_end, a.width);
    load(own + ROWS, ROWS, head.of(other_row, a), other_row.token_stride, first_row, rows_end, a.width);
    if (SIDE_BY_SIDE) load_columns(0);
    finish_copies();
    __syncthreads();
    load_fragments<W>(rows, own + 16 * warp);
    load_fragments<W>(other_rows, own + ROWS + 16 * warp);
    if (!SIDE_BY_SIDE) {
        __syncthreads();
        load_columns(0);
    }
    float log_sum[2], dot[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t query = warp_row + lane / 4 + 8 * i;
        bool exists = !OF_KEYS && query < a.queries;
        log_sum[i] = exists ? log_sums[query] * LOG2_E : INFINITY;  // past the end weights are 0
        dot[i] = exists ? dots[query] : 0.0f;
    }

    float out[W / 8][4] = {}, other_out[OF_KEYS ? W / 8 : 1][4] = {};
    uint32_t kept = 0;
    for (uint32_t first = 0; first < columns_end; first += COLUMNS<W>) {
        Queries<W>& tile = queries[OF_KEYS ? first / COLUMNS<W> % 2 : 0];
        if (OF_KEYS) {
            for (uint32_t i = threadIdx.x; i < COLUMNS<W>; i += THREADS) {
                bool exists = first + i < a.queries;
                tile.log_sum[i] = exists ? log_sums[first + i] * LOG2_E : INFINITY;
                tile.dot[i] = exists ? dots[first + i] : 0.0f;
            }
#pragma unroll 1
            for (uint32_t i = threadIdx.x; i < COLUMNS<W> * 16; i += THREADS) {
                uint64_t index = head.weight_index(a, first + i / 16, first_row + i % 16);
                tile.kept[i / 16][i % 16] = uint8_t(kept_elements(index, a.dropout));
            }
        } else if (first % 64 == 0) {
            kept = kept_by_columns(a, head, warp_row, first);
        }
        finish_copies();
        __syncthreads();  // this tile is there, and nobody reads the one before
        load_columns(first + COLUMNS<W>);
        if (warp_row >= rows_end) continue;
        const Row<W>*columns = tiles.of(first, 0), *other_columns = tiles.of(first, 1);
#pragma unroll 1
        for (uint32_t c = 0; c < COLUMNS<W> && first + c < columns_end; c += 16) {
            float weights[2][4] = {}, grads[2][4] = {};
            add_scores<W>(weights, rows, columns + c, a.width);
            add_scores<W>(grads, other_rows, other_columns + c, a.width);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float &weight = weights[i / 4][i % 4], &grad = grads[i / 4][i % 4];
                uint32_t at_row = lane / 4 + i / 2 % 2 * 8, at_column = c + i / 4 * 8 + lane % 4 * 2 + i % 2;
                bool counts = (OF_KEYS ? warp_row + at_row : first + at_column) < valid;
                bool keep = OF_KEYS ? tile.kept[at_column][at_row] >> warp & 1
                                    : is_kept(kept, first + c, i / 4, i % 4);
                float sum = OF_KEYS ? tile.log_sum[at_column] : log_sum[i / 2 % 2];
                float mean = OF_KEYS ? tile.dot[at_column] : dot[i / 2 % 2];
                float factor = keep ? a.dropout.scale : 0.0f;
                weight = power_of_two(counts ? weight * exponent_scale - sum : -INFINITY);
                grad = weight * (factor * grad - mean);
                weight *= factor;
            }
            add_weighted<W>(out, grads, columns + c, a.width);
            if constexpr (OF_KEYS) add_weighted<W>(other_out, weights, other_columns + c, a.width);
        }
    }
    __syncthreads();
    float scales[2] = {a.scale, a.scale}, ones[2] = {1.0f, 1.0f};
    Row<W>* through = tiles.rows + 16 * warp;
    store<W>(out, scales, through, head.of(to, a), to.token_stride, warp_row, count, a.width);
    if constexpr (OF_KEYS) {
        store<W>(other_out, ones, through, head.of(other_to, a), other_to.token_stride, warp_row, count, a.width);
    }
}

#define DEFINE_ATTENTION(W)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_bf16_mma_w##W(                                     \
        Attention a, Rows<const bf16> q, Rows<const bf16> k, Rows<const bf16> v, Rows<bf16> y, float* log_sums) {      \
        attention<W>(a, q, k, v, y, log_sums);                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_grad_queries_bf16_mma_w##W(                        \
        Attention a, Rows<const bf16> q, Rows<const bf16> k, Rows<const bf16> v, Rows<const bf16> dy,                  \
        const float* log_sums, const float* dots, Rows<bf16> dq) {                                                     \
        attention_grad<W, false>(a, q, dy, k, v, log_sums, dots, dq, Rows<bf16>());                                    \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_grad_keys_bf16_mma_w##W(                           \
        Attention a, Rows<const bf16> q, Rows<const bf16> k, Rows<const bf16> v, Rows<const bf16> dy,                  \
        const float* log_sums, const float* dots, Rows<bf16> dk, Rows<bf16> dv) {                                      \
        attention_grad<W, true>(a, k, v, q, dy, log_sums, dots, dk, dv);                                               \
    }
DEFINE_ATTENTION(32)
DEFINE_ATTENTION(64)
DEFINE_ATTENTION(96)
DEFINE_ATTENTION(128)
