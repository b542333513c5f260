//! [`CudaBackend`]: the device, its streams, memory and kernels, and what they share. Operations are in `ops`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cust::device::DeviceAttribute;
use cust::error::{CudaError, CudaResult};
use cust::stream::{Stream, StreamFlags};
use parking_lot::Mutex;
use vitrine_cuda_driver::{DriverKind, Version, require};
use vitrine_tensor::backend::{Backend, Memory, Storage};
use vitrine_tensor::{DType, Result, Tensor};

use crate::error::Error;
use crate::kernels::Kernels;
use crate::launch::Launch;
use crate::limits::Limits;
use crate::memory::{DeviceBlock, Pool, address};
use crate::ops::losses::{LabelFault, check_labels};
use crate::profile::{KernelFigures, Profile, Profiling};
use crate::transfer::{Transfer, device_bytes};

/// What a backend is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How device memory is kept.
    pub allocator: Allocator,
    /// How products of `f32` are computed.
    pub matmul: MatmulPrecision,
}

/// How device memory is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocator {
    /// Blocks of dropped tensors wait for the next ones: after the first step the driver is not asked again.
    #[default]
    Cached,
    /// Each tensor has memory of its very size from the driver: compute-sanitizer then sees each access beyond it.
    Exact,
}

/// How products of `f32` are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// As sums of `f32` products.
    #[default]
    Full,
    /// On tensor cores, which is several times as fast: both factors are rounded to 10 bits of mantissa first (tf32),
    /// products and sums are those of `f32`. Each product of two numbers is then off by up to 2⁻¹⁰ of its size.
    Tf32,
}

impl Options {
    /// `VITRINE_CUDA_ALLOCATOR=cached|exact` and `VITRINE_CUDA_TF32=0|1`, the first of each if it is not set.
    pub fn from_environment() -> Result<Self, Error> {
        let allocators = [("cached", Allocator::Cached), ("exact", Allocator::Exact)];
        let precisions = [("0", MatmulPrecision::Full), ("1", MatmulPrecision::Tf32)];
        Ok(Self {
            allocator: chosen("VITRINE_CUDA_ALLOCATOR", "cached or exact", allocators)?,
            matmul: chosen("VITRINE_CUDA_TF32", "0 or 1", precisions)?,
        })
    }
}

/// What a variable of the environment chooses; the first if it is not set.
fn chosen<T: Copy>(
    name: &'static str,
    expected: &'static str,
    choices: [(&str, T); 2],
) -> Result<T, Error> {
    let Some(value) = std::env::var_os(name) else { return Ok(choices[0].1) };
    let choice = choices.iter().find(|(text, _)| value == *text);
    let value = || value.to_string_lossy().into_owned();
    choice.map(|choice| choice.1).ok_or_else(|| Error::Environment {
        name,
        value: value(),
        expected,
    })
}

/// The toolkit that builds the kernels.
const TOOLKIT: Version = Version::new(13, 0);

/// A device of the driver, made current on a thread before the driver is called there.
pub(crate) struct Context {
    ordinal: u32,
    device: cust::device::Device,
    /// Compute capability.
    capability: (i32, i32),
    emulated: bool,
    context: cust::context::Context,
    kernels: Kernels,
}

impl Context {
    /// The context of a device. It is made once and stays to the end of the program, with the kernels loaded into it.
    fn of(ordinal: u32) -> Result<&'static Self, Error> {
        static CONTEXTS: Mutex<Option<HashMap<u32, &'static Context>>> = Mutex::new(None);
        let mut contexts = CONTEXTS.lock();
        let contexts = contexts.get_or_insert_default();
        if let Some(&context) = contexts.get(&ordinal) {
            context.make_current();
            return Ok(context);
        }
        let context: &'static Self = Box::leak(Box::new(Self::new(ordinal)?));
        contexts.insert(ordinal, context);
        Ok(context)
    }

    fn new(ordinal: u32) -> Result<Self, Error> {
        let kind = require(vitrine_cuda_driver::KernelForm::Native, TOOLKIT)?;
        let count = vitrine_cuda_driver::devices()? as u32;
        if ordinal >= count {
            return Err(Error::NoDevice { ordinal, count });
        }
        let failed = |doing| move |source| Error::SetUp { ordinal, doing, source };
        cust::init(cust::CudaFlags::empty()).map_err(failed("starting the driver"))?;
        let device = cust::device::Device::get_device(ordinal).map_err(failed("opening it"))?;
        let attribute = |which| device.get_attribute(which).map_err(failed("asking for its kind"));
        let major = attribute(DeviceAttribute::ComputeCapabilityMajor)?;
        let minor = attribute(DeviceAttribute::ComputeCapabilityMinor)?;
        if major < 8 {
            let name = device.name().map_err(failed("asking for its name"))?;
            return Err(Error::TooOldCard { ordinal, name, major, minor });
        }
        let context = cust::context::Context::new(device).map_err(failed("making a context"))?;
        let emulated = kind == DriverKind::Emulated;
        let kernels = Kernels::load(ordinal, (major, minor), emulated)?;
        Ok(Self { ordinal, device, capability: (major, minor), emulated, context, kernels })
    }

    /// `cuda:0`
    pub(crate) fn name(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }

    /// The driver acts on the context that is current on the calling thread.
    pub(crate) fn make_current(&self) {
        // It fails only where every other call fails too, and those are checked.
        let _ = cust::context::CurrentContext::set_current(&self.context);
    }

    /// Bytes that are free on the device, and all it has.
    pub(crate) fn memory_info(&self) -> CudaResult<(usize, usize)> {
        cust::memory::mem_get_info()
    }

    /// The driver's answer as an error of an operation.
    pub(crate) fn error(&self, op: &'static str, error: CudaError) -> vitrine_tensor::Error {
        let message = explain(error);
        vitrine_tensor::Error::Device { op, device: self.name(), message }
    }
}

/// The driver's answer, and what the emulated device has to say about it.
fn explain(error: CudaError) -> String {
    #[cfg(feature = "emulator")]
    if let Some(fault) = vitrine_cuda_driver::emulator::last_fault() {
        return format!("{error}: {fault}");
    }
    error.to_string()
}

/// The operations of one CUDA device.
pub struct CudaBackend {
    context: &'static Context,
    stream: Stream,
    pool: Arc<Pool>,
    transfer: Mutex<Transfer>,
    label_fault: LabelFault,
    profile: Mutex<Option<Profile>>,
    tables: Mutex<HashMap<Vec<u64>, DeviceBlock>>,
    matmul: MatmulPrecision,
    /// Whether memory is filled with NaN as it is given out, as there is no idle one: see [`Allocator::Exact`].
    poisons: AtomicBool,
}

impl CudaBackend {
    /// The device `cuda:ordinal`.
    pub fn new(ordinal: u32, options: &Options) -> Result<Self, Error> {
        let context = Context::of(ordinal)?;
        let failed = |doing| move |source| Error::SetUp { ordinal, doing, source };
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None);
        let stream = stream.map_err(failed("making a stream"))?;
        let transfer = Transfer::new().map_err(failed("making a stream for copies"))?;
        let pool = Pool::new(context, options.allocator == Allocator::Exact);
        Ok(Self {
            context,
            stream,
            pool,
            transfer: Mutex::new(transfer),
            label_fault: LabelFault::default(),
            profile: Mutex::default(),
            tables: Mutex::default(),
            matmul: options.matmul,
            poisons: AtomicBool::new(false),
        })
    }

    /// Gives the memory that is not in use back to the driver.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// How many blocks of memory came from the driver so far. In a steady state this no longer grows.
    pub fn fresh_allocations(&self) -> usize {
        self.pool.fresh_allocations()
    }

    /// Bytes in blocks that wait to be used again.
    pub fn idle_bytes(&self) -> usize {
        self.pool.idle_bytes()
    }

    /// From now on, counts what each kernel does, and takes its time if it is run.
    pub fn start_profile(&self, mode: Profiling) {
        *self.profile.lock() = Some(Profile::new(mode));
    }

    /// The figures of each kernel since [`CudaBackend::start_profile`], by name. Waits for the device.
    pub fn finish_profile(&self) -> Result<Vec<KernelFigures>> {
        self.context.make_current();
        match self.profile.lock().take() {
            Some(profile) => profile.finish().map_err(|error| self.context.error("profile", error)),
            None => Ok(Vec::new()),
        }
    }

    /// What the card can do at the most.
    pub fn limits(&self) -> Result<Limits> {
        self.context.make_current();
        let limits = Limits::of(self.context.device, self.context.capability);
        limits.map_err(|error| self.context.error("limits", error))
    }

    /// Where launches are counted, if they are.
    pub(crate) fn profile(&self) -> parking_lot::MutexGuard<'_, Option<Profile>> {
        self.profile.lock()
    }

    /// How products of `f32` are computed.
    pub(crate) fn matmul_precision(&self) -> MatmulPrecision {
        self.matmul
    }

    /// The stream that all work goes through.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// For calls of the driver that go through no function here.
    pub(crate) fn make_current(&self) {
        self.context.make_current();
    }

    pub(crate) fn device_name(&self) -> String {
        self.context.name()
    }

    /// The driver's answer in words.
    pub(crate) fn explain(&self, error: CudaError) -> String {
        explain(error)
    }

    /// An error of an operation, for what the driver or a kernel does not allow.
    pub(crate) fn error(&self, op: &'static str, message: impl ToString) -> vitrine_tensor::Error {
        vitrine_tensor::Error::Device {
            op,
            device: self.device_name(),
            message: message.to_string(),
        }
    }

    /// A launch of the kernel `name` for an operation.
    pub(crate) fn launch(&self, op: &'static str, name: &str) -> Result<Launch<'_>> {
        self.context.make_current();
        match self.context.kernels.get(name) {
            Some(kernel) => Ok(Launch::new(self, op, kernel)),
            None => Err(self.error(op, format!("there is no kernel {name}"))),
        }
    }

    /// A launch of the kernel of an operation on elements of type `dtype`, such as `layer_norm_bf16`.
    pub(crate) fn launch_for(&self, op: &'static str, dtype: DType) -> Result<Launch<'_>> {
        match dtype {
            DType::F32 | DType::BF16 => self.launch(op, &format!("{op}_{dtype}")),
            _ => Err(vitrine_tensor::Error::DType { op, dtype, expected: "f32 or bf16 on CUDA" }),
        }
    }

    /// Where the kernels note labels that are no classes.
    pub(crate) fn label_fault(&self) -> &LabelFault {
        &self.label_fault
    }

    /// Copies bytes to the device, in the stream's order.
    pub(crate) fn upload_to(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.context.make_current();
        let uploaded = self.transfer.lock().upload(bytes, address, &self.stream);
        uploaded.map_err(|error| self.context.error("upload", error))
    }

    /// Copies bytes from the device, after all that is in the stream.
    pub(crate) fn download_from(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.context.make_current();
        let downloaded = self.transfer.lock().download(address, bytes, &self.stream);
        downloaded.map_err(|error| self.context.error("download", error))
    }

    /// The address of a table of numbers on the device. It is uploaded once and kept.
    pub(crate) fn table(&self, numbers: Vec<u64>) -> Result<u64> {
        let mut tables = self.tables.lock();
        if let Some(block) = tables.get(&numbers) {
            return Ok(block.address());
        }
        let bytes: &[u8] = bytemuck::cast_slice(&numbers);
        let block = self.scratch(bytes.len())?;
        self.upload_to(block.address(), bytes)?;
        let address = block.address();
        tables.insert(numbers, block);
        Ok(address)
    }

    /// Memory for intermediate results, which goes back to the pool when it is dropped.
    pub(crate) fn scratch(&self, bytes: usize) -> Result<DeviceBlock> {
        let block = self.pool.take(bytes)?;
        if bytes > 0 && self.poisons.load(Ordering::Relaxed) {
            self.fill_with_nan(block.address(), bytes);
        }
        Ok(block)
    }

    fn fill_with_nan(&self, address: u64, bytes: usize) {
        self.context.make_current();
        // SAFETY: the memory belongs to nobody yet: it is read by nobody before it is written.
        let filled = unsafe { device_bytes(address, bytes).set_8_async(0xff, &self.stream) };
        filled.expect("memory is filled, or the device is lost");
    }
}

impl Storage for CudaBackend {
    fn name(&self) -> String {
        self.device_name()
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        Ok(Box::new(self.scratch(bytes)?))
    }

    fn upload(&self, bytes: &[u8], to: &Tensor) -> Result<()> {
        self.upload_to(address(to), bytes)
    }

    fn download(&self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        self.download_from(address(from), bytes)?;
        check_labels(self)
    }

    fn poison(&self) {
        // The emulated device finds what reads memory that nobody wrote, and would not if it were written here.
        self.poisons.store(self.pool.exact && !self.context.emulated, Ordering::Relaxed);
        self.pool.for_each_idle(|address, bytes| self.fill_with_nan(address, bytes));
    }
}

impl Backend for CudaBackend {}
