//! What each kernel did, and for how long: counts of launches, bytes and operations, and times taken on the stream.

use std::collections::BTreeMap;

use cust::error::CudaResult;
use cust::event::{Event, EventFlags};
use cust::stream::Stream;

/// What a launch must do at the least, whatever the kernel: each input read and each output written once, and the
/// arithmetic of the formula. A kernel's floor on a card follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of the tensors read and written.
    pub bytes: u64,
    /// Floating-point operations, of products and attention only: elsewhere the bytes decide.
    pub operations: u64,
}

/// The figures of one kernel over all its launches.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelFigures {
    /// The kernel's name.
    pub kernel: String,
    /// How often it was launched.
    pub launches: u64,
    /// What all launches had to do.
    pub work: Work,
    /// The time between the launches' beginnings and ends on the device, in milliseconds. On the emulated device it
    /// says nothing.
    pub milliseconds: f64,
}

/// What is done with a launch that is profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profiling {
    /// It is run, between two events that take its time.
    Timed,
    /// It is counted and not run: what it would have written is left as it was.
    Counted,
}

/// Collects figures from launch to launch.
pub(crate) struct Profile {
    mode: Profiling,
    kernels: BTreeMap<String, KernelFigures>,
    /// Kernels whose end was not waited for yet, with the events around them.
    running: Vec<(String, Event, Event)>,
}

impl Profile {
    pub(crate) fn new(mode: Profiling) -> Self {
        Self { mode, kernels: BTreeMap::new(), running: Vec::new() }
    }

    /// Counts a launch, and does it with `launch` between two events.
    pub(crate) fn record(
        &mut self,
        kernel: &str,
        work: Work,
        stream: &Stream,
        launch: impl FnOnce() -> CudaResult<()>,
    ) -> CudaResult<()> {
        if self.mode == Profiling::Timed {
            let (begin, end) = (Event::new(EventFlags::DEFAULT)?, Event::new(EventFlags::DEFAULT)?);
            begin.record(stream)?;
            launch()?;
            end.record(stream)?;
            self.running.push((kernel.to_owned(), begin, end));
        }
        let figures = self.kernels.entry(kernel.to_owned()).or_insert_with(|| KernelFigures {
            kernel: kernel.to_owned(),
            launches: 0,
            work: Work::default(),
            milliseconds: 0.0,
        });
        figures.launches += 1;
        figures.work.bytes += work.bytes;
        figures.work.operations += work.operations;
        Ok(())
    }

    /// Waits for what is running; gives the figures, by kernel.
    pub(crate) fn finish(mut self) -> CudaResult<Vec<KernelFigures>> {
        for (kernel, begin, end) in self.running {
            end.synchronize()?;
            if let Some(figures) = self.kernels.get_mut(&kernel) {
                figures.milliseconds += f64::from(end.elapsed_time_f32(&begin)?);
            }
        }
        Ok(self.kernels.into_values().collect())
    }
}
