// Max pooling of images [B, H, W, C], and its gradient. Threads side by side have channels side by side.
#include "element.cuh"
#include "windows.cuh"

// Where element `i` of [.., height, width, channels] is.
struct Place {
    uint32_t channel, x, y;
    uint64_t image;

    __device__ Place(uint64_t i, uint32_t height, uint32_t width, uint32_t channels) {
        channel = uint32_t(i % channels);
        i /= channels;
        x = uint32_t(i % width);
        i /= width;
        y = uint32_t(i % height);
        image = i / height;
    }
};

// y [B, H', W', C]: the largest of each window, or the first NaN; places: where in the window it is, row by row.
template <class T>
__device__ void max_pool(const T* images, T* y, uint8_t* places, const Cut& cut, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        Place window(i, cut.rows, cut.columns, cut.channels);
        float top = -INFINITY;
        uint32_t place = 256;  // none yet
        for (uint32_t inner = 0; inner < cut.kernel[0] * cut.kernel[1]; inner++) {
            // Left of the image or above it these wrap around, to more than its extents.
            uint32_t row = window.y * cut.stride[0] + inner / cut.kernel[1] - cut.padding[0];
            uint32_t column = window.x * cut.stride[1] + inner % cut.kernel[1] - cut.padding[1];
            if (row >= cut.height || column >= cut.width) continue;
            uint64_t pixel = (window.image * cut.height + row) * cut.width + column;
            float value = to_float(images[pixel * cut.channels + window.channel]);
            if (place == 256 || value > top || (isnan(value) && !isnan(top))) {
                top = value;
                place = inner;
            }
        }
        y[i] = from_float<T>(top);
        places[i] = uint8_t(place);
    }
}

// dx [B, H, W, C]: the sum over the windows that were at a pixel.
template <class T>
__device__ void max_pool_grad(const T* dy, const uint8_t* places, T* dx, const Cut& cut, uint64_t elements) {
    for (uint64_t i = thread_number(); i < elements; i += thread_count()) {
        Place pixel(i, cut.height, cut.width, cut.channels);
        float sum = 0.0f;
        for_each_window_at(pixel.y, pixel.x, cut, [&](uint32_t row, uint32_t column, uint32_t y, uint32_t x) {
            uint64_t at = (pixel.image * cut.rows + row) * cut.columns + column;
            at = at * cut.channels + pixel.channel;
            if (places[at] == y * cut.kernel[1] + x) sum += to_float(dy[at]);
        });
        dx[i] = from_float<T>(sum);
    }
}

#define DEFINE(T, NAME)                                                                                              \
    extern "C" __global__ void max_pool_##NAME(const T* images, T* y, uint8_t* places, Cut cut, uint64_t elements) { \
        max_pool(images, y, places, cut, elements);                                                                  \
    }                                                                                                                \
    extern "C" __global__ void max_pool_grad_##NAME(const T* dy, const uint8_t* places, T* dx, Cut cut,              \
                                                    uint64_t elements) {                                             \
        max_pool_grad(dy, places, dx, cut, elements);                                                                \
    }
FOR_FLOAT_TYPES(DEFINE)
