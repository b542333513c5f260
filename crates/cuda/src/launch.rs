//! [`Launch`]: one launch of a kernel, with its arguments checked against what the kernel declares.

use std::ffi::c_void;

use bytemuck::NoUninit;
use vitrine_tensor::{Error, Result, Tensor};

use crate::backend::CudaBackend;
use crate::kernels::Kernel;
use crate::memory::address;
use crate::profile::Work;

/// Threads in a block of a kernel whose threads are all alike.
const THREADS: u32 = 256;
/// Blocks of such a kernel at the most: each thread then takes several elements.
const MOST_BLOCKS: u64 = 1 << 20;

/// A launch that is being put together.
pub(crate) struct Launch<'a> {
    backend: &'a CudaBackend,
    op: &'static str,
    kernel: &'a Kernel,
    grid: [u32; 3],
    threads: u32,
    /// The arguments, each at a multiple of 16 bytes, and where they begin and how long they are.
    bytes: Vec<u128>,
    arguments: Vec<(usize, usize)>,
    work: Work,
}

impl<'a> Launch<'a> {
    pub(crate) fn new(backend: &'a CudaBackend, op: &'static str, kernel: &'a Kernel) -> Self {
        Self {
            backend,
            op,
            kernel,
            grid: [1; 3],
            threads: THREADS.min(kernel.max_threads),
            bytes: Vec::with_capacity(24),
            arguments: Vec::with_capacity(16),
            work: Work::default(),
        }
    }

    /// As many threads as there are `items`, in blocks of [`THREADS`]; beyond a limit a thread takes several.
    pub(crate) fn over(mut self, items: u64) -> Self {
        self.grid = [items.div_ceil(u64::from(self.threads)).min(MOST_BLOCKS) as u32, 1, 1];
        self
    }

    /// A warp for each of `rows` rows.
    pub(crate) fn over_rows(mut self, rows: usize) -> Self {
        self.grid = [(rows as u64 * 32).div_ceil(u64::from(self.threads)) as u32, 1, 1];
        self
    }

    /// The threads that `for_each_with_factor` in `kernels/random.cuh` wants for a tensor with a dropout mask.
    pub(crate) fn over_masked(self, elements: usize) -> Self {
        self.over((elements as u64).div_ceil(64) * 16)
    }

    /// What it reads and writes at the least: each of these tensors once.
    pub(crate) fn moves(mut self, tensors: &[&Tensor]) -> Self {
        let bytes = |tensor: &&Tensor| (tensor.elements() * tensor.dtype().size()) as u64;
        self.work.bytes += tensors.iter().map(bytes).sum::<u64>();
        self
    }

    /// Floating-point operations of its formula.
    pub(crate) fn computes(mut self, operations: u64) -> Self {
        self.work.operations += operations;
        self
    }

    /// The blocks along each axis.
    pub(crate) fn grid(mut self, grid: [u32; 3]) -> Self {
        self.grid = grid;
        self
    }

    /// The threads of a block.
    pub(crate) fn threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    /// A plain value.
    pub(crate) fn value<T: NoUninit>(mut self, value: T) -> Self {
        let bytes = bytemuck::bytes_of(&value);
        let start = self.bytes.len();
        self.bytes.resize(start + bytes.len().div_ceil(16), 0);
        bytemuck::cast_slice_mut(&mut self.bytes[start..])[..bytes.len()].copy_from_slice(bytes);
        self.arguments.push((start, bytes.len()));
        self
    }

    /// The address of a tensor's first element.
    pub(crate) fn tensor(self, tensor: &Tensor) -> Self {
        self.value(address(tensor))
    }

    /// The address of a tensor's first element, or 0.
    pub(crate) fn optional(self, tensor: Option<&Tensor>) -> Self {
        self.value(tensor.map_or(0, address))
    }

    /// Puts the launch into the stream. Nothing is done for an empty grid.
    pub(crate) fn launch(mut self) -> Result<()> {
        if self.grid.contains(&0) {
            return Ok(());
        }
        let lengths = self.arguments.iter().map(|&(_, length)| length);
        if !lengths.eq(self.kernel.parameters.iter().copied())
            || self.threads > self.kernel.max_threads
        {
            let given: Vec<_> = self.arguments.iter().map(|&(_, length)| length).collect();
            let message = format!(
                "the host gives {} threads and arguments of {given:?} bytes, the kernel takes at most {} and {:?}",
                self.threads, self.kernel.max_threads, self.kernel.parameters
            );
            return Err(self.error(message));
        }
        let base = self.bytes.as_mut_ptr();
        // SAFETY: each start lies inside of `bytes`.
        let start = |&(start, _): &(usize, usize)| unsafe { base.add(start) }.cast::<c_void>();
        let pointers: Vec<*mut c_void> = self.arguments.iter().map(start).collect();
        let [x, y, z] = self.grid;
        // SAFETY: there is one valid pointer for each parameter, to as many bytes as the kernel declares (checked
        // above). That the addresses among the arguments are those of memory of the sizes which the kernel works on is
        // what each operation in `ops` sees to, trusting the checks that `vitrine-tensor` made.
        let launch = || unsafe {
            self.backend.stream().launch(
                &self.kernel.function,
                (x, y, z),
                self.threads,
                0,
                &pointers,
            )
        };
        let launched = match self.backend.profile().as_mut() {
            None => launch(),
            Some(profile) => {
                profile.record(&self.kernel.name, self.work, self.backend.stream(), launch)
            }
        };
        launched.map_err(|error| self.error(self.backend.explain(error)))
    }

    fn error(&self, message: String) -> Error {
        let Kernel { name, static_shared, .. } = self.kernel;
        Error::Device {
            op: self.op,
            device: self.backend.device_name(),
            message: format!(
                "kernel {name}, {:?} blocks of {} threads, {} bytes of shared memory: {message}",
                self.grid, self.threads, static_shared
            ),
        }
    }
}
