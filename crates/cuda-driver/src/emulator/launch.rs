//! Launches: what the driver checks of them, and the run on the emulator.

use std::sync::Arc;

use vitrine_ptx_emulator::{FaultKind, LaunchConfig, PtxProgram, launch};

use super::device::{MAX_BLOCK, MAX_GRID, MAX_THREADS_PER_BLOCK, SHARED_PER_BLOCK};
use super::machine::{Session, Status, in_context};
use super::module::LoadedFunction;
use super::operation::Operation;
use crate::codes::*;
use crate::types::*;

/// A launch with its parameters, which are copied at the call.
pub(super) struct Launch {
    program: Arc<PtxProgram>,
    kernel: String,
    config: LaunchConfig,
    parameters: Vec<u8>,
}

impl Launch {
    /// Runs it. A fault is the context's failure from then on.
    pub fn run(self, session: &mut Session<'_>) {
        let Self { program, kernel, config, parameters } = self;
        let memory = &mut session.context.memory;
        let checks = &session.settings.checks;
        if let Err(fault) = launch(memory, &program, &kernel, &config, &parameters, checks) {
            *session.last_fault = Some(fault.to_string());
            session.context.failure = Some(code_of(fault.kind()));
        }
    }
}

/// The code that a GPU's driver gives for the fault, or for what comes of it there.
fn code_of(kind: &FaultKind) -> CUresult {
    match kind {
        FaultKind::OutOfBounds { .. } => CUDA_ERROR_ILLEGAL_ADDRESS,
        FaultKind::Misaligned { .. } => CUDA_ERROR_MISALIGNED_ADDRESS,
        FaultKind::Runaway { .. } => CUDA_ERROR_LAUNCH_TIMEOUT,
        _ => CUDA_ERROR_LAUNCH_FAILED,
    }
}

/// Checks the sizes of a launch as the driver does.
fn check(function: &LoadedFunction, config: &LaunchConfig) -> Status {
    let fits = |sizes: [u32; 3], most: [u32; 3]| {
        sizes.iter().zip(most).all(|(size, most)| (1..=most).contains(size))
    };
    let threads: u32 = config.block.iter().map(|size| (*size).min(1 << 10)).product();
    let kernel = function.kernel()?;
    let is_right = fits(config.grid, MAX_GRID)
        && fits(config.block, MAX_BLOCK)
        && threads <= kernel.max_threads().unwrap_or(MAX_THREADS_PER_BLOCK)
        && kernel.shared_bytes() <= SHARED_PER_BLOCK;
    if is_right { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// Copies the parameters together, each with the size that the kernel declares.
///
/// # Safety
///
/// As for `cuLaunchKernel`: one pointer for each parameter, to as many bytes as it has.
unsafe fn gather(
    function: &LoadedFunction,
    pointers: *mut *mut c_void,
) -> Result<Vec<u8>, CUresult> {
    let kernel = function.kernel()?;
    let mut bytes = vec![0; kernel.param_bytes() as usize];
    for (index, parameter) in kernel.parameters().iter().enumerate() {
        if pointers.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller's promise.
        let from: *const u8 = unsafe { *pointers.add(index) }.cast();
        if from.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let to = &mut bytes[parameter.offset() as usize..][..parameter.bytes() as usize];
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }
    Ok(bytes)
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_shared: c_uint,
    stream: CUstream,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Status {
    in_context(|session| {
        session.context.streams.check(stream as usize)?;
        let function = session.context.function(function)?;
        let grid = [grid_x, grid_y, grid_z];
        let config = LaunchConfig { grid, block: [block_x, block_y, block_z] };
        check(function, &config)?;
        // Shared memory beyond the kernel's own, or parameters in one buffer: nobody in this
        // repository launches so.
        if dynamic_shared > 0 || !extra.is_null() {
            return Err(CUDA_ERROR_NOT_SUPPORTED);
        }
        // SAFETY: the caller's promise.
        let parameters = unsafe { gather(function, parameters) }?;
        let (program, kernel) = (function.program.clone(), function.name.clone());
        let launch = Launch { program, kernel, config, parameters };
        session.submit(stream as usize, Operation::Launch(launch)).map(drop)
    })
}
