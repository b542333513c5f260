// Windows of images: cutting them out, and adding them up again; and parting images into windows.
#include "element.cuh"
#include "windows.cuh"

// images [B, C, H, W] to windows [B, M, C·p·q]: each element of each window is a pixel, or 0 in the padding.
template <class T>
__device__ void unfold(const T* images, T* windows, const Cut& cut, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        uint64_t rest = i;
        uint32_t inner_x = uint32_t(rest % cut.kernel[1]);
        rest /= cut.kernel[1];
        uint32_t inner_y = uint32_t(rest % cut.kernel[0]);
        rest /= cut.kernel[0];
        uint32_t channel = uint32_t(rest % cut.channels);
        rest /= cut.channels;
        uint32_t column = uint32_t(rest % cut.columns);
        rest /= cut.columns;
        uint32_t row = uint32_t(rest % cut.rows);
        uint64_t image = rest / cut.rows;
        // Left of the image or above it these wrap around, to more than its extents.
        uint32_t y = row * cut.stride[0] + inner_y - cut.padding[0];
        uint32_t x = column * cut.stride[1] + inner_x - cut.padding[1];
        bool inside = y < cut.height && x < cut.width;
        windows[i] = inside ? images[((image * cut.channels + channel) * cut.height + y) * cut.width + x] : T(0);
    }
}

// Each pixel: `add` takes what each window has of it in turn, row by row.
template <class T, class Add>
__device__ void for_each_window(uint64_t pixel, const T* windows, const Cut& cut, Add add) {
    uint32_t x = uint32_t(pixel % cut.width);
    pixel /= cut.width;
    uint32_t y = uint32_t(pixel % cut.height);
    pixel /= cut.height;
    uint32_t channel = uint32_t(pixel % cut.channels);
    uint64_t image = pixel / cut.channels;
    for_each_window_at(y, x, cut, [&](uint32_t row, uint32_t column, uint32_t inner_y, uint32_t inner_x) {
        uint64_t at = ((image * cut.rows + row) * cut.columns + column) * cut.channels + channel;
        add(windows[(at * cut.kernel[0] + inner_y) * cut.kernel[1] + inner_x]);
    });
}

// Windows that are apart: moving needs the size of an element only.
template <class T>
__device__ void fold_bits(const T* windows, T* images, const Cut& cut, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        T bits = 0;
        for_each_window(i, windows, cut, [&](T value) { bits = value; });
        images[i] = bits;
    }
}

template <class T>
__device__ void fold(const T* windows, T* images, const Cut& cut, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        float sum = 0.0f;
        for_each_window(i, windows, cut, [&](T value) { sum += to_float(value); });
        images[i] = from_float<T>(sum);
    }
}

// images [B, H, W, C] and windows [B·M, p·q, C]. Mirrors `Parts` in src/ops/convolution.rs.
struct Parts {
    uint32_t height, width, channels;
    uint32_t window[2], shift[2];
};

// Each element of each window, which is one of the images: moved to the windows, or back.
template <class T>
__device__ void partition(const T* from, T* to, const Parts& parts, uint32_t to_windows, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        uint64_t rest = i;
        uint32_t channel = uint32_t(rest % parts.channels);
        rest /= parts.channels;
        uint32_t x = uint32_t(rest % parts.window[1]) + parts.shift[1];
        rest /= parts.window[1];
        uint32_t y = uint32_t(rest % parts.window[0]) + parts.shift[0];
        rest /= parts.window[0];
        uint32_t columns = parts.width / parts.window[1], rows = parts.height / parts.window[0];
        x += uint32_t(rest % columns) * parts.window[1];
        rest /= columns;
        y += uint32_t(rest % rows) * parts.window[0];
        uint64_t image = rest / rows;
        uint64_t line = image * parts.height + y % parts.height;
        uint64_t pixel = (line * parts.width + x % parts.width) * parts.channels + channel;
        to[to_windows ? i : pixel] = from[to_windows ? pixel : i];
    }
}

#define DEFINE_MOVES(T, NAME)                                                                                        \
    extern "C" __global__ void unfold_##NAME(const T* images, T* windows, Cut cut, uint64_t elements) {              \
        unfold(images, windows, cut, elements);                                                                      \
    }                                                                                                                \
    extern "C" __global__ void fold_##NAME(const T* windows, T* images, Cut cut, uint64_t elements) {                \
        fold_bits(windows, images, cut, elements);                                                                   \
    }                                                                                                                \
    extern "C" __global__ void partition_##NAME(const T* from, T* to, Parts parts, uint32_t to_windows,              \
                                                uint64_t elements) {                                                 \
        partition(from, to, parts, to_windows, elements);                                                            \
    }
DEFINE_MOVES(uint8_t, u8)
DEFINE_MOVES(uint16_t, u16)
DEFINE_MOVES(uint32_t, u32)
DEFINE_MOVES(uint64_t, u64)

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void fold_##NAME(const T* windows, T* images, Cut cut, uint64_t elements) {                \
        fold(windows, images, cut, elements);                                                                        \
    }
FOR_FLOAT_TYPES(DEFINE)
