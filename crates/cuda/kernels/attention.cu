// Attention and its gradients for any width and alignment, with a bias of the scores or without, in float arithmetic
// whatever the stored type is.
//
// A block of 128 threads works on 32 rows of scores (queries; keys for the gradients of keys and values) and goes
// over the columns 32 at a time. Of the tiles, thread (x, y) of 16·8 holds the rows y + 8·i and the columns x + 16·j
// in registers. Heads of up to W columns lie in shared memory whole. Wider ones come in parts of W columns: a block
// then gives one part of the result, and has the scores from all parts of its rows, its own part being the last.
#include "attention.cuh"
#include "reduce.cuh"

#include <cfloat>

constexpr uint32_t TILE = 32;
constexpr uint32_t THREADS = 128;
constexpr int BLOCKS = 3;  // on a multiprocessor: with fewer registers for each, some would go to memory
constexpr uint32_t ACROSS = 16;
constexpr uint32_t DOWN = THREADS / ACROSS;
constexpr int ROWS = TILE / DOWN;       // of a thread
constexpr int COLUMNS = TILE / ACROSS;  // of a thread

// Rows of queries, keys or values. The four floats between rows put what is read at once into different banks.
template <int W>
struct alignas(16) Tile {
    float at[TILE][W + 4];
};

__device__ inline float4 load_four(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ inline float4 load_four(const bf16* from) {
    uint2 bits = *reinterpret_cast<const uint2*>(from);
    return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
                       __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u));
}

// Rows first..first + TILE and columns column..column + W of a head, with 0 from row `end` and from the head's width
// on.
template <int W, class T>
__device__ void load(Tile<W>& tile, const T* head, uint64_t stride, uint32_t first, uint32_t end, uint32_t column,
                     const Attention& attention) {
    if (attention.vectors) {
        for (uint32_t i = threadIdx.x; i < TILE * (W / 4); i += THREADS) {
            uint32_t row = i / (W / 4), to = i % (W / 4) * 4;
            float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (first + row < end && column + to < attention.width) {
                four = load_four(head + (first + row) * stride + column + to);
            }
            *reinterpret_cast<float4*>(&tile.at[row][to]) = four;
        }
    } else {
        for (uint32_t i = threadIdx.x; i < TILE * W; i += THREADS) {
            uint32_t row = i / W, to = i % W;
            bool inside = first + row < end && column + to < attention.width;
            tile.at[row][to] = inside ? to_float(head[(first + row) * stride + column + to]) : 0.0f;
        }
    }
}

// Adds the products of this thread's rows with its columns, over the W columns from `column` of the head that there
// are.
template <int W>
__device__ void add_products(float (&scores)[ROWS][COLUMNS], const Tile<W>& rows, const Tile<W>& columns,
                             uint32_t column, const Attention& attention) {
    uint32_t x = threadIdx.x % ACROSS, y = threadIdx.x / ACROSS;
    uint32_t width = min(attention.width - column, uint32_t(W));
#pragma unroll 2
    for (uint32_t k = 0; k < width; k += 4) {
        float4 row[ROWS], other[COLUMNS];
#pragma unroll
        for (int i = 0; i < ROWS; i++) row[i] = *reinterpret_cast<const float4*>(&rows.at[y + DOWN * i][k]);
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) other[j] = *reinterpret_cast<const float4*>(&columns.at[x + ACROSS * j][k]);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                scores[i][j] += row[i].x * other[j].x;
                scores[i][j] += row[i].y * other[j].y;
                scores[i][j] += row[i].z * other[j].z;
                scores[i][j] += row[i].w * other[j].w;
            }
        }
    }
}

// Adds the bias of the scores, which are not scaled yet.
template <class T, bool OF_KEYS>
__device__ void add_bias(float (&scores)[ROWS][COLUMNS], const Attention& a, const Head& head, uint32_t first_row,
                         uint32_t first_column) {
    if (a.bias == nullptr) return;
    uint64_t part = head.image % a.groups * a.heads + head.number;
    const T* bias = static_cast<const T*>(a.bias) + part * a.queries * a.keys;
    float factor = 1.0f / a.scale;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            uint32_t row = first_row + threadIdx.x / ACROSS + DOWN * i;
            uint32_t column = first_column + threadIdx.x % ACROSS + ACROSS * j;
            uint32_t query = OF_KEYS ? column : row, key = OF_KEYS ? row : column;
            bool there = query < a.queries && key < a.keys;
            if (there) scores[i][j] += to_float(bias[uint64_t(query) * a.keys + key]) * factor;
        }
    }
}

// Adds weights·values; of the result, thread (x, y) holds the rows y + 8·i and W/16 columns side by side.
template <int W>
__device__ void add_weighted(float (&out)[ROWS][W / ACROSS], const Tile<TILE>& weights, const Tile<W>& values) {
    constexpr int SIDE = W / ACROSS;
    uint32_t x = threadIdx.x % ACROSS, y = threadIdx.x / ACROSS;
#pragma unroll 2
    for (uint32_t k = 0; k < TILE; k += 4) {
        float weight[ROWS][4];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            float4 four = *reinterpret_cast<const float4*>(&weights.at[y + DOWN * i][k]);
            weight[i][0] = four.x, weight[i][1] = four.y, weight[i][2] = four.z, weight[i][3] = four.w;
        }
#pragma unroll
        for (int step = 0; step < 4; step++) {
            struct alignas(4 * SIDE) Side {
                float at[SIDE];
            } side = *reinterpret_cast<const Side*>(&values.at[k + step][x * SIDE]);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
#pragma unroll
                for (int j = 0; j < SIDE; j++) out[i][j] += weight[i][step] * side.at[j];
            }
        }
    }
}

// Writes the columns that this thread holds of its rows.
template <int W, class T>
__device__ void store(const float (&out)[ROWS][W / ACROSS], const float (&factors)[ROWS], T* head, uint64_t stride,
                      uint32_t first, uint32_t end, uint32_t column, const Attention& attention) {
    uint32_t x = threadIdx.x % ACROSS, y = threadIdx.x / ACROSS;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        uint32_t row = first + y + DOWN * i;
#pragma unroll
        for (int j = 0; j < W / ACROSS; j++) {
            uint32_t to = column + x * (W / ACROSS) + j;
            if (row < end && to < attention.width) head[row * stride + to] = from_float<T>(out[i][j] * factors[i]);
        }
    }
}

// Writes the gradients of the scores of a tile.
__device__ inline void store_scores(const Tile<TILE>& tile, const Attention& a, const Head& head, uint32_t first_query,
                                    uint32_t first_key) {
#pragma unroll 1
    for (uint32_t row = threadIdx.x / ACROSS; row < TILE && first_query + row < a.queries; row += DOWN) {
        uint64_t query = (head.image * a.heads + head.number) * a.queries + first_query + row;
#pragma unroll 1
        for (uint32_t i = threadIdx.x % ACROSS; i < TILE && first_key + i < a.keys; i += ACROSS) {
            a.score_grads[query * a.keys + first_key + i] = tile.at[row][i];
        }
    }
}

// Sum and maximum over the threads of a row.
__device__ inline float row_sum(float value) {
#pragma unroll
    for (int distance = ACROSS / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    return value;
}
__device__ inline float row_max(float value) {
#pragma unroll
    for (int distance = ACROSS / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, distance));
    }
    return value;
}

// Which weights of a tile dropout keeps, for `is_kept`: one bit each for four that lie 16 keys apart, and a group of
// bits for each of this thread's four rows; where rows are keys, for its two columns beside each of the first two
// rows.
template <bool OF_KEYS>
__device__ uint32_t kept_in_tile(const Attention& a, const Head& head, uint32_t first_row, uint32_t first_column) {
    static_assert(ROWS == 4 && COLUMNS == 2 && 2 * DOWN == 16 && ACROSS == 16, "keys are 16 apart");
    if (a.dropout.threshold == 0) return 0xffff;
    uint32_t kept = 0;
#pragma unroll 1
    for (uint32_t group = 0; group < ROWS; group++) {
        uint32_t row = first_row + threadIdx.x / ACROSS + DOWN * (OF_KEYS ? group / COLUMNS : group);
        uint32_t column = first_column + threadIdx.x % ACROSS + (OF_KEYS ? ACROSS * (group % COLUMNS) : 0);
        uint64_t index = OF_KEYS ? head.weight_index(a, column, row) : head.weight_index(a, row, column);
        kept |= kept_elements(index, a.dropout) << 4 * group;
    }
    return kept;
}

// The bit of this thread's row i and column j. Where columns are keys, a group of bits serves two tiles, from one
// that begins at a multiple of 64.
template <bool OF_KEYS>
__device__ bool is_kept(uint32_t kept, uint32_t first_column, int i, int j) {
    uint32_t bit = OF_KEYS ? 4 * (i % 2 * COLUMNS + j) + i / 2 : 4 * i + first_column % 64 / ACROSS + j;
    return kept >> bit & 1;
}

// y = dropout(softmax(q·kᵀ·scale + bias))·v, and the logarithms of the sums. The grid: for each head, parts of the
// width, and for each of those, tiles of queries.
template <class T, int W>
__device__ void attention(const Attention& a, const Rows<const T>& q, const Rows<const T>& k, const Rows<const T>& v,
                          const Rows<T>& y, float* log_sums) {
    __shared__ Tile<W> queries, keys, values;
    __shared__ Tile<TILE> weights;
    uint32_t across = threadIdx.x % ACROSS, down = threadIdx.x / ACROSS;
    uint32_t parts = (a.width + W - 1) / W, tiles = (a.queries + TILE - 1) / TILE;
    Head head(a, parts * tiles);
    uint32_t own_part = head.block / tiles, first_query = head.block % tiles * TILE;
    uint32_t valid = head.valid_keys(a);
    float exponent_scale = a.scale * LOG2_E;

    float out[ROWS][W / ACROSS] = {}, sums[ROWS] = {}, tops[ROWS];  // tops: the largest exponents so far
#pragma unroll
    for (int i = 0; i < ROWS; i++) tops[i] = -FLT_MAX;  // not −∞: a bias may be that for all keys of a tile
    uint32_t kept = 0;
    for (uint32_t first = 0; first < valid; first += TILE) {
        float scores[ROWS][COLUMNS] = {};
        for (uint32_t step = 1; step <= parts; step++) {
            uint32_t column = (own_part + step) % parts * W;
            __syncthreads();
            if (parts > 1 || first == 0) {
                load(queries, head.of(q, a), q.token_stride, first_query, a.queries, column, a);
            }
            load(keys, head.of(k, a), k.token_stride, first, valid, column, a);
            if (step == parts) load(values, head.of(v, a), v.token_stride, first, valid, column, a);
            __syncthreads();
            add_products(scores, queries, keys, column, a);
        }
        add_bias<T, false>(scores, a, head, first_query, first);
        if (first % 64 == 0) kept = kept_in_tile<false>(a, head, first_query, first);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            float top = tops[i];
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                bool counts = first + across + ACROSS * j < valid;
                scores[i][j] = counts ? scores[i][j] : -INFINITY;
                top = fmaxf(top, scores[i][j] * exponent_scale);
            }
            top = row_max(top);
            float correction = power_of_two(tops[i] - top);
            tops[i] = top;
            sums[i] *= correction;
#pragma unroll
            for (int j = 0; j < W / ACROSS; j++) out[i][j] *= correction;
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                float weight = power_of_two(scores[i][j] * exponent_scale - top);
                sums[i] += weight;
                weights.at[down + DOWN * i][across + ACROSS * j] = is_kept<false>(kept, first, i, j) ? weight : 0.0f;
            }
        }
        __syncwarp();  // a row of weights is written and read by the threads of one warp
        add_weighted(out, weights, values);
    }
    float factors[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        float sum = row_sum(sums[i]);
        factors[i] = valid == 0 ? 0.0f : a.dropout.scale / sum;
        uint32_t query = first_query + down + DOWN * i;
        if (own_part == 0 && across == 0 && query < a.queries) {
            head.of(log_sums, a)[query] = tops[i] * LN_2 + logf(sum);
        }
    }
    store<W>(out, factors, head.of(y, a), y.token_stride, first_query, a.queries, own_part * W, a);
}

// The dot products of the result with its gradient: dots [B, H, Q], y and dy [B, Q, H·width]. A warp for each.
template <class T>
__device__ void attention_dots(const T* y, const T* dy, float* dots, uint64_t count, uint32_t queries, uint32_t heads,
                               uint32_t width) {
    uint64_t number = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    if (number >= count) return;
    uint32_t lane = threadIdx.x % 32;
    y += number * width;
    dy += number * width;
    float dot = 0.0f;
    for (uint32_t i = lane; i < width; i += 32) dot += to_float(y[i]) * to_float(dy[i]);
    dot = warp_sum(dot);
    uint64_t head = number % heads, query = number / heads % queries, image = number / heads / queries;
    if (lane == 0) dots[(image * heads + head) * queries + query] = dot;
}

// The gradient of queries (a row is a query, a column a key), or those of keys and values (the other way round). With
// the weights P, their factors M and the scores S: dS = P∘(M∘(dy·vᵀ) − dots), dq = dS·k·scale, dk = dSᵀ·q·scale, dv =
// (M∘P)ᵀ·dy. That of queries writes dS, too, if there is a bias.
//
// `row` and `other_row` are q and dy, `column` and `other_column` are k and v, or those exchanged. `to` is dq or dk,
// `other_to` is nothing or dv. The grid is that of `attention`.
template <class T, int W, bool OF_KEYS>
__device__ void attention_grad(const Attention& a, const Rows<const T>& row, const Rows<const T>& other_row,
                               const Rows<const T>& column, const Rows<const T>& other_column, const float* log_sums,
                               const float* dots, const Rows<T>& to, const Rows<T>& other_to) {
    __shared__ Tile<W> rows, other_rows, columns, other_columns;
    __shared__ Tile<TILE> score_grads, weights;
    constexpr int QUERIES = OF_KEYS ? COLUMNS : ROWS;  // of a thread
    uint32_t across = threadIdx.x % ACROSS, down = threadIdx.x / ACROSS;
    uint32_t count = OF_KEYS ? a.keys : a.queries;
    uint32_t parts = (a.width + W - 1) / W, tiles = (count + TILE - 1) / TILE;
    Head head(a, parts * tiles);
    uint32_t own_part = head.block / tiles, first_row = head.block % tiles * TILE;
    uint32_t valid = head.valid_keys(a);
    uint32_t rows_end = OF_KEYS ? valid : a.queries, columns_end = OF_KEYS ? a.queries : valid;
    // Past the keys that count, the gradients of scores are 0.
    uint32_t end = first_row >= rows_end ? 0 : !OF_KEYS && a.score_grads != nullptr ? a.keys : columns_end;
    float exponent_scale = a.scale * LOG2_E;

    float out[ROWS][W / ACROSS] = {}, other_out[ROWS][W / ACROSS] = {};
    float log_sum[QUERIES], dot[QUERIES];
    uint32_t kept = 0;
    for (uint32_t first = 0; first < end; first += TILE) {
        float scores[ROWS][COLUMNS] = {}, weight_grads[ROWS][COLUMNS] = {};
        for (uint32_t step = 1; step <= parts; step++) {
            uint32_t part = (own_part + step) % parts * W;
            __syncthreads();
            if (parts > 1 || first == 0) {
                load(rows, head.of(row, a), row.token_stride, first_row, rows_end, part, a);
                load(other_rows, head.of(other_row, a), other_row.token_stride, first_row, rows_end, part, a);
            }
            load(columns, head.of(column, a), column.token_stride, first, columns_end, part, a);
            load(other_columns, head.of(other_column, a), other_column.token_stride, first, columns_end, part, a);
            __syncthreads();
            add_products(scores, rows, columns, part, a);
            add_products(weight_grads, other_rows, other_columns, part, a);
        }
        add_bias<T, OF_KEYS>(scores, a, head, first_row, first);
        if (OF_KEYS || first == 0) {
#pragma unroll
            for (int i = 0; i < QUERIES; i++) {
                uint32_t query = OF_KEYS ? first + across + ACROSS * i : first_row + down + DOWN * i;
                bool there = query < a.queries;
                log_sum[i] = there ? head.of(log_sums, a)[query] * LOG2_E : INFINITY;  // past the end weights are 0
                dot[i] = there ? head.of(dots, a)[query] : 0.0f;
            }
        }
        if (OF_KEYS || first % 64 == 0) kept = kept_in_tile<OF_KEYS>(a, head, first_row, first);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                uint32_t at_row = down + DOWN * i, at_column = across + ACROSS * j;
                bool counts = OF_KEYS ? first_row + at_row < valid : first + at_column < valid;
                int query = OF_KEYS ? j : i;
                float exponent = counts ? scores[i][j] * exponent_scale - log_sum[query] : -INFINITY;
                float weight = power_of_two(exponent);
                float factor = is_kept<OF_KEYS>(kept, first, i, j) ? a.dropout.scale : 0.0f;
                score_grads.at[at_row][at_column] = weight * (factor * weight_grads[i][j] - dot[query]);
                if (OF_KEYS) weights.at[at_row][at_column] = weight * factor;
            }
        }
        __syncwarp();  // a row is written and read by the threads of one warp
        add_weighted(out, score_grads, columns);
        if (OF_KEYS) add_weighted(other_out, weights, other_columns);
        if (!OF_KEYS && a.score_grads != nullptr && own_part == 0) store_scores(score_grads, a, head, first_row, first);
    }
    float scales[ROWS], ones[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) scales[i] = a.scale, ones[i] = 1.0f;
    store<W>(out, scales, head.of(to, a), to.token_stride, first_row, count, own_part * W, a);
    if (OF_KEYS) {
        store<W>(other_out, ones, head.of(other_to, a), other_to.token_stride, first_row, count, own_part * W, a);
    }
}

#define DEFINE_ATTENTION(T, NAME, W)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) attention_##NAME##_w##W(                             \
        Attention a, Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<T> y, float* log_sums) {                  \
        attention<T, W>(a, q, k, v, y, log_sums);                                                                      \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) attention_grad_queries_##NAME##_w##W(                \
        Attention a, Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<const T> dy, const float* log_sums,       \
        const float* dots, Rows<T> dq) {                                                                               \
        attention_grad<T, W, false>(a, q, dy, k, v, log_sums, dots, dq, Rows<T>());                                    \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) attention_grad_keys_##NAME##_w##W(                   \
        Attention a, Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<const T> dy, const float* log_sums,       \
        const float* dots, Rows<T> dk, Rows<T> dv) {                                                                   \
        attention_grad<T, W, true>(a, k, v, q, dy, log_sums, dots, dk, dv);                                            \
    }
#define DEFINE_WIDTHS(T, NAME)                                                                                         \
    DEFINE_ATTENTION(T, NAME, 32)                                                                                      \
    DEFINE_ATTENTION(T, NAME, 64)                                                                                      \
    extern "C" __global__ void attention_dots_##NAME(const T* y, const T* dy, float* dots, uint64_t count,             \
                                                     uint32_t queries, uint32_t heads, uint32_t width) {               \
        attention_dots(y, dy, dots, count, queries, heads, width);                                                     \
    }
FOR_FLOAT_TYPES(DEFINE_WIDTHS)
