//! The C types in the signatures of the table, under the names of `cuda.h`.
//!
//! Only their size and class matter for a call that is handed on: a handle is a pointer, an enum of
//! C an `int`, a structure is known to the caller and the driver alone.
#![allow(non_camel_case_types, reason = "the names are those of cuda.h")]

pub use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ushort, c_void};

/// The result of a call: 0 for success, else a code as in [`codes`](crate::codes).
pub type CUresult = c_int;
/// A device's ordinal.
pub type CUdevice = c_int;
/// An address in a device's memory.
pub type CUdeviceptr = u64;

macro_rules! aliases {
    ($class:ty, $what:literal: $($name:ident)*) => {
        $(#[doc = concat!("`", stringify!($name), "` of cuda.h, ", $what, ".")]
        pub type $name = $class;)*
    };
}

aliases!(*mut c_void, "a handle":
    CUarray CUcontext CUevent CUexternalMemory CUfunction CUgraph CUgraphNode CUlinkState CUmodule
    CUstream);
aliases!(u64, "a handle": CUsurfObject CUtexObject);
aliases!(c_int, "an enum":
    CUdevice_attribute CUfunc_cache CUfunction_attribute CUgraphNodeType CUjitInputType
    CUjit_option CUlimit CUmem_advise CUsharedconfig);
aliases!(c_void, "a structure, seen only behind a pointer":
    CUDA_ARRAY3D_DESCRIPTOR CUDA_EXTERNAL_MEMORY_BUFFER_DESC CUDA_EXTERNAL_MEMORY_HANDLE_DESC
    CUDA_KERNEL_NODE_PARAMS CUDA_MEMCPY2D CUDA_RESOURCE_DESC CUDA_RESOURCE_VIEW_DESC
    CUDA_TEXTURE_DESC);

/// A host function that a stream calls; null is allowed in C.
pub type CUhostFn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;
/// The dynamic shared memory, in bytes, of a block of so many threads.
pub type CUoccupancyB2DSize = Option<unsafe extern "C" fn(block_size: c_int) -> usize>;
