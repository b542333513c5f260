//! The state of the emulated device, behind one lock, and who may use it. What calls do with it is
//! in the files that are named after their subjects.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use vitrine_ptx_emulator::DeviceMemory;

use super::context;
use super::event::Event;
use super::host::Pinned;
use super::module::{LoadedFunction, LoadedModule};
use super::schedule::Streams;
use super::settings::Settings;
use crate::codes::*;
use crate::types::CUresult;

/// What a call gives: nothing, or the code of an error.
pub(super) type Status = Result<(), CUresult>;

/// The emulated machine with its one device.
#[derive(Default)]
pub(super) struct EmulatedMachine {
    pub settings: Settings,
    /// What went wrong last, in words.
    pub last_fault: Option<String>,
    /// Whether `cuInit` was called.
    pub initialised: bool,
    /// How many retain the primary context.
    pub retained: u32,
    /// The primary context, while it is retained.
    pub context: Option<Box<PrimaryContext>>,
}

/// All that lives and dies with the primary context.
pub(super) struct PrimaryContext {
    pub handle: usize,
    /// The error of a launch, which every later call gives too.
    pub failure: Option<CUresult>,
    pub memory: DeviceMemory,
    pub pinned: Pinned,
    pub modules: HashMap<usize, LoadedModule>,
    pub functions: HashMap<usize, LoadedFunction>,
    pub events: HashMap<usize, Event>,
    pub streams: Streams,
}

static MACHINE: LazyLock<Mutex<EmulatedMachine>> = LazyLock::new(Mutex::default);

/// The machine, for this call alone.
pub(super) fn machine() -> MutexGuard<'static, EmulatedMachine> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine after `cuInit`.
pub(super) fn initialised() -> Result<MutexGuard<'static, EmulatedMachine>, CUresult> {
    let machine = machine();
    if machine.initialised { Ok(machine) } else { Err(CUDA_ERROR_NOT_INITIALIZED) }
}

/// What a call in a context works on.
pub(super) struct Session<'a> {
    pub settings: &'a Settings,
    pub last_fault: &'a mut Option<String>,
    pub context: &'a mut PrimaryContext,
}

/// Runs `action` in this thread's current context.
///
/// # Errors
///
/// Those of `action`; where there is no context; and the context's failure, from before or from
/// work that `action` did.
pub(super) fn in_context<T>(
    action: impl FnOnce(&mut Session<'_>) -> Result<T, CUresult>,
) -> Result<T, CUresult> {
    let current = context::current();
    let mut machine = initialised()?;
    if current == 0 {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    let session = machine.session().filter(|session| session.context.handle == current);
    let mut session = session.ok_or(CUDA_ERROR_CONTEXT_IS_DESTROYED)?;
    session.context.check()?;
    let value = action(&mut session)?;
    session.context.check()?;
    Ok(value)
}

impl EmulatedMachine {
    /// The parts that work in the context needs, if there is a context.
    pub fn session(&mut self) -> Option<Session<'_>> {
        let context = self.context.as_deref_mut()?;
        Some(Session { settings: &self.settings, last_fault: &mut self.last_fault, context })
    }
}

impl PrimaryContext {
    pub fn new(memory: u64) -> Self {
        Self {
            handle: new_handle(),
            failure: None,
            memory: DeviceMemory::new(memory),
            pinned: Pinned::default(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            events: HashMap::new(),
            streams: Streams::default(),
        }
    }

    fn check(&self) -> Status {
        self.failure.map_or(Ok(()), Err)
    }
}

/// A number that no other handle of this process has.
pub(super) fn new_handle() -> usize {
    // The first ones are taken: null, and the special handles of streams.
    static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
    NEXT.fetch_add(0x10, Ordering::Relaxed)
}

/// Writes a result to where the caller wants it.
///
/// # Safety
///
/// `to` is null, which is an error, or can be written.
pub(super) unsafe fn put<T>(to: *mut T, value: T) -> Status {
    if to.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, and the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}
