// Products of bf16 on tensor cores, by layout and size of a block's tile.
#include "product_kernels.cuh"
#include "product_tensor.cuh"

DEFINE_PRODUCTS(bf16, bf16)
