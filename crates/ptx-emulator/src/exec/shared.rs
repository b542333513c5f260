//! The shared memory of the block that runs.

/// For a byte that nobody wrote.
pub(super) const UNWRITTEN: u8 = 0;
/// For a byte that was written.
pub(super) const WRITTEN: u8 = 1;
/// For a byte that a copy by `cp.async` is on its way to.
pub(super) const PENDING: u8 = 2;

/// Bytes of shared memory, and the state of each.
pub(super) struct SharedMemory {
    pub bytes: Vec<u8>,
    pub state: Vec<u8>,
}

impl SharedMemory {
    pub fn new(bytes: usize) -> SharedMemory {
        SharedMemory { bytes: vec![0xcd; bytes], state: vec![UNWRITTEN; bytes] }
    }

    /// Begins a block; without a check of uninitialised reads all bytes count as written.
    pub fn reset(&mut self, uninitialised: bool) {
        self.state.fill(if uninitialised { UNWRITTEN } else { WRITTEN });
    }
}
