//! Matrix products: the linear layer with what follows it, its gradients, and batches. Which kernel serves a product,
//! and in how many parts its sums are cut.

use bytemuck::NoUninit;
use vitrine_tensor::backend::{Epilogue, Products};
use vitrine_tensor::{DType, Error, Result, Tensor};

use super::arithmetic::{add_columns, blocks};
use crate::arguments::{DropoutArgument, activation_number};
use crate::backend::{CudaBackend, MatmulPrecision};
use crate::launch::Launch;
use crate::memory::address;

/// Blocks along the second and the third axis of a grid, at the most.
const MOST_IN_GRID: usize = u16::MAX as usize;

/// An operand in memory: its outer axis, its inner axis, which is dense, and what lies between.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    tensor: &'a Tensor,
    /// Whether the inner axis is k.
    along_k: bool,
    inner: usize,
    /// Elements from one row to the next.
    stride: usize,
    /// Elements from one matrix of a batch to the next.
    batch: usize,
}

impl<'a> Matrix<'a> {
    /// A dense tensor whose last axis, of `inner` elements, is k.
    fn along_k(tensor: &'a Tensor, inner: usize) -> Self {
        Self { tensor, along_k: true, inner, stride: inner, batch: 0 }
    }

    /// A dense tensor whose rows are k.
    fn across_k(tensor: &'a Tensor, inner: usize) -> Self {
        Self { along_k: false, ..Self::along_k(tensor, inner) }
    }

    /// A batch of matrices of which `k` is one axis, if one of its axes is dense. An axis of one element may pass for
    /// dense.
    fn of(tensor: &'a Tensor, [other, k]: [usize; 2]) -> Option<Self> {
        let (shape, strides) = (tensor.shape(), tensor.strides());
        let dense = |axis: usize| strides[axis] == 1 || shape[axis] == 1;
        let along_k = dense(k);
        let (inner, outer) = if along_k { (k, other) } else { (other, k) };
        let stride = if shape[outer] == 1 { 0 } else { strides[outer] };
        let batch = if shape[0] == 1 { 0 } else { strides[0] };
        let fits = dense(inner) && u32::try_from(stride).is_ok();
        fits.then_some(Self { tensor, along_k, inner: shape[inner], stride, batch })
    }

    /// Whether 16 bytes of the inner axis always lie together, at a multiple of 16 bytes.
    fn is_aligned(&self) -> bool {
        let size = self.tensor.dtype().size();
        let bytes = [self.inner, self.stride, self.batch].map(|elements| elements * size);
        address(self.tensor).is_multiple_of(16)
            && bytes.iter().all(|bytes| bytes.is_multiple_of(16))
    }
}

/// `[m, k]·[k, n]`, `batch` times.
struct Product<'a> {
    op: &'static str,
    /// m, n, k.
    sizes: [usize; 3],
    batch: usize,
    a: Matrix<'a>,
    b: Matrix<'a>,
}

/// Where a product goes, and what it goes through.
struct Output<'a> {
    epilogue: Epilogue<'a>,
    /// That of dropout and activation: written, or multiplied with.
    derivative: Option<&'a Tensor>,
    /// Whether it is multiplied with.
    through: bool,
    y: &'a Tensor,
}

impl<'a> Output<'a> {
    fn plain(y: &'a Tensor) -> Self {
        Self { epilogue: Epilogue::default(), derivative: None, through: false, y }
    }

    /// The tensors that are read or written at the end of a product.
    fn tensors(&self) -> Vec<&'a Tensor> {
        let Epilogue { bias, residual, .. } = self.epilogue;
        [bias, residual, self.derivative, Some(self.y)].into_iter().flatten().collect()
    }

    /// What is done to rows of `n` elements.
    fn ending(&self, n: usize) -> Ending {
        let pair =
            |tensor: &Tensor| address(tensor).is_multiple_of(2 * tensor.dtype().size() as u64);
        let paired = n.is_multiple_of(2) && self.tensors().into_iter().all(pair);
        let stride = self.epilogue.dropout.and_then(|dropout| dropout.sample_stride);
        let whole_counters = n.is_multiple_of(64) && stride.is_none_or(|s| s.is_multiple_of(64));
        Ending {
            activation: activation_number(self.epilogue.activation),
            through: self.through.into(),
            paired: paired.into(),
            whole_counters: whole_counters.into(),
        }
    }

    /// Adds the arguments that say where the elements go.
    fn targets<'l>(&self, launch: Launch<'l>) -> Launch<'l> {
        launch
            .optional(self.epilogue.bias)
            .optional(self.epilogue.residual)
            .optional(self.derivative)
            .tensor(self.y)
    }
}

impl Product<'_> {
    fn launch(&self, backend: &CudaBackend, output: &Output<'_>) -> Result<()> {
        let [m, n, k] = self.sizes;
        if self.batch * m * n == 0 {
            return Ok(());
        }
        let dtype = self.a.tensor.dtype();
        let kind = match (dtype, backend.matmul_precision()) {
            (DType::F32, MatmulPrecision::Full) => "f32",
            (DType::F32, MatmulPrecision::Tf32) => "tf32",
            (DType::BF16, _) => "bf16",
            _ => return Err(Error::DType { op: self.op, dtype, expected: "f32 or bf16 on CUDA" }),
        };
        let cut = Cut::of(self.sizes, self.batch);
        // The kernels write elements of their own type: others come from the sums.
        let in_parts = cut.parts > 1 || output.y.dtype() != dtype;
        let partials = match in_parts {
            true => Some(backend.scratch(cut.parts * m * n * size_of::<f32>())?),
            false => None,
        };
        let partials = partials.as_ref().map_or(0, |block| block.address());
        let [batch, m, n, k, part] = sizes(backend, self.op, [self.batch, m, n, k, cut.part])?;
        let argument = ProductArgument {
            m,
            n,
            k,
            part,
            a_stride: self.a.stride as u32,
            b_stride: self.b.stride as u32,
            a_aligned: self.a.is_aligned().into(),
            b_aligned: self.b.is_aligned().into(),
            a_batch: self.a.batch as u64,
            b_batch: self.b.batch as u64,
        };
        let (ending, dropout) =
            (output.ending(n as usize), DropoutArgument::new(output.epilogue.dropout, output.y));
        let layout = match (self.a.along_k, self.b.along_k) {
            (true, true) => "nt",
            (true, false) => "nn",
            (false, false) => "tn",
            (false, true) => unreachable!("`matmul` has a kernel of its own for it"),
        };
        let tiles = blocks(backend, cut.tiles)?;
        let launch = backend
            .launch(self.op, &format!("product_{layout}_{}_{kind}", cut.tile))?
            .moves(&[self.a.tensor, self.b.tensor])
            .computes(operations([batch, m, n, k]))
            .grid([tiles, cut.parts as u32, batch])
            .threads(PRODUCT_THREADS)
            .tensor(self.a.tensor)
            .tensor(self.b.tensor);
        let launch = if in_parts { launch } else { launch.moves(&output.tensors()) };
        let launch = output.targets(launch).value(partials);
        launch.value(argument).value(ending).value(dropout).launch()?;
        if !in_parts {
            return Ok(());
        }
        let launch = backend
            .launch(self.op, &format!("product_parts_{}", output.y.dtype()))?
            .moves(&output.tensors())
            .over(u64::from(m) * u64::from(n))
            .value(partials)
            .value(cut.parts as u32);
        output.targets(launch).value(m).value(n).value(ending).value(dropout).launch()
    }
}

/// Threads of a block of `kernels/product_*.cu`.
const PRODUCT_THREADS: u32 = 128;

/// How a product is cut into blocks. It depends on the sizes alone, so the order of the sums is the same on every card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// Rows and columns of a block's tile.
    tile: usize,
    tiles: usize,
    /// How many parts k is cut into, and how long they are.
    parts: usize,
    part: usize,
}

impl Cut {
    /// About as many blocks of the larger tile as cards can run at once: two on each of 100 to 150 multiprocessors.
    const BLOCKS: usize = 256;
    /// With fewer blocks than this, smaller tiles are better than idle multiprocessors.
    const FEW_BLOCKS: usize = 128;
    /// k of one part at the least: to write and read partial sums takes time too.
    const PART: usize = 512;
    /// A multiple of all kernels' steps along k.
    const STEP: usize = 32;

    fn of(sizes: [usize; 3], batch: usize) -> Self {
        let large = Self::with_tile(128, sizes, batch);
        match large.tiles * large.parts * batch < Self::FEW_BLOCKS {
            true => Self::with_tile(64, sizes, batch),
            false => large,
        }
    }

    fn with_tile(tile: usize, [m, n, k]: [usize; 3], batch: usize) -> Self {
        let tiles = m.div_ceil(tile) * n.div_ceil(tile);
        let wanted = if batch > 1 { 1 } else { Self::BLOCKS / tiles.max(1) };
        let parts = wanted.min(k / Self::PART).max(1);
        let part = k.div_ceil(parts).next_multiple_of(Self::STEP).max(Self::STEP);
        Self { tile, tiles, parts: k.div_ceil(part).max(1), part }
    }
}

/// Sizes, as `Product` in `kernels/product.cuh`. The strides are in elements.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct ProductArgument {
    m: u32,
    n: u32,
    k: u32,
    part: u32,
    a_stride: u32,
    b_stride: u32,
    a_aligned: u32,
    b_aligned: u32,
    a_batch: u64,
    b_batch: u64,
}

/// What happens to each element, as `Ending` in `kernels/epilogue.cuh`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Ending {
    activation: u32,
    through: u32,
    paired: u32,
    whole_counters: u32,
}

/// Sizes and strides, as `Strided` in `kernels/matmul.cu`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Strided {
    batch: u32,
    m: u32,
    n: u32,
    k: u32,
    a: [u64; 3],
    b: [u64; 3],
}

/// Multiplications and additions.
fn operations(sizes: [u32; 4]) -> u64 {
    2 * sizes.map(u64::from).iter().product::<u64>()
}

/// Sizes as the kernels count.
pub(super) fn sizes<const N: usize>(
    backend: &CudaBackend,
    op: &'static str,
    sizes: [usize; N],
) -> Result<[u32; N]> {
    match sizes.iter().any(|&size| size > i32::MAX as usize) {
        true => Err(backend.error(op, format!("{sizes:?}: no size may exceed 2^31 − 1"))),
        false => Ok(sizes.map(|size| size as u32)),
    }
}

impl Products for CudaBackend {
    fn linear(
        &self,
        x: &Tensor,
        w: &Tensor,
        epilogue: &Epilogue<'_>,
        derivative: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<()> {
        let &[outputs, inputs] = w.shape() else { unreachable!("`ops` gives a matrix") };
        let product = Product {
            op: "linear",
            sizes: [y.elements() / outputs.max(1), outputs, inputs],
            batch: 1,
            a: Matrix::along_k(x, inputs),
            b: Matrix::along_k(w, inputs),
        };
        product.launch(self, &Output { epilogue: *epilogue, derivative, through: false, y })
    }

    fn linear_grad_input(&self, dy: &Tensor, w: &Tensor, dx: &Tensor) -> Result<()> {
        let &[outputs, inputs] = w.shape() else { unreachable!("`ops` gives a matrix") };
        let product = Product {
            op: "linear_grad_input",
            sizes: [dx.elements() / inputs.max(1), inputs, outputs],
            batch: 1,
            a: Matrix::along_k(dy, outputs),
            b: Matrix::across_k(w, inputs),
        };
        product.launch(self, &Output::plain(dx))
    }

    fn linear_grad_activated(
        &self,
        dy: &Tensor,
        w: &Tensor,
        derivative: &Tensor,
        dpre: &Tensor,
    ) -> Result<()> {
        let &[outputs, inputs] = w.shape() else { unreachable!("`ops` gives a matrix") };
        let product = Product {
            op: "linear_grad_activated",
            sizes: [dpre.elements() / inputs.max(1), inputs, outputs],
            batch: 1,
            a: Matrix::along_k(dy, outputs),
            b: Matrix::across_k(w, inputs),
        };
        let derivative = Some(derivative);
        product.launch(self, &Output { derivative, through: true, ..Output::plain(dpre) })
    }

    fn linear_grad_weight(
        &self,
        dy: &Tensor,
        x: &Tensor,
        dw: &Tensor,
        db: Option<&Tensor>,
    ) -> Result<()> {
        let &[outputs, inputs] = dw.shape() else { unreachable!("`ops` gives a matrix") };
        let product = Product {
            op: "linear_grad_weight",
            sizes: [outputs, inputs, dy.elements() / outputs.max(1)],
            batch: 1,
            a: Matrix::across_k(dy, outputs),
            b: Matrix::across_k(x, inputs),
        };
        // What is there is added as a residual is: each element is read and written by one thread.
        let epilogue = Epilogue { residual: Some(dw), ..Epilogue::default() };
        product.launch(self, &Output { epilogue, ..Output::plain(dw) })?;
        db.map_or(Ok(()), |db| add_columns(self, product.op, dy, db))
    }

    fn matmul(&self, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<()> {
        let op = "matmul";
        let (&[batch, m, k], &[_, _, n]) = (a.shape(), b.shape()) else {
            unreachable!("`ops` gives batches of matrices")
        };
        let (left, right) = (Matrix::of(a, [1, 2]), Matrix::of(b, [2, 1]));
        if let (Some(a), Some(b)) = (left, right)
            && (a.along_k || !b.along_k)
            && batch <= MOST_IN_GRID
        {
            let product = Product { op, sizes: [m, n, k], batch, a, b };
            return product.launch(self, &Output::plain(c));
        }
        let strides = |t: &Tensor| [0, 1, 2].map(|axis| t.strides()[axis] as u64);
        let [batch, m, n, k] = sizes(self, op, [batch, m, n, k])?;
        let strided = Strided { batch, m, n, k, a: strides(a), b: strides(b) };
        let tiles = (m as usize).div_ceil(32) * (n as usize).div_ceil(32);
        self.launch_for(op, c.dtype())?
            .moves(&[a, b, c])
            .computes(operations([batch, m, n, k]))
            .grid([blocks(self, tiles)?, 1, batch.min(MOST_IN_GRID as u32)])
            .tensor(a)
            .tensor(b)
            .tensor(c)
            .value(strided)
            .launch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_products_have_large_tiles_and_long_sums_are_cut() {
        let cut = |sizes| {
            let Cut { tile, tiles, parts, part } = Cut::of(sizes, 1);
            (tile, tiles, parts, part)
        };
        // The products of a training step of 128 images, 37 tokens each, width 512.
        assert_eq!(cut([4736, 1536, 512]), (128, 37 * 12, 1, 512));
        assert_eq!(cut([4736, 512, 2048]), (128, 37 * 4, 1, 2048));
        assert_eq!(cut([1536, 512, 4736]), (128, 12 * 4, 5, 960));
        assert_eq!(cut([512, 512, 4736]), (128, 4 * 4, 9, 544));
        assert_eq!(cut([10, 512, 128]), (64, 8, 1, 128));
        // One image.
        assert_eq!(cut([37, 512, 512]), (64, 8, 1, 512));
        assert_eq!(cut([37, 512, 2048]), (64, 8, 4, 512));
    }

    #[test]
    fn every_k_is_in_one_part() {
        for k in (0..6000).step_by(37).chain([1, 31, 32, 33, 511, 512, 1024]) {
            for [m, n] in [[1, 1], [64, 64], [300, 40], [2000, 3000]] {
                let cut = Cut::of([m, n, k], 1);
                assert!(
                    cut.parts * cut.part >= k && cut.part.is_multiple_of(Cut::STEP),
                    "{k} {cut:?}"
                );
                assert!(cut.parts == 1 || (cut.parts - 1) * cut.part < k, "{k} {cut:?}");
                assert!(cut.tiles * cut.parts <= Cut::BLOCKS.max(cut.tiles), "{cut:?}");
            }
        }
    }
}
