//! Attention and its gradients: which kernels serve (`kernels/attention.cu`, `kernels/attention_mma.cu`), in how many
//! blocks.

use bytemuck::NoUninit;
use vitrine_tensor::backend::{Attention, AttentionGrads, AttentionInputs, Attentions, InputGrads};
use vitrine_tensor::{DType, Result, Tensor};

use super::arithmetic::{blocks, float_kernel};
use crate::arguments::DropoutArgument;
use crate::backend::CudaBackend;
use crate::launch::Launch;
use crate::memory::address;

/// A tensor `[B, N, D]`, or some columns of one, as `Rows` in `kernels/attention.cuh`. The strides are in elements.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Rows {
    start: u64,
    image_stride: u64,
    token_stride: u64,
}

impl Rows {
    fn new(tensor: &Tensor) -> Self {
        Self::from_column(tensor, 0)
    }

    /// The columns from `column` on.
    fn from_column(tensor: &Tensor, column: usize) -> Self {
        Self {
            start: address(tensor) + (column * tensor.dtype().size()) as u64,
            image_stride: tensor.strides()[0] as u64,
            token_stride: tensor.strides()[1] as u64,
        }
    }

    /// Whether each row begins at a multiple of `elements` elements, so that as many can be read at once.
    fn is_aligned(&self, elements: u64, dtype: DType) -> bool {
        self.start.is_multiple_of(elements * dtype.size() as u64)
            && self.image_stride.is_multiple_of(elements)
            && self.token_stride.is_multiple_of(elements)
    }
}

/// Sizes and options, as `Attention` in `kernels/attention.cuh`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct AttentionArgument {
    valid_lens: u64,
    bias: u64,
    score_grads: u64,
    groups: u64,
    queries: u32,
    keys: u32,
    heads: u32,
    width: u32,
    scale: f32,
    vectors: u32,
    dropout: DropoutArgument,
}

/// A family of kernels. The choice depends on sizes, alignment, and whether there is a bias alone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    /// Any width and alignment, with a bias or without, in parts of so many columns of a head.
    General(usize),
    /// Tensor cores, for heads of up to so many columns.
    TensorCores(usize),
}

impl Family {
    /// The kernels for heads of `width` columns in `rows`.
    fn of(dtype: DType, width: usize, rows: &[Rows], has_bias: bool) -> Self {
        let widths = [32, 64, 96, 128];
        let aligned = rows.iter().all(|rows| rows.is_aligned(8, dtype));
        let fits = dtype == DType::BF16 && aligned && width.is_multiple_of(16) && !has_bias;
        match widths.into_iter().find(|&most| width <= most) {
            Some(most) if fits => Self::TensorCores(most),
            _ => Self::General(if width <= 32 { 32 } else { 64 }),
        }
    }

    /// What stands between a kernel's name and the element type.
    fn suffix(self) -> String {
        match self {
            Self::General(columns) => format!("w{columns}"),
            Self::TensorCores(columns) => format!("mma_w{columns}"),
        }
    }

    /// Blocks for the `tokens` rows of one head's scores.
    fn blocks(self, tokens: usize, width: usize) -> usize {
        match self {
            Self::General(columns) => tokens.div_ceil(32) * width.div_ceil(columns),
            Self::TensorCores(_) => tokens.div_ceil(64),
        }
    }
}

/// One call: its sizes, and the kernels that serve it.
struct Plan<'a> {
    backend: &'a CudaBackend,
    op: &'static str,
    dtype: DType,
    batch: usize,
    family: Family,
    argument: AttentionArgument,
    /// Queries, keys, values, and what else the kernels read.
    rows: Vec<Rows>,
}

impl<'a> Plan<'a> {
    fn new(
        backend: &'a CudaBackend,
        op: &'static str,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        dy: Option<&Tensor>,
        written: &[Rows],
    ) -> Result<Self> {
        let AttentionInputs { query, key, value } = inputs;
        let (dtype, width) = (query.dtype(), query.shape()[2] / attention.heads);
        let sizes = [query.shape()[1], key.shape()[1], attention.heads, width];
        if sizes.iter().any(|&size| size > i32::MAX as usize) {
            return Err(backend.error(op, format!("{sizes:?}: no size may exceed 2^31 − 1")));
        }
        let read = [*query, *key, *value].into_iter().chain(dy);
        let rows: Vec<_> = read.map(Rows::new).collect();
        let vectors = width.is_multiple_of(4) && rows.iter().all(|r| r.is_aligned(4, dtype));
        let [queries, keys, heads, head_width] = sizes.map(|size| size as u32);
        let argument = AttentionArgument {
            valid_lens: attention.valid_lens.map_or(0, address),
            bias: attention.bias.map_or(0, address),
            score_grads: 0,
            groups: attention.bias.map_or(1, |bias| bias.shape()[0]) as u64,
            queries,
            keys,
            heads,
            width: head_width,
            scale: (1.0 / (width as f64).sqrt()) as f32,
            vectors: vectors.into(),
            // A weight's index is computed by the kernels, whatever a sample is.
            dropout: DropoutArgument::of_samples(attention.dropout, 1),
        };
        let all = [&rows, written].concat();
        let family = Family::of(dtype, width, &all, attention.bias.is_some());
        Ok(Self { backend, op, dtype, batch: query.shape()[0], family, argument, rows })
    }

    /// A launch for the `tokens` rows of the scores, with the arguments that all kernels have. It computes `products`
    /// products of the scores' size.
    fn launch(&self, name: &'static str, tokens: u32, products: u64) -> Result<Launch<'a>> {
        let AttentionArgument { queries, keys, heads, width, .. } = self.argument;
        let per_head = self.family.blocks(tokens as usize, width as usize);
        let columns = self.batch as u64 * u64::from(heads) * u64::from(width);
        let kernel = float_kernel(name, self.dtype)?;
        let launch = self
            .backend
            .launch(self.op, &format!("{kernel}_{}", self.family.suffix()))?
            .grid([blocks(self.backend, self.batch * heads as usize * per_head)?, 1, 1])
            .computes(2 * products * columns * u64::from(queries) * u64::from(keys))
            .value(self.argument);
        Ok(self.rows.iter().fold(launch, |launch, &rows| launch.value(rows)))
    }
}

impl Attentions for CudaBackend {
    fn attention(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
    ) -> Result<()> {
        let written = Rows::new(y);
        let plan = Plan::new(self, "attention", inputs, attention, None, &[written])?;
        plan.launch("attention", plan.argument.queries, 2)?
            .moves(&[inputs.query, inputs.key, inputs.value, y])
            .moves(attention.bias.as_slice())
            .value(written)
            .tensor(log_sums)
            .launch()
    }

    fn attention_grad(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
        dy: &Tensor,
        grads: &AttentionGrads<'_>,
    ) -> Result<()> {
        const OP: &str = "attention_grad";
        let columns = y.shape()[2];
        let written = match grads.inputs {
            InputGrads::Packed(all) => [0, 1, 2].map(|part| Rows::from_column(all, part * columns)),
            InputGrads::Split(dq, dkv) => {
                [Rows::new(dq), Rows::new(dkv), Rows::from_column(dkv, columns)]
            }
        };
        let mut plan = Plan::new(self, OP, inputs, attention, Some(dy), &written)?;
        plan.argument.score_grads = grads.scores.map_or(0, address);
        let AttentionArgument { queries, keys, heads, width, .. } = plan.argument;
        let [dq, dk, dv] = written;
        let AttentionInputs { query, key, value } = *inputs;
        let count = if y.elements() == 0 { 0 } else { log_sums.elements() };
        let dots = self.scratch(count * size_of::<f32>())?;
        self.launch(OP, &float_kernel("attention_dots", plan.dtype)?)?
            .over_rows(count)
            .moves(&[y, dy])
            .tensor(y)
            .tensor(dy)
            .value(dots.address())
            .value(count as u64)
            .value(queries)
            .value(heads)
            .value(width)
            .launch()?;
        plan.launch("attention_grad_queries", queries, 3)?
            .moves(&[query, key, value, dy, query])
            .moves(attention.bias.as_slice())
            .moves(grads.scores.as_slice())
            .tensor(log_sums)
            .value(dots.address())
            .value(dq)
            .launch()?;
        plan.launch("attention_grad_keys", keys, 4)?
            .moves(&[query, key, value, dy, key, value])
            .moves(attention.bias.as_slice())
            .tensor(log_sums)
            .value(dots.address())
            .value(dk)
            .value(dv)
            .launch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(start: u64, image_stride: u64, token_stride: u64) -> Rows {
        Rows { start, image_stride, token_stride }
    }

    #[test]
    fn tensor_cores_serve_aligned_heads_of_sixteens_without_a_bias() {
        let packed = [rows(512, 37 * 1536, 1536), rows(512 + 1024, 37 * 1536, 1536)];
        let family = |dtype, width| Family::of(dtype, width, &packed, false);
        assert_eq!(family(DType::BF16, 64), Family::TensorCores(64));
        assert_eq!(family(DType::BF16, 16), Family::TensorCores(32));
        assert_eq!(family(DType::BF16, 80), Family::TensorCores(96));
        assert_eq!(family(DType::BF16, 128), Family::TensorCores(128));
        assert_eq!(family(DType::BF16, 8), Family::General(32));
        assert_eq!(family(DType::BF16, 72), Family::General(64));
        assert_eq!(family(DType::BF16, 144), Family::General(64));
        assert_eq!(family(DType::F32, 64), Family::General(64));
        assert_eq!(Family::of(DType::BF16, 64, &packed, true), Family::General(64));
    }

    #[test]
    fn rows_between_vectors_go_the_general_way() {
        for unaligned in [rows(2, 64, 64), rows(0, 65, 64), rows(0, 64, 68)] {
            let rows = [rows(0, 64, 64), unaligned];
            assert_eq!(Family::of(DType::BF16, 64, &rows, false), Family::General(64));
        }
    }

    #[test]
    fn wide_heads_take_a_block_for_each_part() {
        assert_eq!(Family::General(64).blocks(65, 130), 3 * 3);
        assert_eq!(Family::General(32).blocks(0, 7), 0);
        assert_eq!(Family::TensorCores(64).blocks(65, 64), 2);
    }
}
