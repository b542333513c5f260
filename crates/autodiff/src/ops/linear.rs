//! The linear layer with its epilogue, and the matrix product.

use vitrine_tensor::{Dropout, Epilogue, Tensor};

use super::Rule;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// Saves input and weight, and what the gradient needs of what came after the product.
pub(crate) struct Linear {
    x: Tensor,
    weight: Tensor,
    after: After,
    has_bias: bool,
    has_residual: bool,
}

/// What came between the product and the residual.
enum After {
    Nothing,
    /// The mask is drawn again.
    Dropout(Dropout),
    /// The derivative of an activation, mask included.
    Activation(Tensor),
}

impl Var {
    /// `y = residual + dropout(activation(x·wᵀ + bias))`: x `[.., I]`, weight `[O, I]`, y `[.., O]`.
    pub fn linear(&self, weight: &Self, epilogue: &Epilogue<'_, Self>) -> Result<Self> {
        let mut inputs = vec![self, weight];
        inputs.extend(epilogue.bias);
        inputs.extend(epilogue.residual);
        let values = epilogue.map(Self::value);
        let (value, derivative) = if inputs.iter().any(|input| input.needs_grad()) {
            self.value().linear_with_derivative(weight.value(), &values)?
        } else {
            (self.value().linear(weight.value(), &values)?, None)
        };
        let mut saved = vec![self.value(), weight.value()];
        saved.extend(derivative.as_ref());
        let after = match (&derivative, epilogue.dropout) {
            (Some(derivative), _) => After::Activation(derivative.clone()),
            (None, Some(dropout)) => After::Dropout(dropout),
            (None, None) => After::Nothing,
        };
        Self::record_rule("linear", value, &inputs, &saved, || {
            Rule::Linear(Box::new(Linear {
                x: self.value().clone(),
                weight: weight.value().clone(),
                after,
                has_bias: epilogue.bias.is_some(),
                has_residual: epilogue.residual.is_some(),
            }))
        })
    }

    /// The matrix product of the last two axes: `[.., M, K]` by `[.., K, N]`.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value().clone(), other.value().clone());
        let (value, saved) = (a.matmul(&b)?, [self.value(), other.value()]);
        Self::record("matmul", value, &[self, other], &saved, move |dy, inputs, flow| {
            let last = a.rank() - 1;
            flow.add_with(inputs[0], || dy.matmul(&b.transpose(last - 1, last)?))?;
            flow.add_product(inputs[1], &a, &dy)
        })
    }

    /// As [`Var::matmul`] with the transpose of `other`: `[.., M, K]` by `[.., N, K]`.
    pub fn matmul_transposed(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value().clone(), other.value().clone());
        let last = b.rank().max(2) - 1;
        let value = a.matmul(&b.transpose(last - 1, last)?)?;
        let saved = [self.value(), other.value()];
        Self::record("matmul_transposed", value, &[self, other], &saved, move |dy, inputs, flow| {
            flow.add_with(inputs[0], || dy.matmul(&b))?;
            flow.add_product(inputs[1], &dy, &a)
        })
    }
}

impl Linear {
    /// The derivative of the activation that made the result, if nothing was added to that: the gradient of a layer
    /// that takes it as input may then be given for the value before the activation, to [`Linear::backward_product`].
    pub(crate) fn derivative(&self) -> Option<&Tensor> {
        match &self.after {
            After::Activation(derivative) if !self.has_residual => Some(derivative),
            _ => None,
        }
    }

    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let dproduct = self.product_grad(&dy)?;
        if self.has_residual {
            flow.add(inputs[inputs.len() - 1], dy)?;
        }
        self.backward_product(dproduct, inputs, flow)
    }

    /// The gradient of the product, before what came after it.
    pub(crate) fn product_grad(&self, dy: &Tensor) -> Result<Tensor> {
        Ok(match &self.after {
            After::Activation(derivative) => dy.mul(derivative)?,
            After::Dropout(dropout) => dy.dropout(*dropout)?,
            After::Nothing => dy.clone(),
        })
    }

    /// As [`Linear::backward`], from the gradient of the product.
    pub(crate) fn backward_product(
        self,
        dproduct: Tensor,
        inputs: &Inputs,
        flow: &mut Flow,
    ) -> Result<()> {
        let bias = if self.has_bias { inputs[2] } else { None };
        let db = flow.accumulator(bias, &self.weight.shape()[..1], &self.weight)?;
        if let Some(dw) = flow.accumulator(inputs[1], self.weight.shape(), &self.weight)? {
            dproduct.linear_grad_weight_(&self.x, &dw, db.as_ref())?;
        } else if let Some(db) = db {
            db.add_scaled_(
                &dproduct.reshape(&[dproduct.rows(), db.elements()])?.sum_axis(0)?,
                1.0,
            )?;
        }
        match flow.derivative(inputs[0]) {
            Some(derivative) => {
                let dpre = dproduct.linear_grad_activated(&self.weight, derivative)?;
                flow.add_to_product(inputs[0], dpre)
            }
            None => flow.add_with(inputs[0], || dproduct.linear_grad_input(&self.weight)),
        }
    }
}
