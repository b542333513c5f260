//! A piece of work in a stream, and what it does to the device when its time has come.

use std::ffi::c_void;

use super::launch::Launch;
use super::machine::{Session, host_function};
use super::memory::Owner;
use super::records::UninitialisedDownload;
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
        pattern: Vec<u8>,
        count: u64,
    },
    Free {
        address: u64,
    },
    Launch(Launch),
    HostFunction {
        function: unsafe extern "C" fn(*mut c_void),
        data: usize,
    },
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
        // The addresses were right at the call: memory can only have been freed since.
        let done = match self {
            Self::Upload { to, bytes } => session.write(to, &bytes),
            Self::UploadPinned { to, from, bytes } => {
                // SAFETY: the block is pinned, and freeing it waits for this.
                session.write(to, unsafe { std::slice::from_raw_parts(from as *const u8, bytes) })
            }
            Self::Download { to, from, bytes } => session.download_now(to, from, bytes),
            Self::Copy { to, from, bytes } => {
                session.context.memory.copy(to, from, bytes).map_err(|fault| fault.to_string())
            }
            Self::Fill { to, pattern, count } => {
                let memory = &mut session.context.memory;
                memory.fill(to, &pattern, count).map_err(|fault| fault.to_string())
            }
            Self::Free { address } => session
                .context
                .free(address, Owner::Program)
                .map_err(|_| format!("cuMemFreeAsync: {address:#x} has been freed already")),
            Self::Launch(launch) => {
                launch.run(session);
                Ok(())
            }
            Self::HostFunction { function, data } => {
                // SAFETY: cuLaunchHostFunc was given both for this.
                host_function(|| unsafe { function(data as *mut c_void) });
                Ok(())
            }
            Self::Record { .. } | Self::Wait { .. } => Ok(()),
        };
        if let Err(fault) = done {
            session.records.last_fault = Some(fault);
            session.context.failure = Some(CUDA_ERROR_ILLEGAL_ADDRESS);
        }
    }
}

impl Session<'_> {
    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), String> {
        self.context.memory.write(to, bytes).map_err(|fault| fault.to_string())
    }

    fn download_now(&mut self, to: usize, from: u64, bytes: usize) -> Result<(), String> {
        let mut copy = vec![0; bytes];
        let memory = &self.context.memory;
        memory.read(from, &mut copy).map_err(|fault| fault.to_string())?;
        let first = memory.uninitialised(from, bytes as u64).map_err(|fault| fault.to_string())?;
        if let Some(first) = first {
            let download = UninitialisedDownload { address: from, bytes: bytes as u64, first };
            self.records.downloads.push(download);
        }
        // SAFETY: the call that asked for it waits, or the block is pinned, and freeing it waits.
        unsafe { std::ptr::copy_nonoverlapping(copy.as_ptr(), to as *mut u8, bytes) };
        Ok(())
    }
}
