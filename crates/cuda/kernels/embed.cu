// Class token and positions.
#include "element.cuh"
#include "random.cuh"

// y [B, N, D] = (class ++ patches + positions) · mask; `first` is the number of elements of the class token, D or 0,
// and `sample` those of all tokens, N·D.
template <class T>
__device__ void embed_tokens(const T* patches, const T* cls, const T* positions, const Dropout& mask, T* y,
                             uint32_t first, uint32_t sample, uint64_t elements) {
    for_each_with_factor(elements, mask, [&](uint64_t i, float factor) {
        uint64_t image = i / sample;
        uint32_t at = uint32_t(i - image * sample);
        float token = at < first ? to_float(cls[at]) : to_float(patches[image * (sample - first) + at - first]);
        y[i] = from_float<T>(dropped(token + to_float(positions[at]), factor));
    });
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void embed_tokens_##NAME(const T* patches, const T* cls, const T* positions, Dropout mask, \
                                                   T* y, uint32_t first, uint32_t sample, uint64_t elements) {       \
        embed_tokens(patches, cls, positions, mask, y, first, sample, elements);                                     \
    }
FOR_FLOAT_TYPES(DEFINE)
