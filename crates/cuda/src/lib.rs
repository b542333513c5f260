//! The CUDA backend, on the `cust` crate.

extern crate vitrine_cuda_driver as _;
