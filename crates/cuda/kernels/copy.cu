// Copies between strided tensors, with a change of the element type, and filling.
#include "element.cuh"
#include "walk.cuh"

// to[..] = from[..], the strides of `from` being the first.
template <class T>
__device__ void copy(const T* from, T* to, const Walk& walk) {
    for (uint64_t i = thread_number(); i < walk.elements; i += thread_count()) {
        uint64_t place[2];
        walk.places(uint32_t(i), place);
        to[place[1]] = from[place[0]];
    }
}

template <class T>
__device__ void fill(T* to, T value, const Walk& walk) {
    for (uint64_t i = thread_number(); i < walk.elements; i += thread_count()) {
        uint64_t place[1];
        walk.places(uint32_t(i), place);
        to[place[0]] = value;
    }
}

// Moving needs the size of an element only.
#define DEFINE_MOVES(T, NAME)                                                                                        \
    extern "C" __global__ void copy_##NAME(const T* from, T* to, Walk walk) { copy(from, to, walk); }                \
    extern "C" __global__ void fill_##NAME(T* to, uint64_t value, Walk walk) { fill(to, T(value), walk); }
DEFINE_MOVES(uint8_t, u8)
DEFINE_MOVES(uint16_t, u16)
DEFINE_MOVES(uint32_t, u32)
DEFINE_MOVES(uint64_t, u64)

// A conversion goes through double, which holds every value of the narrower types. Integers truncate and saturate, and
// NaN becomes 0, as Rust's `as` does.
__device__ double widen(float value) { return value; }
__device__ double widen(double value) { return value; }
__device__ double widen(bf16 value) { return __bfloat162float(value); }
__device__ double widen(uint8_t value) { return value; }
__device__ double widen(int64_t value) { return double(value); }

template <class T>
__device__ T narrow(double value);
template <>
__device__ float narrow(double value) {
    return float(value);
}
template <>
__device__ double narrow(double value) {
    return value;
}
// One rounding to nearest even, from the bits: through float there would be two.
template <>
__device__ bf16 narrow(double value) {
    float nearest = float(value);
    if (nearest != value && isfinite(nearest)) {
        // Round to odd: what float cannot tell from its middle is kept apart from it.
        uint32_t bits = __float_as_uint(nearest);
        bool beyond = fabs(double(nearest)) > fabs(value);
        if (beyond) bits -= 1;
        nearest = __uint_as_float(bits | 1);
    }
    return __float2bfloat16_rn(nearest);
}
template <>
__device__ uint8_t narrow(double value) {
    return value >= 255.0 ? 255 : value > 0.0 ? uint8_t(value) : 0;
}
template <>
__device__ int64_t narrow(double value) {
    if (value != value) return 0;
    return value >= 0x1p63 ? INT64_MAX : value < -0x1p63 ? INT64_MIN : int64_t(value);
}

template <class From, class To>
__device__ void convert(const From* from, To* to, const Walk& walk) {
    for (uint64_t i = thread_number(); i < walk.elements; i += thread_count()) {
        uint64_t place[2];
        walk.places(uint32_t(i), place);
        to[place[1]] = narrow<To>(widen(from[place[0]]));
    }
}

// The conversions of each step of training need no double.
template <>
__device__ void convert(const float* from, bf16* to, const Walk& walk) {
    for (uint64_t i = thread_number(); i < walk.elements; i += thread_count()) {
        uint64_t place[2];
        walk.places(uint32_t(i), place);
        to[place[1]] = __float2bfloat16_rn(from[place[0]]);
    }
}
template <>
__device__ void convert(const bf16* from, float* to, const Walk& walk) {
    for (uint64_t i = thread_number(); i < walk.elements; i += thread_count()) {
        uint64_t place[2];
        walk.places(uint32_t(i), place);
        to[place[1]] = __bfloat162float(from[place[0]]);
    }
}

#define DEFINE_CONVERSION(FROM, FROM_NAME, TO, TO_NAME)                                                              \
    extern "C" __global__ void convert_##FROM_NAME##_##TO_NAME(const FROM* from, TO* to, Walk walk) {                \
        convert(from, to, walk);                                                                                     \
    }
#define DEFINE_CONVERSIONS(TO, NAME, A, A_NAME, B, B_NAME, C, C_NAME, D, D_NAME)                                     \
    DEFINE_CONVERSION(A, A_NAME, TO, NAME)                                                                           \
    DEFINE_CONVERSION(B, B_NAME, TO, NAME)                                                                           \
    DEFINE_CONVERSION(C, C_NAME, TO, NAME)                                                                           \
    DEFINE_CONVERSION(D, D_NAME, TO, NAME)
DEFINE_CONVERSIONS(float, f32, double, f64, bf16, bf16, uint8_t, u8, int64_t, i64)
DEFINE_CONVERSIONS(double, f64, float, f32, bf16, bf16, uint8_t, u8, int64_t, i64)
DEFINE_CONVERSIONS(bf16, bf16, float, f32, double, f64, uint8_t, u8, int64_t, i64)
DEFINE_CONVERSIONS(uint8_t, u8, float, f32, double, f64, bf16, bf16, int64_t, i64)
DEFINE_CONVERSIONS(int64_t, i64, float, f32, double, f64, bf16, bf16, uint8_t, u8)
