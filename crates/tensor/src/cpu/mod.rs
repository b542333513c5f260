//! The CPU backend. Each topic's file has its kernels and, at the end, the operations that call them: they lock the
//! tensors' memory, pick the element type, and call one generic kernel. Work is split in blocks of fixed size, never by
//! the number of threads, so results are the same on any number.

mod activation;
mod arithmetic;
mod attention;
mod batch_norm;
mod buffer;
mod convolution;
pub(crate) mod dispatch;
mod embedding;
mod linear;
mod losses;
mod memory;
mod movement;
mod norms;
mod number;
mod optimizers;
mod parallel;
mod pooling;
mod product;
mod scratch;
mod transpose;
mod weights;
mod windows;

use std::sync::Arc;

use crate::Tensor;
use crate::backend::{Backend, Memory, Storage};
use crate::error::{Error, Result};
use dispatch::with_element;
pub(crate) use memory::HostMemory;
use memory::{Pool, read, write};

/// The backend that computes on the host, with rayon's current thread pool.
#[derive(Default)]
pub struct CpuBackend {
    pool: Arc<Pool>,
}

/// What the system refused.
fn no_memory(op: &'static str, bytes: usize) -> Error {
    let message = format!("no memory for {bytes} bytes; a smaller batch or image needs less");
    Error::Device { op, device: "cpu".into(), message }
}

impl Storage for CpuBackend {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        match self.pool.take(bytes) {
            Some(memory) => Ok(Box::new(memory)),
            None => Err(no_memory("allocate", bytes)),
        }
    }

    fn upload(&self, bytes: &[u8], to: &Tensor) -> Result<()> {
        with_element!(to.dtype(), T => {
            bytemuck::cast_slice_mut::<T, u8>(&mut write::<T>(to)).copy_from_slice(bytes);
        });
        Ok(())
    }

    fn download(&self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        with_element!(from.dtype(), T => {
            bytes.copy_from_slice(bytemuck::cast_slice::<T, u8>(&read::<T>(from)));
        });
        Ok(())
    }

    fn poison(&self) {
        self.pool.poison();
        scratch::poison();
    }
}

impl Backend for CpuBackend {}
