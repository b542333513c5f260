// Mean cross-entropy with smoothed labels or with shares of classes, with its gradient. A warp works on a row.
#include "element.cuh"
#include "reduce.cuh"

// The largest logit of a row, and the logarithm of Σ exp(logit − largest).
template <class T>
__device__ float2 log_sum(const T* logits, uint32_t classes) {
    uint32_t lane = threadIdx.x % 32;
    float top = -INFINITY;
    for (uint32_t i = lane; i < classes; i += 32) top = fmaxf(top, to_float(logits[i]));
    top = warp_max(top);
    float sum = 0.0f;
    for (uint32_t i = lane; i < classes; i += 32) sum += expf(to_float(logits[i]) - top);
    return make_float2(top, logf(warp_sum(sum)));
}

// losses[row] = −Σ_k target·(logit − top − log_sum): the target is `spread` for each class, and `hit` more at the
// label. NaN for a label that is no class.
template <class T>
__device__ void cross_entropy(const T* logits, const int64_t* labels, float hit, float spread, float* losses,
                              uint64_t rows, uint32_t classes) {
    uint64_t row = thread_number() / 32;
    if (row >= rows) return;
    logits += row * classes;
    float2 parts = log_sum(logits, classes);
    float all = 0.0f;
    if (spread != 0.0f) {
        for (uint32_t i = threadIdx.x % 32; i < classes; i += 32) all += to_float(logits[i]) - parts.x - parts.y;
        all = warp_sum(all);
    }
    if (threadIdx.x % 32 == 0) {
        int64_t label = labels[row];
        bool known = label >= 0 && label < classes;
        losses[row] = known ? -hit * (to_float(logits[label]) - parts.x - parts.y) - spread * all : NAN;
    }
}

constexpr int MEAN_THREADS = 256;

// The mean of the losses, and into fault [sample, label, classes] the first label that is no class, if there are labels,
// such a one among them, and none was found before. One block.
extern "C" __global__ void __launch_bounds__(MEAN_THREADS)
    cross_entropy_mean(const float* losses, const int64_t* labels, float* mean, int64_t* fault, uint64_t rows,
                       uint32_t classes) {
    __shared__ double sums[MEAN_THREADS];
    __shared__ uint64_t wrong[MEAN_THREADS];
    double sum = 0.0;
    uint64_t first = rows;
    for (uint64_t row = threadIdx.x; row < rows; row += MEAN_THREADS) {
        sum += losses[row];
        if (labels && first == rows && (labels[row] < 0 || labels[row] >= classes)) first = row;
    }
    sums[threadIdx.x] = sum;
    wrong[threadIdx.x] = first;
    __syncthreads();
    for (int half = MEAN_THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
            wrong[threadIdx.x] = min(wrong[threadIdx.x], wrong[threadIdx.x + half]);
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        *mean = float(sums[0] / double(rows));
        if (wrong[0] < rows && fault[2] == 0) {
            fault[0] = int64_t(wrong[0]);
            fault[1] = labels[wrong[0]];
            fault[2] = classes;
        }
    }
}

// dlogits = dloss/rows · (softmax(logits) − target)
template <class T>
__device__ void cross_entropy_grad(const T* logits, const int64_t* labels, float hit, float spread, const float* dloss,
                                   T* dlogits, uint64_t rows, uint32_t classes) {
    uint64_t row = thread_number() / 32;
    if (row >= rows) return;
    logits += row * classes;
    dlogits += row * classes;
    float2 parts = log_sum(logits, classes);
    float factor = *dloss / float(rows);
    int64_t label = labels[row];
    for (uint32_t i = threadIdx.x % 32; i < classes; i += 32) {
        float probability = expf(to_float(logits[i]) - parts.x - parts.y);
        float target = i == label ? hit + spread : spread;
        dlogits[i] = from_float<T>(factor * (probability - target));
    }
}

// losses[row] = −Σ_k target·(logit − top − log_sum).
template <class T>
__device__ void soft_target_cross_entropy(const T* logits, const float* targets, float* losses, uint64_t rows,
                                          uint32_t classes) {
    uint64_t row = thread_number() / 32;
    if (row >= rows) return;
    logits += row * classes;
    targets += row * classes;
    float2 parts = log_sum(logits, classes);
    float loss = 0.0f;
    for (uint32_t i = threadIdx.x % 32; i < classes; i += 32) {
        // A class without a share adds nothing, however unlikely it is.
        if (targets[i] != 0.0f) loss += targets[i] * (parts.y - (to_float(logits[i]) - parts.x));
    }
    loss = warp_sum(loss);
    if (threadIdx.x % 32 == 0) losses[row] = loss;
}

// dlogits = dloss/rows · (Σtarget·softmax(logits) − target)
template <class T>
__device__ void soft_target_cross_entropy_grad(const T* logits, const float* targets, const float* dloss, T* dlogits,
                                               uint64_t rows, uint32_t classes) {
    uint64_t row = thread_number() / 32;
    if (row >= rows) return;
    logits += row * classes;
    targets += row * classes;
    dlogits += row * classes;
    float2 parts = log_sum(logits, classes);
    float total = 0.0f;
    for (uint32_t i = threadIdx.x % 32; i < classes; i += 32) total += targets[i];
    total = warp_sum(total);
    float factor = *dloss / float(rows);
    for (uint32_t i = threadIdx.x % 32; i < classes; i += 32) {
        float probability = expf(to_float(logits[i]) - parts.x - parts.y);
        dlogits[i] = from_float<T>(factor * (total * probability - targets[i]));
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void cross_entropy_##NAME(const T* logits, const int64_t* labels, float hit, float spread, \
                                                    float* losses, uint64_t rows, uint32_t classes) {                \
        cross_entropy(logits, labels, hit, spread, losses, rows, classes);                                           \
    }                                                                                                                \
    extern "C" __global__ void cross_entropy_grad_##NAME(const T* logits, const int64_t* labels, float hit,          \
                                                         float spread, const float* dloss, T* dlogits,               \
                                                         uint64_t rows, uint32_t classes) {                          \
        cross_entropy_grad(logits, labels, hit, spread, dloss, dlogits, rows, classes);                              \
    }                                                                                                                \
    extern "C" __global__ void soft_target_cross_entropy_##NAME(const T* logits, const float* targets,               \
                                                                float* losses, uint64_t rows, uint32_t classes) {    \
        soft_target_cross_entropy(logits, targets, losses, rows, classes);                                           \
    }                                                                                                                \
    extern "C" __global__ void soft_target_cross_entropy_grad_##NAME(const T* logits, const float* targets,          \
                                                                     const float* dloss, T* dlogits, uint64_t rows,  \
                                                                     uint32_t classes) {                             \
        soft_target_cross_entropy_grad(logits, targets, dloss, dlogits, rows, classes);                              \
    }
FOR_FLOAT_TYPES(DEFINE)
