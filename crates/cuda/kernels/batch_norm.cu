// Batch norm over all axes but the last, which has the channels, with what follows it, and its gradients (Ioffe and
// Szegedy 2015, algorithm 1). A block of threads has 32 channels of a part of the rows, so that what normalises a
// channel is at hand in each thread; sums over a part are joined by a kernel that comes after.
#include "activation.cuh"
#include "element.cuh"

constexpr int CHANNELS = 32;  // channels of a block, one a lane
constexpr int WARPS = 8;      // rows that a block works on side by side, one a warp
constexpr int AT_ONCE = 8;    // values that a thread keeps for two passes over them

// x [rows, channels], cut into parts of `part` rows. Mirrors `Rows` in src/ops/batch_norm.rs.
struct Rows {
    uint64_t rows;
    uint32_t channels, part;

    // The end of a part.
    __device__ uint64_t end(uint64_t number) const {
        uint64_t end = (number + 1) * part;
        return end < rows ? end : rows;
    }
};

// What a thread works on: a channel of rows `first`, first + WARPS, … below `end`.
struct Place {
    uint32_t channel;
    bool inside;  // whether there is such a channel
    uint64_t part, first, end;

    __device__ explicit Place(const Rows& of) {
        uint32_t across = (of.channels + CHANNELS - 1) / CHANNELS;
        channel = blockIdx.x % across * CHANNELS + threadIdx.x % CHANNELS;
        inside = channel < of.channels;
        part = blockIdx.x / across;
        first = part * of.part + threadIdx.x / CHANNELS;
        end = of.end(part);
    }
};

// Of some values: their number, their mean, and the sum of the squares of the distances from it.
struct Moments {
    float count, mean, squares;

    // Adds other values (Chan, Golub and LeVeque 1983, equation 1.5).
    __device__ void join(const Moments& more) {
        if (more.count == 0.0f) return;
        float distance = more.mean - mean;
        float share = more.count / (count + more.count);
        squares += more.squares + distance * (distance * (count * share));
        mean += distance * share;
        count += more.count;
    }
};

// The moments of all warps, joined in order, for the threads of the first.
__device__ inline Moments join_warps(const Moments& own) {
    __shared__ Moments shared[WARPS][CHANNELS];
    uint32_t lane = threadIdx.x % CHANNELS, warp = threadIdx.x / CHANNELS;
    shared[warp][lane] = own;
    __syncthreads();
    Moments all = own;
    if (warp == 0) {
        for (int other = 1; other < WARPS; other++) all.join(shared[other][lane]);
    }
    return all;
}

// Means and squares of the parts: to [parts, 2, channels]. Memory is read once.
template <class T>
__device__ void batch_moments(const T* x, float* to, const Rows& of) {
    Place place(of);
    Moments moments = {0.0f, 0.0f, 0.0f};
    if (place.inside) {
        for (uint64_t row = place.first; row < place.end; row += WARPS * AT_ONCE) {
            float values[AT_ONCE], sum = 0.0f, squares = 0.0f, count = 0.0f;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                if (row + i * WARPS < place.end) {
                    values[i] = to_float(x[(row + i * WARPS) * of.channels + place.channel]);
                    sum += values[i];
                    count += 1.0f;
                }
            }
            float mean = sum / count;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                if (row + i * WARPS < place.end) squares += (values[i] - mean) * (values[i] - mean);
            }
            moments.join({count, mean, squares});
        }
    }
    moments = join_warps(moments);
    if (threadIdx.x < CHANNELS && place.inside) {
        to[2 * place.part * of.channels + place.channel] = moments.mean;
        to[(2 * place.part + 1) * of.channels + place.channel] = moments.squares;
    }
}

// Mean and variance [2, channels] from the moments of all parts.
extern "C" __global__ void __launch_bounds__(256) batch_statistics(const float* moments, float* statistics, Rows of) {
    uint32_t channel = blockIdx.x * CHANNELS + threadIdx.x % CHANNELS;
    Moments all = {0.0f, 0.0f, 0.0f};
    if (channel < of.channels) {
        for (uint64_t part = threadIdx.x / CHANNELS; part * of.part < of.rows; part += WARPS) {
            const float* from = moments + 2 * part * of.channels + channel;
            all.join({float(of.end(part) - part * of.part), from[0], from[of.channels]});
        }
    }
    all = join_warps(all);
    if (threadIdx.x < CHANNELS && channel < of.channels) {
        statistics[channel] = all.mean;
        statistics[of.channels + channel] = all.squares / all.count;
    }
}

// activation((x − mean)·root·scale + shift + residual), with root = 1/√(variance + ε). Mirrors `Norm` in
// src/ops/batch_norm.rs.
template <class T>
struct Norm {
    const float* statistics;  // [2, channels], mean and variance
    const T* scale;
    const T* shift;
    const T* residual;  // of x's shape, or null
    float epsilon;
    uint32_t activation;
};

// What normalises a channel.
template <class T>
struct Channel {
    const T* residual;
    float mean, root, scale, shift;

    __device__ Channel(const Norm<T>& norm, uint32_t channels, uint32_t channel) : residual(norm.residual) {
        mean = norm.statistics[channel];
        root = 1.0f / sqrtf(norm.statistics[channels + channel] + norm.epsilon);
        scale = to_float(norm.scale[channel]);
        shift = to_float(norm.shift[channel]);
    }
    __device__ float normalised(T x) const { return (to_float(x) - mean) * root; }
    // What comes before the activation, for the normalised x of element `at`.
    __device__ float before(float n, uint64_t at) const {
        float value = n * scale + shift;
        return residual ? value + to_float(residual[at]) : value;
    }
};

template <class T>
__device__ void batch_norm(const T* x, const Norm<T>& norm, T* y, const Rows& of) {
    Place place(of);
    if (!place.inside) return;
    Channel<T> channel(norm, of.channels, place.channel);
    for (uint64_t row = place.first; row < place.end; row += WARPS) {
        uint64_t at = row * of.channels + place.channel;
        y[at] = from_float<T>(activation_at(channel.before(channel.normalised(x[at]), at), norm.activation).x);
    }
}

// g = dy·activation′, the gradient before the activation, is written if it has a place; its sums over the parts are
// those of shift and scale, Σ g and Σ g·n with the normalised x as n: to [parts, 2, channels].
template <class T>
__device__ void batch_norm_grad_sums(const T* x, const Norm<T>& norm, const T* dy, T* g, float* to, const Rows& of) {
    __shared__ float partial[2][WARPS][CHANNELS];
    Place place(of);
    float dshift = 0.0f, dscale = 0.0f;
    if (place.inside) {
        Channel<T> channel(norm, of.channels, place.channel);
        for (uint64_t row = place.first; row < place.end; row += WARPS) {
            uint64_t at = row * of.channels + place.channel;
            float value = to_float(dy[at]), n = channel.normalised(x[at]);
            if (norm.activation != NONE) value *= activation_at(channel.before(n, at), norm.activation).y;
            if (g) g[at] = from_float<T>(value);
            dshift += value;
            dscale += value * n;
        }
    }
    uint32_t lane = threadIdx.x % CHANNELS, warp = threadIdx.x / CHANNELS;
    partial[0][warp][lane] = dshift;
    partial[1][warp][lane] = dscale;
    __syncthreads();
    if (warp < 2 && place.inside) {
        float total = 0.0f;
        for (int other = 0; other < WARPS; other++) total += partial[warp][other][lane];
        to[(2 * place.part + warp) * of.channels + place.channel] = total;
    }
}

// dx = root·scale·(g − mean(g) − n·mean(g·n)); `sums` [2, channels] times `share` are the means; a
// share of 0 says that there are none. g may lie in dx.
template <class T>
__device__ void batch_norm_grad(const T* x, const Norm<T>& norm, const T* g, const float* sums, float share, T* dx,
                                const Rows& of) {
    Place place(of);
    if (!place.inside) return;
    Channel<T> channel(norm, of.channels, place.channel);
    float g_mean = sums[place.channel] * share, gn_mean = sums[of.channels + place.channel] * share;
    for (uint64_t row = place.first; row < place.end; row += WARPS) {
        uint64_t at = row * of.channels + place.channel;
        float centred = to_float(g[at]);
        if (share != 0.0f) centred -= g_mean + channel.normalised(x[at]) * gn_mean;
        dx[at] = from_float<T>(channel.root * channel.scale * centred);
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256) batch_moments_##NAME(const T* x, float* to, Rows of) {         \
        batch_moments(x, to, of);                                                                                    \
    }                                                                                                                \
    extern "C" __global__ void batch_norm_##NAME(const T* x, Norm<T> norm, T* y, Rows of) {                          \
        batch_norm(x, norm, y, of);                                                                                  \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        batch_norm_grad_sums_##NAME(const T* x, Norm<T> norm, const T* dy, T* g, float* to, Rows of) {               \
        batch_norm_grad_sums(x, norm, dy, g, to, of);                                                                \
    }                                                                                                                \
    extern "C" __global__ void batch_norm_grad_##NAME(const T* x, Norm<T> norm, const T* g, const float* sums,       \
                                                      float share, T* dx, Rows of) {                                 \
        batch_norm_grad(x, norm, g, sums, share, dx, of);                                                            \
    }
FOR_FLOAT_TYPES(DEFINE)
