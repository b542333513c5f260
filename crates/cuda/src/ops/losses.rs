//! Mean cross-entropy with smoothed labels or with shares of classes, with its gradient; and labels that are no
//! classes, which only the device sees.

use parking_lot::Mutex;
use vitrine_tensor::backend::Losses;
use vitrine_tensor::{Error, Result, Tensor};

use crate::backend::CudaBackend;
use crate::memory::DeviceBlock;

/// What the kernels found wrong with labels, until the host next waits for the device.
#[derive(Default)]
pub(crate) struct LabelFault(Mutex<Option<DeviceBlock>>);

/// Sample, label and number of classes, as the kernel writes them; no classes: nothing was wrong.
type Fault = [i64; 3];

/// What the label's class has more than the others in the target, and what each has.
fn targets(smoothing: f64, classes: usize) -> (f32, f32) {
    ((1.0 - smoothing) as f32, (smoothing / classes as f64) as f32)
}

/// An error if a label was no class since this was last asked. For calls that wait for the device anyhow.
pub(crate) fn check_labels(backend: &CudaBackend) -> Result<()> {
    // Without a block no loss was computed since.
    let Some(block) = backend.label_fault().0.lock().take() else { return Ok(()) };
    let mut fault = Fault::default();
    backend.download_from(block.address(), bytemuck::bytes_of_mut(&mut fault))?;
    match fault {
        [_, _, 0] => Ok(()),
        [sample, label, classes] => {
            Err(Error::Label { sample: sample as usize, label, classes: classes as usize })
        }
    }
}

impl CudaBackend {
    /// The mean of the losses of all rows. With `labels`, those that are no classes are noted at `fault`.
    fn mean_loss(
        &self,
        op: &'static str,
        losses: &DeviceBlock,
        labels: Option<&Tensor>,
        fault: u64,
        [rows, classes]: [usize; 2],
        loss: &Tensor,
    ) -> Result<()> {
        self.launch(op, "cross_entropy_mean")?
            .grid([1; 3])
            .value(losses.address())
            .optional(labels)
            .tensor(loss)
            .value(fault)
            .value(rows as u64)
            .value(classes as u32)
            .launch()
    }
}

impl Losses for CudaBackend {
    fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()> {
        const OP: &str = "cross_entropy";
        let &[rows, classes] = logits.shape() else { unreachable!("`ops` gives [B, K]") };
        let losses = self.scratch(rows * size_of::<f32>())?;
        let (hit, spread) = targets(smoothing, classes);
        self.launch_for(OP, logits.dtype())?
            .moves(&[logits, labels])
            .over_rows(rows)
            .tensor(logits)
            .tensor(labels)
            .value(hit)
            .value(spread)
            .value(losses.address())
            .value(rows as u64)
            .value(classes as u32)
            .launch()?;
        let mut fault = self.label_fault().0.lock();
        if fault.is_none() {
            let block = self.scratch(size_of::<Fault>())?;
            self.upload_to(block.address(), bytemuck::bytes_of(&Fault::default()))?;
            *fault = Some(block);
        }
        let fault = fault.as_ref().map_or(0, DeviceBlock::address);
        self.mean_loss(OP, &losses, Some(labels), fault, [rows, classes], loss)
    }

    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()> {
        let &[rows, classes] = logits.shape() else { unreachable!("`ops` gives [B, K]") };
        let (hit, spread) = targets(smoothing, classes);
        self.launch_for("cross_entropy_grad", logits.dtype())?
            .moves(&[logits, labels, dlogits])
            .over_rows(rows)
            .tensor(logits)
            .tensor(labels)
            .value(hit)
            .value(spread)
            .tensor(dloss)
            .tensor(dlogits)
            .value(rows as u64)
            .value(classes as u32)
            .launch()
    }

    fn soft_target_cross_entropy(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        loss: &Tensor,
    ) -> Result<()> {
        const OP: &str = "soft_target_cross_entropy";
        let &[rows, classes] = logits.shape() else { unreachable!("`ops` gives [B, K]") };
        let losses = self.scratch(rows * size_of::<f32>())?;
        self.launch_for(OP, logits.dtype())?
            .moves(&[logits, targets])
            .over_rows(rows)
            .tensor(logits)
            .tensor(targets)
            .value(losses.address())
            .value(rows as u64)
            .value(classes as u32)
            .launch()?;
        self.mean_loss(OP, &losses, None, 0, [rows, classes], loss)
    }

    fn soft_target_cross_entropy_grad(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()> {
        let &[rows, classes] = logits.shape() else { unreachable!("`ops` gives [B, K]") };
        self.launch_for("soft_target_cross_entropy_grad", logits.dtype())?
            .moves(&[logits, targets, dlogits])
            .over_rows(rows)
            .tensor(logits)
            .tensor(targets)
            .tensor(dloss)
            .tensor(dlogits)
            .value(rows as u64)
            .value(classes as u32)
            .launch()
    }
}
