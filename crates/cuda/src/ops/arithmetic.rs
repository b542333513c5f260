//! Element-wise arithmetic, sums over an axis, and sums over rows that are added to a gradient.

use vitrine_tensor::backend::{Arithmetic, Binary};
use vitrine_tensor::{DType, Result, Tensor};

use crate::arguments::Walk;
use crate::backend::CudaBackend;
use crate::memory::DeviceBlock;

/// Columns that a block of threads sums.
const COLUMNS: usize = 32;
/// Rows that a partial sum covers. It depends on no property of the card, so neither does the result.
pub(crate) const ROWS: usize = 64;

/// `to [O] += Σ` over the rows of `from [.., O]`. `to` may be `f32` where `from` is `bf16`.
pub(crate) fn add_columns(
    backend: &CudaBackend,
    op: &'static str,
    from: &Tensor,
    to: &Tensor,
) -> Result<()> {
    let (rows, columns) = (from.rows(), to.elements());
    let partial = backend.scratch(rows.div_ceil(ROWS) * columns * size_of::<f32>())?;
    backend
        .launch(op, &float_kernel("column_sums", from.dtype())?)?
        .moves(&[from])
        .grid([blocks(backend, rows.div_ceil(ROWS) * columns.div_ceil(COLUMNS))?, 1, 1])
        .tensor(from)
        .value(partial.address())
        .value(rows as u64)
        .value(columns as u32)
        .value(ROWS as u32)
        .launch()?;
    add_partial(backend, op, &partial, [rows.div_ceil(ROWS), columns], 0, to)
}

/// `to += Σ_i partial[i, first + ..]` for `partial [count, stride]` of `f32`, in order.
pub(crate) fn add_partial(
    backend: &CudaBackend,
    op: &'static str,
    partial: &DeviceBlock,
    [count, stride]: [usize; 2],
    first: usize,
    to: &Tensor,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    backend
        .launch(op, &float_kernel("add_partial", to.dtype())?)?
        .moves(&[to, to])
        .over(to.elements() as u64)
        .value(partial.address() + (first * size_of::<f32>()) as u64)
        .value(count as u32)
        .value(stride as u32)
        .tensor(to)
        .value(to.elements() as u32)
        .launch()
}

/// The kernel of a step of an operation, by element type.
pub(crate) fn float_kernel(name: &'static str, dtype: DType) -> Result<String> {
    match dtype {
        DType::F32 | DType::BF16 => Ok(format!("{name}_{dtype}")),
        _ => Err(vitrine_tensor::Error::DType { op: name, dtype, expected: "f32 or bf16 on CUDA" }),
    }
}

/// A number of blocks along the first axis of a grid.
pub(crate) fn blocks(backend: &CudaBackend, count: usize) -> Result<u32> {
    let most = i32::MAX as usize;
    match count {
        0..=0x7fff_ffff => Ok(count as u32),
        _ => Err(backend.error("launch", format!("{count} blocks; a grid has {most} at most"))),
    }
}

impl Arithmetic for CudaBackend {
    fn add_scaled(&self, from: &Tensor, factor: f64, to: &Tensor) -> Result<()> {
        let elements = to.elements() as u64;
        self.launch_for("add_scaled", to.dtype())?
            .moves(&[from, to, to])
            .over(elements)
            .tensor(from)
            .value(factor as f32)
            .tensor(to)
            .value(elements)
            .launch()
    }

    fn binary(&self, op: Binary, a: &Tensor, b: &Tensor, to: &Tensor) -> Result<()> {
        let walk = Walk::new("binary", to.shape(), &[a.strides(), b.strides(), to.strides()])?;
        let number: u32 = match op {
            Binary::Add => 0,
            Binary::Sub => 1,
            Binary::Mul => 2,
            Binary::Div => 3,
        };
        self.launch_for("binary", to.dtype())?
            .moves(&[a, b, to])
            .over(walk.elements())
            .value(number)
            .tensor(a)
            .tensor(b)
            .tensor(to)
            .value(walk)
            .launch()
    }

    fn sum(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        let &[outer, reduced, inner] = from.shape() else { unreachable!("`ops` gives three axes") };
        let kernel = |name| {
            let kernel = float_kernel(name, from.dtype())?;
            let wide = from.dtype() != to.dtype();
            Ok::<_, vitrine_tensor::Error>(if wide {
                format!("{kernel}_{}", to.dtype())
            } else {
                kernel
            })
        };
        if inner == 1 {
            let launch =
                self.launch("sum", &kernel("sum_last")?)?.grid([blocks(self, outer)?, 1, 1]);
            return launch
                .moves(&[from, to])
                .tensor(from)
                .tensor(to)
                .value(reduced as u64)
                .launch();
        }
        self.launch("sum", &kernel("sum")?)?
            .moves(&[from, to])
            .grid([blocks(self, outer * inner.div_ceil(COLUMNS))?, 1, 1])
            .tensor(from)
            .tensor(to)
            .value(reduced as u64)
            .value(inner as u32)
            .launch()
    }
}
