// Cutting images into patches and back; class token and positions.
#include "element.cuh"
#include "random.cuh"

// images [B, C, H, W] and patches [B, (H/p)·(W/q), C·p·q].
struct Grid {
    uint32_t channels, height, width;
    uint32_t patch_height, patch_width;

    // Where the pixel with this number lies in the patches.
    __device__ uint64_t place(uint64_t pixel) const {
        uint32_t x = uint32_t(pixel % width);
        pixel /= width;
        uint32_t y = uint32_t(pixel % height);
        pixel /= height;
        uint32_t channel = uint32_t(pixel % channels);
        uint64_t image = pixel / channels;
        uint32_t patch = y / patch_height * (width / patch_width) + x / patch_width;
        uint32_t inside = (channel * patch_height + y % patch_height) * patch_width + x % patch_width;
        uint64_t patch_size = uint64_t(channels) * patch_height * patch_width;
        return image * channels * height * width + patch * patch_size + inside;
    }
};

#define DEFINE_MOVES(T, NAME)                                                                                        \
    extern "C" __global__ void patchify_##NAME(const T* images, T* patches, Grid grid, uint64_t elements) {          \
        for (uint64_t i = thread_number(); i < elements; i += thread_count()) patches[grid.place(i)] = images[i];    \
    }                                                                                                                \
    extern "C" __global__ void unpatchify_##NAME(const T* patches, T* images, Grid grid, uint64_t elements) {        \
        for (uint64_t i = thread_number(); i < elements; i += thread_count()) images[i] = patches[grid.place(i)];    \
    }
DEFINE_MOVES(uint8_t, u8)
DEFINE_MOVES(uint16_t, u16)
DEFINE_MOVES(uint32_t, u32)
DEFINE_MOVES(uint64_t, u64)

// y [B, N, D] = (class ++ patches + positions) · mask; `first` is the number of elements of the class token, D or 0,
// and `sample` those of all tokens, N·D.
template <class T>
__device__ void embed_tokens(const T* patches, const T* cls, const T* positions, const Dropout& mask, T* y,
                             uint32_t first, uint32_t sample, uint64_t elements) {
    for_each_with_factor(elements, mask, [&](uint64_t i, float factor) {
        uint64_t image = i / sample;
        uint32_t at = uint32_t(i - image * sample);
        float token = at < first ? to_float(cls[at]) : to_float(patches[image * (sample - first) + at - first]);
        y[i] = from_float<T>((token + to_float(positions[at])) * factor);
    });
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void embed_tokens_##NAME(const T* patches, const T* cls, const T* positions, Dropout mask, \
                                                   T* y, uint32_t first, uint32_t sample, uint64_t elements) {       \
        embed_tokens(patches, cls, positions, mask, y, first, sample, elements);                                     \
    }
FOR_FLOAT_TYPES(DEFINE)
