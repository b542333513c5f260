//! Which parameters an optimizer of matrices updates as one, and what it does with the others.

use vitrine_tensor::backend::SgdStep;
use vitrine_tensor::{ParameterGroup, Tensor};

use crate::error::Result;
use crate::parameters::{ParameterInfo, Parameters};

/// A parameter as a matrix `[rows, columns]`; a convolution's is `[out, in · kernel]`.
pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) shape: [usize; 2],
    pub(super) group: ParameterGroup,
}

/// The matrices among the parameters that are trained, and the groups for AdamW, which leaves them alone.
pub(super) fn parted(parameters: &Parameters) -> (Vec<Matrix>, Vec<ParameterGroup>) {
    let mut matrices = Vec::new();
    let groups = parameters.infos().iter().map(|info| {
        let matrix = matrix(info);
        let frozen = info.group.frozen || matrix.is_some();
        matrices.extend(matrix.filter(|matrix| !matrix.group.frozen));
        ParameterGroup { frozen, ..info.group.clone() }
    });
    let groups = groups.collect();
    (matrices, groups)
}

/// timm's rule for Muon: at least two axes, the first two longer than 1, no side shorter than 4, none over 128 times
/// the other. Beside it, weight decay applies: tables of positions are no matrices.
fn matrix(info: &ParameterInfo) -> Option<Matrix> {
    let &[rows, second, ref rest @ ..] = info.shape.as_slice() else { return None };
    let columns = second * rest.iter().product::<usize>();
    let (short, long) = (rows.min(columns), rows.max(columns));
    let fits = rows > 1 && second > 1 && short >= 4 && long <= 128 * short && info.group.decay;
    let (name, group) = (info.name.clone(), info.group.clone());
    fits.then_some(Matrix { name, shape: [rows, columns], group })
}

impl Matrix {
    /// This matrix's part of a buffer that is laid out as the parameters.
    pub(super) fn of(&self, flat: &Tensor) -> Result<Tensor> {
        let range = &self.group.range;
        Ok(flat.narrow(0, range.start, range.len())?.reshape(&self.shape)?)
    }

    /// `w −= rate·(scale·direction + decay·w)`, with the rate and the decay of this matrix.
    pub(super) fn update(
        &self,
        values: &Tensor,
        direction: &Tensor,
        scale: f64,
        learning_rate: f64,
        weight_decay: f64,
    ) -> Result<()> {
        let step = SgdStep {
            learning_rate: learning_rate * self.group.rate_scale * scale,
            momentum: 0.0,
            nesterov: false,
            weight_decay: weight_decay / scale,
        };
        Ok(self.of(values)?.sgd_(direction, None, &step, &[])?)
    }
}
