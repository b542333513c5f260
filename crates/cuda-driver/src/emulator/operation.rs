//! A piece of work in a stream, and what it does to the device when its time has come.

use super::launch::Launch;
use super::machine::Session;
use super::schedule::Ticket;
use crate::codes::CUDA_ERROR_ILLEGAL_ADDRESS;

/// One piece of work. Host memory is held as an address, as it may lie in the queue for a while.
pub(super) enum Operation {
    /// A copy of bytes that were taken from the host at the call.
    Upload {
        to: u64,
        bytes: Vec<u8>,
    },
    /// A copy from pinned memory, which stays there until it has been done.
    UploadPinned {
        to: u64,
        from: usize,
        bytes: usize,
    },
    /// A copy to the host; the call waits for it, or the memory is pinned.
    Download {
        to: usize,
        from: u64,
        bytes: usize,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: u64,
    },
    Fill {
        to: u64,
        value: u8,
        count: u64,
    },
    Launch(Launch),
    /// The stream has come to where this event was recorded.
    Record {
        event: usize,
    },
    /// The stream waits for another one; `schedule.rs` sees to it.
    Wait {
        stream: usize,
        ticket: Ticket,
    },
}

impl Operation {
    /// Does the work. After a failure nothing is done any more, as on a GPU, but events pass.
    pub fn run(self, ticket: Ticket, session: &mut Session<'_>) {
        if let Self::Record { event } = self {
            if let Some(event) = session.context.events.get_mut(&event) {
                event.pass(ticket);
            }
            return;
        }
        if session.context.failure.is_some() {
            return;
        }
        let memory = &mut session.context.memory;
        let done = match self {
            Self::Upload { to, bytes } => memory.write(to, &bytes).map_err(|e| e.to_string()),
            Self::UploadPinned { to, from, bytes } => {
                // SAFETY: the block is pinned, and freeing it waits for this.
                let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) };
                memory.write(to, bytes).map_err(|error| error.to_string())
            }
            Self::Download { to, from, bytes } => session.download(to, from, bytes),
            Self::Copy { to, from, bytes } => {
                memory.copy(to, from, bytes).map_err(|error| error.to_string())
            }
            Self::Fill { to, value, count } => {
                memory.fill(to, &[value], count).map_err(|error| error.to_string())
            }
            Self::Launch(launch) => {
                launch.run(session);
                return;
            }
            Self::Record { .. } | Self::Wait { .. } => return,
        };
        if let Err(fault) = done {
            *session.last_fault = Some(fault);
            session.context.failure = Some(CUDA_ERROR_ILLEGAL_ADDRESS);
        }
    }
}

impl Session<'_> {
    fn download(&mut self, to: usize, from: u64, bytes: usize) -> Result<(), String> {
        let mut copy = vec![0; bytes];
        let memory = &self.context.memory;
        memory.read(from, &mut copy).map_err(|error| error.to_string())?;
        let first = memory.uninitialised(from, bytes as u64).map_err(|error| error.to_string())?;
        if let Some(first) = first.filter(|_| self.settings.checks.uninitialised) {
            return Err(format!(
                "copy to the host of {bytes} bytes at {from:#x}, of which byte {first} was never \
                 written"
            ));
        }
        // SAFETY: the call that asked for it waits, or the block is pinned, and freeing it waits.
        unsafe { std::ptr::copy_nonoverlapping(copy.as_ptr(), to as *mut u8, bytes) };
        Ok(())
    }
}
