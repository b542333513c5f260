// Products of f32 on tensor cores, with both operands rounded to tf32 (10 bits of mantissa). For those who ask for it.
#include "product_kernels.cuh"
#include "product_tensor.cuh"

DEFINE_PRODUCTS(float, tf32)
