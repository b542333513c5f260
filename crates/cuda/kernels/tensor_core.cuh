// The instructions of tensor cores for bf16, and copies to shared memory that run beside them (PTX ISA, "Warp Level
// Matrix Instructions" and "Data Movement and Conversion Instructions: Asynchronous copy").
//
// A product is of 16×16 by 16×8, over a warp. With g = lane/4 and t = lane%4, a lane holds of the first factor the
// rows g and g + 8, columns 2t, 2t + 1 and those 8 further; of the second, the same rows of its column g; of the
// result, the columns 2t and 2t + 1 of the rows g and g + 8. So the results of two products side by side, rounded,
// are a first factor again.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

__device__ inline uint32_t shared_address(const void* shared) { return uint32_t(__cvta_generic_to_shared(shared)); }

// Four matrices of 8×8, each lane giving the address of a row: those of the first matrix come from lanes 0 to 7, and
// so on. A lane receives columns 2t and 2t + 1 of row g of each; `transposed`, rows 2t and 2t + 1 of column g.
__device__ inline void load_matrices(uint32_t (&to)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&to)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

// c += a·b
__device__ inline void add_product(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two values side by side, rounded.
__device__ inline uint32_t pack(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t*>(&pair);
}

// Copies 16 bytes to shared memory in the background; those beyond `bytes` become zero, and are not read. Both
// addresses are multiples of 16.
__device__ inline void copy_async(uint32_t to, const void* from, uint32_t bytes = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
                 "r"(bytes)
                 : "memory");
}

// Closes a group of copies; and waits for this thread's groups but the LEFT last ones. The copies of other threads
// are there after the next barrier.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT>
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// Waits for all copies that this thread started, in groups or not.
__device__ inline void finish_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
