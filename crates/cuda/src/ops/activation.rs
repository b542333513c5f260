//! Activations and dropout over dense tensors, with their gradients.

use vitrine_tensor::backend::{Activation, Activations};
use vitrine_tensor::{Dropout, Result, Tensor};

use crate::arguments::{DropoutArgument, activation_number};
use crate::backend::CudaBackend;

impl Activations for CudaBackend {
    fn activate(&self, x: &Tensor, activation: Activation, y: &Tensor) -> Result<()> {
        let elements = y.elements() as u64;
        self.launch_for("activate", y.dtype())?
            .moves(&[x, y])
            .over(elements)
            .tensor(x)
            .value(activation_number(Some(activation)))
            .tensor(y)
            .value(elements)
            .launch()
    }

    fn activate_grad(
        &self,
        x: &Tensor,
        activation: Activation,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let elements = dx.elements() as u64;
        self.launch_for("activate_grad", dx.dtype())?
            .moves(&[x, dy, dx])
            .over(elements)
            .tensor(x)
            .value(activation_number(Some(activation)))
            .tensor(dy)
            .tensor(dx)
            .value(elements)
            .launch()
    }

    fn dropout(&self, x: &Tensor, dropout: Dropout, y: &Tensor) -> Result<()> {
        self.launch_for("dropout", y.dtype())?
            .moves(&[x, y])
            .over_masked(y.elements())
            .tensor(x)
            .value(DropoutArgument::new(Some(dropout), x))
            .tensor(y)
            .value(y.elements() as u64)
            .launch()
    }
}
