//! Modules: loading PTX, and the kernels in it.

use std::ffi::CStr;
use std::sync::Arc;

use vitrine_ptx_emulator::{PtxKernel, PtxProgram};

use super::machine::{PrimaryContext, Status, in_context, new_handle, put};
use crate::codes::*;
use crate::types::*;

/// A loaded module.
pub(super) type LoadedModule = Arc<PtxProgram>;

/// A kernel that was asked for by name.
pub(super) struct LoadedFunction {
    pub program: Arc<PtxProgram>,
    pub name: String,
}

impl LoadedFunction {
    /// The kernel; it was there when the function was asked for.
    pub fn kernel(&self) -> Result<&PtxKernel, CUresult> {
        self.program.kernel(&self.name).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }
}

impl PrimaryContext {
    pub fn function(&self, handle: CUfunction) -> Result<&LoadedFunction, CUresult> {
        self.functions.get(&(handle as usize)).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }
}

/// Loads PTX; gives it, or the code and what is wrong in words.
fn load(image: &[u8]) -> Result<PtxProgram, (CUresult, String)> {
    const ELF: &[u8] = b"\x7fELF";
    const FATBIN: &[u8] = &0xba55_ed50_u32.to_le_bytes();
    if image.starts_with(ELF) || image.starts_with(FATBIN) {
        let what = "machine code for a GPU, which the emulated device cannot run; give it PTX";
        return Err((CUDA_ERROR_NO_BINARY_FOR_GPU, what.to_owned()));
    }
    let text = std::str::from_utf8(image)
        .map_err(|_| (CUDA_ERROR_INVALID_IMAGE, "the image is not text".to_owned()))?;
    check_header(text)?;
    PtxProgram::load(text).map_err(|error| (CUDA_ERROR_INVALID_PTX, error.to_string()))
}

/// Checks that a driver for CUDA 13.0 and a device of compute capability 8.0 take PTX of this
/// version and for this target. What is missing or ill formed, loading it says.
fn check_header(text: &str) -> Result<(), (CUresult, String)> {
    const NEWEST: (u32, u32) = (9, 0);
    const ARCHITECTURE: u32 = 80;
    let directive = |name| text.lines().find_map(|line| line.trim().strip_prefix(name));
    let version = directive(".version ").and_then(|version| version.trim().split_once('.'));
    let version = version.and_then(|(major, minor)| major.parse().ok().zip(minor.parse().ok()));
    if let Some((major, minor)) = version.filter(|version| *version > NEWEST) {
        let what = format!("PTX {major}.{minor} is newer than {}.{}", NEWEST.0, NEWEST.1);
        return Err((CUDA_ERROR_UNSUPPORTED_PTX_VERSION, what));
    }
    let target = directive(".target sm_").unwrap_or_default();
    let digits = target.find(|c: char| !c.is_ascii_digit()).unwrap_or(target.len());
    if target[..digits].parse().is_ok_and(|architecture: u32| architecture > ARCHITECTURE) {
        let what = format!("PTX for sm_{}, and the device is sm_{ARCHITECTURE}", &target[..digits]);
        return Err((CUDA_ERROR_INVALID_PTX, what));
    }
    Ok(())
}

/// Without options: nobody in this repository gives any.
///
/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuModuleLoadDataEx(
    to: *mut CUmodule,
    image: *const c_void,
    num_options: c_uint,
    _: *mut CUjit_option,
    _: *mut *mut c_void,
) -> Status {
    if image.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if num_options > 0 {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    // SAFETY: the caller's promise: PTX ends with zero. An image of machine code has a zero in its
    // header, behind the bytes by which it is told.
    let image = unsafe { CStr::from_ptr(image.cast()) }.to_bytes();
    let handle = in_context(|session| {
        let program = load(image).map_err(|(code, what)| {
            *session.last_fault = Some(what);
            code
        })?;
        let handle = new_handle();
        session.context.modules.insert(handle, Arc::new(program));
        Ok(handle)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, handle as CUmodule) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuModuleGetFunction(
    to: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> Status {
    if name.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, and the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    let handle = in_context(|session| {
        let module = session.context.modules.get(&(module as usize));
        let program = module.ok_or(CUDA_ERROR_INVALID_HANDLE)?.clone();
        program.kernel(&name).ok_or(CUDA_ERROR_NOT_FOUND)?;
        let handle = new_handle();
        session.context.functions.insert(handle, LoadedFunction { program, name });
        Ok(handle)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, handle as CUfunction) }
}
