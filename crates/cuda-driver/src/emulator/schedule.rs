//! When the work in streams is done: queues, what must come before what, and the three modes. What
//! a piece of work does is in `operation.rs`.

use std::collections::{BTreeMap, VecDeque};

use super::machine::{Session, Status, new_handle};
use super::operation::Operation;
use super::settings::StreamMode;
use crate::codes::*;
use crate::types::CUresult;

/// A place in the order in which work was handed over, counted over all streams from 1.
pub(super) type Ticket = u64;

/// The streams of a context. There is no default stream: nobody in this repository uses it.
pub(super) struct Streams {
    by_handle: BTreeMap<usize, VecDeque<(Ticket, Operation)>>,
    next_ticket: Ticket,
    random: u64,
}

impl Default for Streams {
    fn default() -> Self {
        Self { by_handle: BTreeMap::new(), next_ticket: 1, random: 0 }
    }
}

impl Streams {
    /// Makes a stream and gives its handle.
    pub fn insert(&mut self) -> usize {
        let handle = new_handle();
        self.by_handle.insert(handle, VecDeque::new());
        handle
    }

    /// Whether there is a stream with this handle.
    pub fn check(&self, handle: usize) -> Status {
        match handle {
            0 => Err(CUDA_ERROR_NOT_SUPPORTED),
            _ if self.by_handle.contains_key(&handle) => Ok(()),
            _ => Err(CUDA_ERROR_INVALID_HANDLE),
        }
    }

    pub fn remove(&mut self, handle: usize) {
        self.by_handle.remove(&handle);
    }

    fn push(&mut self, handle: usize, operation: Operation) -> Result<Ticket, CUresult> {
        let queue = self.by_handle.get_mut(&handle).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
        let ticket = self.next_ticket;
        queue.push_back((ticket, operation));
        self.next_ticket += 1;
        Ok(ticket)
    }

    /// Takes the stream's next work, if that was handed over no later than `last`.
    fn pop(&mut self, handle: usize, last: Ticket) -> Option<(Ticket, Operation)> {
        let queue = self.by_handle.get_mut(&handle)?;
        queue.pop_front_if(|(ticket, _)| *ticket <= last)
    }

    fn handles(&self) -> Vec<usize> {
        self.by_handle.keys().copied().collect()
    }

    /// The next number of SplitMix64 (Steele, Lea and Flood 2014).
    fn draw(&mut self, seed: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random.wrapping_add(seed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Session<'_> {
    /// Hands work over to a stream; in the synchronous mode it is done when this returns.
    pub fn submit(&mut self, stream: usize, operation: Operation) -> Result<Ticket, CUresult> {
        let ticket = self.context.streams.push(stream, operation)?;
        match self.settings.streams {
            StreamMode::Synchronous => self.run_until(stream, ticket),
            StreamMode::Deferred => {}
            StreamMode::Shuffled(seed) => self.stir(seed),
        }
        Ok(ticket)
    }

    /// Has a stream do its work up to this ticket, and what must come before that.
    pub fn force(&mut self, stream: usize, last: Ticket) {
        if let StreamMode::Shuffled(seed) = self.settings.streams {
            self.stir(seed);
        }
        self.run_until(stream, last);
    }

    /// Has a stream do all of its work.
    pub fn force_stream(&mut self, stream: usize) {
        self.force(stream, Ticket::MAX);
    }

    /// Has all streams do all of their work.
    pub fn force_all(&mut self) {
        for stream in self.context.streams.handles() {
            self.force_stream(stream);
        }
    }

    /// Does some work of streams drawn by lot.
    fn stir(&mut self, seed: u64) {
        let streams = self.context.streams.handles();
        // On average one piece of work for each one that is handed over, in bursts.
        while self.context.streams.draw(seed).is_multiple_of(2) {
            let lot = self.context.streams.draw(seed) % streams.len() as u64;
            let stream = streams[lot as usize];
            let next = self.context.streams.by_handle[&stream].front();
            if let Some(&(ticket, _)) = next {
                self.run_until(stream, ticket);
            }
        }
    }

    /// Does a stream's work in its order. Work waits only for work with a lower ticket, so this
    /// comes to an end, and what it calls for leaves this stream alone.
    fn run_until(&mut self, stream: usize, last: Ticket) {
        while let Some((ticket, operation)) = self.context.streams.pop(stream, last) {
            if let Operation::Wait { stream, ticket } = operation {
                self.run_until(stream, ticket);
            }
            operation.run(ticket, self);
        }
    }
}
