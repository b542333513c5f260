//! The emulated device for one test at a time, and calls of its functions that must succeed. What is
//! tested is in the files that use this.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test file uses a part")]

use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vitrine_cuda_driver::emulator::{self, Checks, StreamMode};
use vitrine_cuda_driver::types::*;
use vitrine_cuda_driver::{Choice, api, choose};

/// Calls a function of the driver and gives its code.
macro_rules! code {
    ($name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: the tests pass live variables, or what the function is to refuse.
        unsafe { vitrine_cuda_driver::api::$name($($argument),*) }
    };
}

/// Calls a function of the driver, which must succeed.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        let code = code!($name($($argument),*));
        let fault = vitrine_cuda_driver::emulator::last_fault();
        assert_eq!(code, 0, "{}: {fault:?}", stringify!($name));
    }};
}

/// Calls a function that writes one result, and gives that.
macro_rules! get {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: numbers and pointers may be zero.
        let mut value = unsafe { std::mem::zeroed() };
        call!($name(&mut value, $($argument),*));
        value
    }};
}

pub(crate) use {call, code, get};

/// A fresh context on the emulated device, current in this thread, for this test alone.
pub struct EmulatedDevice {
    pub context: CUcontext,
    /// The stream of [`EmulatedDevice::upload`] and [`EmulatedDevice::download`].
    pub copies: CUstream,
    _alone: MutexGuard<'static, ()>,
}

impl EmulatedDevice {
    pub fn start(mode: StreamMode) -> Self {
        Self::with_memory(mode, 64 << 20)
    }

    pub fn with_memory(mode: StreamMode, bytes: u64) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        choose(Choice::Emulated).expect("the emulated device is built in");
        call!(cuInit(0));
        // The context of the test before, which may have been released.
        while code!(cuDevicePrimaryCtxRelease_v2(0)) == 0 {}
        emulator::clear_fault();
        emulator::set_checks(Checks::default());
        emulator::set_streams(mode);
        emulator::set_memory(bytes);
        let context = get!(cuDevicePrimaryCtxRetain(0));
        call!(cuCtxSetCurrent(context));
        let copies = get!(cuStreamCreateWithPriority(0, 0));
        Self { context, copies, _alone: alone }
    }

    pub fn alloc(&self, bytes: usize) -> CUdeviceptr {
        get!(cuMemAlloc_v2(bytes))
    }

    /// Device memory with this content.
    pub fn upload(&self, values: &[u32]) -> CUdeviceptr {
        let address = self.alloc(size_of_val(values));
        let (from, bytes) = (values.as_ptr().cast(), size_of_val(values));
        call!(cuMemcpyHtoDAsync_v2(address, from, bytes, self.copies));
        call!(cuStreamSynchronize(self.copies));
        address
    }

    pub fn download(&self, address: CUdeviceptr, count: usize) -> Vec<u32> {
        let mut values = vec![0_u32; count];
        let (to, bytes) = (values.as_mut_ptr().cast(), 4 * count);
        call!(cuMemcpyDtoHAsync_v2(to, address, bytes, self.copies));
        values
    }

    pub fn stream(&self) -> CUstream {
        get!(cuStreamCreateWithPriority(0, 0))
    }

    pub fn event(&self) -> CUevent {
        get!(cuEventCreate(0))
    }

    /// Pinned host memory with this content.
    pub fn pinned(&self, values: &[u32]) -> &'static mut [u32] {
        let mut pointer: *mut c_void = null_mut();
        call!(cuMemAllocHost_v2(&mut pointer, size_of_val(values)));
        // SAFETY: the block has this size, is filled with zeros, and lives as long as the context.
        let block = unsafe { std::slice::from_raw_parts_mut(pointer.cast(), values.len()) };
        block.copy_from_slice(values);
        block
    }

    pub fn module(&self, ptx: &str) -> CUmodule {
        let text = CString::new(ptx).expect("PTX has no zero inside");
        let mut module = null_mut();
        call!(cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 0, null_mut(), null_mut()));
        module
    }

    pub fn function(&self, module: CUmodule, name: &str) -> CUfunction {
        let name = CString::new(name).expect("a name has no zero inside");
        get!(cuModuleGetFunction(module, name.as_ptr()))
    }

    /// Launches with a grid and block of one dimension, and gives the code.
    pub fn launch(
        &self,
        function: CUfunction,
        (grid, block): (u32, u32),
        stream: CUstream,
        parameters: &mut [*mut c_void],
    ) -> CUresult {
        code!(cuLaunchKernel(
            function,
            grid,
            1,
            1,
            block,
            1,
            1,
            0,
            stream,
            parameters.as_mut_ptr(),
            null_mut(),
        ))
    }
}

/// A kernel's parameter: where its value lies.
pub fn parameter<T>(value: &mut T) -> *mut c_void {
    std::ptr::from_mut(value).cast()
}
