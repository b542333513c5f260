//! Modules: loading PTX, its variables in device memory, its kernels and their attributes.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Arc;

use vitrine_ptx_emulator::{PtxKernel, PtxProgram};

use super::device::{MAX_THREADS_PER_BLOCK, SHARED_PER_BLOCK, SHARED_PER_BLOCK_OPT_IN};
use super::machine::{PrimaryContext, Session, Status, in_context, new_handle, put, put_if_wanted};
use super::memory::Owner;
use crate::codes::*;
use crate::types::*;

/// A loaded module.
pub(super) struct LoadedModule {
    program: Arc<PtxProgram>,
    /// Address and size of each variable.
    globals: BTreeMap<String, (u64, u64)>,
}

/// A kernel that was asked for by name.
pub(super) struct LoadedFunction {
    module: usize,
    pub program: Arc<PtxProgram>,
    pub name: String,
    /// The most dynamic shared memory that a launch may ask for.
    pub max_dynamic_shared: u32,
}

impl LoadedFunction {
    /// The kernel; it was there when the function was asked for.
    pub fn kernel(&self) -> Result<&PtxKernel, CUresult> {
        self.program.kernel(&self.name).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }

    /// The most threads that a block of this kernel may have.
    pub fn max_threads(&self) -> Result<u32, CUresult> {
        Ok(self.kernel()?.max_threads().unwrap_or(MAX_THREADS_PER_BLOCK))
    }
}

impl PrimaryContext {
    pub fn function(&self, handle: CUfunction) -> Result<&LoadedFunction, CUresult> {
        self.functions.get(&(handle as usize)).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }

    fn module(&self, handle: CUmodule) -> Result<&LoadedModule, CUresult> {
        self.modules.get(&(handle as usize)).ok_or(CUDA_ERROR_INVALID_HANDLE)
    }

    fn free_variables(&mut self, module: LoadedModule) -> Status {
        for (address, _) in module.globals.into_values() {
            self.free(address, Owner::Module)?;
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Loads PTX; gives the handle, or the code and what is wrong in words.
    fn load(&mut self, image: &[u8]) -> Result<usize, (CUresult, String)> {
        const ELF: &[u8] = b"\x7fELF";
        const FATBIN: &[u8] = &0xba55_ed50_u32.to_le_bytes();
        if image.starts_with(ELF) || image.starts_with(FATBIN) {
            let what = "machine code for a GPU, which the emulated device cannot run; give it PTX";
            return Err((CUDA_ERROR_NO_BINARY_FOR_GPU, what.to_owned()));
        }
        let text = std::str::from_utf8(image)
            .map_err(|_| (CUDA_ERROR_INVALID_IMAGE, "the image is not text".to_owned()))?;
        check_header(text)?;
        let program = PtxProgram::load(text);
        let program = program.map_err(|error| (CUDA_ERROR_INVALID_PTX, error.to_string()))?;
        self.place(program).map_err(|code| (code, describe(code)))
    }

    /// Gives the module's variables their memory, and the module its handle.
    fn place(&mut self, mut program: PtxProgram) -> Result<usize, CUresult> {
        let placed = program.place_globals(&mut self.context.memory);
        let mut globals = BTreeMap::new();
        for global in program.globals() {
            if let Some(address) = global.address() {
                self.context.hold(address, global.size(), Owner::Module);
                globals.insert(global.name().to_owned(), (address, global.size()));
            }
        }
        let module = LoadedModule { program: Arc::new(program), globals };
        if placed.is_err() {
            self.context.free_variables(module)?;
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        }
        let handle = new_handle();
        self.context.modules.insert(handle, module);
        Ok(handle)
    }
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

/// Loads an image into the current context; `log` gets what is wrong with it.
fn load(image: &[u8], log: impl FnOnce(&str)) -> Result<CUmodule, CUresult> {
    in_context(|session| {
        let loaded = session.load(image).map_err(|(code, what)| {
            log(&what);
            session.records.last_load_error = Some(what);
            code
        });
        Ok(loaded? as CUmodule)
    })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuModuleLoad(to: *mut CUmodule, path: *const c_char) -> Status {
    if path.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, and the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    let path = path.to_str().map_err(|_| CUDA_ERROR_FILE_NOT_FOUND)?;
    let mut image = std::fs::read(path).map_err(|_| CUDA_ERROR_FILE_NOT_FOUND)?;
    // A file may end with the zero that ends PTX in memory.
    while image.last() == Some(&0) {
        image.pop();
    }
    let module = load(&image, |_| {})?;
    // SAFETY: the caller's promise.
    unsafe { put(to, module) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuModuleLoadData(to: *mut CUmodule, image: *const c_void) -> Status {
    // SAFETY: the caller's promise; there are no options.
    unsafe { cuModuleLoadDataEx(to, image, 0, std::ptr::null_mut(), std::ptr::null_mut()) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuModuleLoadDataEx(
    to: *mut CUmodule,
    image: *const c_void,
    num_options: c_uint,
    options: *mut CUjit_option,
    values: *mut *mut c_void,
) -> Status {
    if image.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise: PTX ends with zero. An image of machine code has a zero in its
    // header, behind the bytes by which it is told.
    let image = unsafe { CStr::from_ptr(image.cast()) }.to_bytes();
    // SAFETY: the caller's promise.
    let mut log = unsafe { JitLog::new(num_options as usize, options, values) };
    let module = load(image, |what| log.write(what))?;
    // SAFETY: the caller's promise.
    unsafe { put(to, module) }
}

/// The buffer for the compiler's errors, if the options give one.
struct JitLog {
    buffer: *mut u8,
    /// Where the size is: at first that of the buffer, afterwards that of the text.
    size: *mut *mut c_void,
}

impl JitLog {
    /// `CU_JIT_ERROR_LOG_BUFFER` and `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`.
    const BUFFER: CUjit_option = 5;
    const SIZE: CUjit_option = 6;

    /// # Safety
    ///
    /// As for `cuModuleLoadDataEx`: `count` options, and a value for each that is looked for here.
    unsafe fn new(count: usize, options: *mut CUjit_option, values: *mut *mut c_void) -> Self {
        let mut log = Self { buffer: std::ptr::null_mut(), size: std::ptr::null_mut() };
        for index in 0..count {
            // SAFETY: the caller's promise.
            match unsafe { *options.add(index) } {
                // SAFETY: the caller's promise.
                Self::BUFFER => log.buffer = unsafe { *values.add(index) }.cast(),
                // SAFETY: the caller's promise.
                Self::SIZE => log.size = unsafe { values.add(index) },
                _ => {}
            }
        }
        log
    }

    fn write(&mut self, text: &str) {
        if self.buffer.is_null() || self.size.is_null() {
            return;
        }
        // SAFETY: not null, so it points to the option's value, which is a size.
        let room = unsafe { *self.size } as usize;
        let length = text.len().min(room.saturating_sub(1));
        if room > 0 {
            // SAFETY: the buffer has this room, which the text and its end do not exceed.
            unsafe {
                self.buffer.copy_from_nonoverlapping(text.as_ptr(), length);
                self.buffer.add(length).write(0);
            }
        }
        // SAFETY: as above.
        unsafe { *self.size = length as *mut c_void };
    }
}

pub fn cuModuleUnload(module: CUmodule) -> Status {
    in_context(|session| {
        session.context.module(module)?;
        session.force_all();
        let handle = module as usize;
        let removed = session.context.modules.remove(&handle);
        session.context.functions.retain(|_, function| function.module != handle);
        removed.map_or(Ok(()), |module| session.context.free_variables(module))
    })
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
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let handle = in_context(|session| {
        let program = session.context.module(module)?.program.clone();
        let shared = program.kernel(&name).ok_or(CUDA_ERROR_NOT_FOUND)?.shared_bytes();
        let functions = &mut session.context.functions;
        let is_it =
            |function: &LoadedFunction| function.module == module as usize && function.name == name;
        // The same kernel gives the same handle, and with it the attributes that were set.
        if let Some((handle, _)) = functions.iter().find(|(_, function)| is_it(function)) {
            return Ok(*handle);
        }
        let handle = new_handle();
        let max_dynamic_shared = SHARED_PER_BLOCK.saturating_sub(shared);
        let (module, name) = (module as usize, name.into_owned());
        functions.insert(handle, LoadedFunction { module, program, name, max_dynamic_shared });
        Ok(handle)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, handle as CUfunction) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuModuleGetGlobal_v2(
    to: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> Status {
    if name.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, and the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let (address, size) = in_context(|session| {
        let globals = &session.context.module(module)?.globals;
        globals.get(&*name).copied().ok_or(CUDA_ERROR_NOT_FOUND)
    })?;
    // SAFETY: the caller's promise.
    unsafe {
        put_if_wanted(to, address);
        put_if_wanted(bytes, size as usize);
    }
    Ok(())
}

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MAX_DYNAMIC_SHARED: CUfunction_attribute = 8;
/// `CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT`.
const SHARED_CARVEOUT: CUfunction_attribute = 9;
/// The most registers with which a block of the largest size can be launched. The emulator does
/// not allocate any, and the number that the PTX names is not what a compiler makes of it.
const MAX_REGISTERS: u32 = 64;

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuFuncGetAttribute(
    to: *mut c_int,
    attribute: CUfunction_attribute,
    function: CUfunction,
) -> Status {
    let value = in_context(|session| {
        let function = session.context.function(function)?;
        let kernel = function.kernel()?;
        Ok(match attribute {
            0 => function.max_threads()? as c_int,
            1 => kernel.shared_bytes() as c_int,
            2 => 0, // constant memory
            3 => kernel.local_bytes() as c_int,
            4 => kernel.registers().min(MAX_REGISTERS) as c_int,
            5 | 6 => 80, // the architecture of PTX and machine code
            7 => 0,      // caching mode
            MAX_DYNAMIC_SHARED => function.max_dynamic_shared as c_int,
            SHARED_CARVEOUT => -1,
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        })
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, value) }
}

pub fn cuFuncSetAttribute(
    function: CUfunction,
    attribute: CUfunction_attribute,
    value: c_int,
) -> Status {
    in_context(|session| {
        let shared = session.context.function(function)?.kernel()?.shared_bytes();
        match attribute {
            MAX_DYNAMIC_SHARED => {
                let most = SHARED_PER_BLOCK_OPT_IN.saturating_sub(shared);
                let value = u32::try_from(value).ok().filter(|value| *value <= most);
                let value = value.ok_or(CUDA_ERROR_INVALID_VALUE)?;
                let function = session.context.functions.get_mut(&(function as usize));
                function.ok_or(CUDA_ERROR_INVALID_HANDLE)?.max_dynamic_shared = value;
                Ok(())
            }
            // How the memory of a multiprocessor is shared out does not show here.
            SHARED_CARVEOUT if (-1..=100).contains(&value) => Ok(()),
            _ => Err(CUDA_ERROR_INVALID_VALUE),
        }
    })
}

pub fn cuFuncSetCacheConfig(function: CUfunction, _: CUfunc_cache) -> Status {
    // A preference, without an effect here.
    in_context(|session| session.context.function(function).map(drop))
}

pub fn cuFuncSetSharedMemConfig(function: CUfunction, _: CUsharedconfig) -> Status {
    // A preference, without an effect here.
    in_context(|session| session.context.function(function).map(drop))
}
