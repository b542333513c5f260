//! Mean cross-entropy with smoothed labels or with shares of classes, with its gradient; and labels that are no
//! classes, which only the device sees.

use parking_lot::Mutex;
use vitrine_tensor::backend::Losses;
use vitrine_tensor::{DType, Error, Result, Tensor};

use crate::backend::CudaBackend;
use crate::launch::Launch;
use crate::memory::DeviceBlock;

/// What the kernels found wrong with labels, until the host next waits for the device.
#[derive(Default)]
pub(crate) struct LabelFault(Mutex<Option<DeviceBlock>>);

/// Sample, label and number of classes, as the kernel writes them; no classes: nothing was wrong.
type Fault = [i64; 3];

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

/// The names of the kernels: for labels, and for shares of the classes.
fn named(targets: &Tensor, names: [&'static str; 2]) -> &'static str {
    if targets.dtype() == DType::I64 { names[0] } else { names[1] }
}

/// The arguments for the targets. With labels these are what the label's class has more than the others, and what each
/// has.
fn with_targets<'a>(
    launch: Launch<'a>,
    targets: &Tensor,
    smoothing: f64,
    classes: usize,
) -> Launch<'a> {
    let launch = launch.tensor(targets);
    match targets.dtype() {
        DType::I64 => {
            launch.value((1.0 - smoothing) as f32).value((smoothing / classes as f64) as f32)
        }
        _ => launch,
    }
}

impl Losses for CudaBackend {
    fn cross_entropy(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()> {
        let op = named(targets, ["cross_entropy", "soft_target_cross_entropy"]);
        let &[rows, classes] = logits.shape() else { unreachable!("`ops` gives [B, K]") };
        let losses = self.scratch(rows * size_of::<f32>())?;
        let launch = self.launch_for(op, logits.dtype())?.moves(&[logits, targets]);
        with_targets(launch.over_rows(rows).tensor(logits), targets, smoothing, classes)
            .value(losses.address())
            .value(rows as u64)
            .value(classes as u32)
            .launch()?;
        // Labels that are no classes are noted.
        let labels = Some(targets).filter(|targets| targets.dtype() == DType::I64);
        let mut fault = self.label_fault().0.lock();
        if labels.is_some() && fault.is_none() {
            let block = self.scratch(size_of::<Fault>())?;
            self.upload_to(block.address(), bytemuck::bytes_of(&Fault::default()))?;
            *fault = Some(block);
        }
        let fault = fault.as_ref().filter(|_| labels.is_some()).map_or(0, DeviceBlock::address);
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

    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()> {
        let op = named(targets, ["cross_entropy_grad", "soft_target_cross_entropy_grad"]);
        let &[rows, classes] = logits.shape() else { unreachable!("`ops` gives [B, K]") };
        let launch = self.launch_for(op, logits.dtype())?.moves(&[logits, targets, dlogits]);
        with_targets(launch.over_rows(rows).tensor(logits), targets, smoothing, classes)
            .tensor(dloss)
            .tensor(dlogits)
            .value(rows as u64)
            .value(classes as u32)
            .launch()
    }
}
