// Optimizer updates over flat buffers that hold all parameters, and the norm of the gradient.
#include "element.cuh"
#include "reduce.cuh"

// Elements up to `end` that are treated alike. Made in src/ops/optimizers.rs.
struct Run {
    uint64_t end;
    float rate_scale;
    uint32_t flags;
};
constexpr uint32_t DECAYS = 1, FROZEN = 2;

// The run of an element, given all runs in order; none: every element decays at the plain rate.
__device__ Run run_of(uint64_t element, const Run* runs, uint32_t count) {
    if (count == 0) return {0, 1.0f, DECAYS};
    uint32_t first = 0;  // runs that end at or before the element
    for (uint32_t end = count - 1; first < end;) {
        uint32_t middle = (first + end) / 2;
        if (runs[middle].end <= element) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return runs[first];
}

// w −= rate·direction (torch.optim.SGD); velocity is used if momentum is not 0.
template <class T>
__device__ void sgd(T* w, const T* g, T* velocity, float rate, float momentum, uint32_t nesterov, float decay,
                    const Run* runs, uint32_t count, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        Run run = run_of(i, runs, count);
        if (run.flags & FROZEN) continue;
        float weight = to_float(w[i]);
        float direction = to_float(g[i]) + (run.flags & DECAYS ? decay : 0.0f) * weight;
        if (momentum != 0.0f) {
            float updated = momentum * to_float(velocity[i]) + direction;
            velocity[i] = from_float<T>(updated);
            direction = nesterov ? direction + momentum * updated : updated;
        }
        w[i] = from_float<T>(weight - rate * run.rate_scale * direction);
    }
}

struct AdamW {
    float rate;     // learning rate / (1 − β1^t)
    float root;     // 1/√(1 − β2^t)
    float keep;     // 1 − learning rate · weight decay
    float beta1, rest1, beta2, rest2;
    float epsilon;
};

// Loshchilov and Hutter 2019, algorithm 2.
template <class T>
__device__ void adamw(T* w, const T* g, T* first, T* second, const AdamW& step, const Run* runs, uint32_t count,
                      uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        Run run = run_of(i, runs, count);
        if (run.flags & FROZEN) continue;
        float grad = to_float(g[i]);
        float m = step.beta1 * to_float(first[i]) + step.rest1 * grad;
        float v = step.beta2 * to_float(second[i]) + step.rest2 * grad * grad;
        first[i] = from_float<T>(m);
        second[i] = from_float<T>(v);
        // With a scale of 1 this is `keep` itself: both differences are exact.
        float keep = run.flags & DECAYS ? 1.0f - run.rate_scale * (1.0f - step.keep) : 1.0f;
        float rate = step.rate * run.rate_scale;
        w[i] = from_float<T>(keep * to_float(w[i]) - rate * m / (sqrtf(v) * step.root + step.epsilon));
    }
}

constexpr uint64_t SQUARES_BLOCK = 16 * 1024;

constexpr int SUM_THREADS = 256;

// *to = the sum of what the threads of a block hold.
__device__ void sum_threads(double sum, double* to) {
    __shared__ double sums[SUM_THREADS];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = SUM_THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) *to = sums[0];
}

// partial[block] = Σ x² over a block of elements. In double: the square of a large float is none.
template <class T>
__device__ void sum_squares(const T* x, double* partial, uint64_t elements) {
    uint64_t first = blockIdx.x * SQUARES_BLOCK;
    uint64_t end = first + SQUARES_BLOCK < elements ? first + SQUARES_BLOCK : elements;
    double sum = 0.0;
    for (uint64_t i = first + threadIdx.x; i < end; i += SUM_THREADS) sum += double(to_float(x[i])) * to_float(x[i]);
    sum_threads(sum, partial + blockIdx.x);
}

// to = Σ partial, one block.
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    sum_squares_total(const double* partial, uint32_t count, double* to) {
    double sum = 0.0;
    for (uint32_t i = threadIdx.x; i < count; i += SUM_THREADS) sum += partial[i];
    sum_threads(sum, to);
}

// x *= min(1, max_norm/(√sum_squares + 1e-6)). A NaN norm leaves x as it is.
template <class T>
__device__ void clip_norm(T* x, const double* sum_squares, float max_norm, uint64_t elements) {
    float factor = float(max_norm / (sqrt(*sum_squares) + 1e-6));
    if (!(factor < 1.0f)) return;
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) x[i] = from_float<T>(to_float(x[i]) * factor);
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void sgd_##NAME(T* w, const T* g, T* velocity, float rate, float momentum,                 \
                                          uint32_t nesterov, float decay, const Run* runs, uint32_t count,           \
                                          uint64_t elements) {                                                       \
        sgd(w, g, velocity, rate, momentum, nesterov, decay, runs, count, elements);                                 \
    }                                                                                                                \
    extern "C" __global__ void adamw_##NAME(T* w, const T* g, T* first, T* second, AdamW step,                       \
                                            const Run* runs, uint32_t count, uint64_t elements) {                    \
        adamw(w, g, first, second, step, runs, count, elements);                                                     \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(SUM_THREADS)                                                        \
        sum_squares_##NAME(const T* x, double* partial, uint64_t elements) {                                         \
        sum_squares(x, partial, elements);                                                                           \
    }                                                                                                                \
    extern "C" __global__ void clip_norm_##NAME(T* x, const double* sum_squares, float max_norm,                     \
                                                uint64_t elements) {                                                 \
        clip_norm(x, sum_squares, max_norm, elements);                                                               \
    }
FOR_FLOAT_TYPES(DEFINE)
