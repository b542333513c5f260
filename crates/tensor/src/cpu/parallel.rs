//! Loops over the blocks of an operation, on the threads of rayon's current pool.
//!
//! They are not rayon's own: whoever waits in one of those takes up any other task of the pool meanwhile, and an
//! operation that waits holds the locks of its tensors. Were that task an operation on the same tensors, the thread
//! would wait for itself. Here it waits only for what others have begun of this loop, and blocks take no locks. (In a
//! pool built with `breadth_first`, or where operations are handed to `rayon::broadcast`, this is not so.)

use std::any::Any;
use std::convert::Infallible;
use std::hint;
use std::iter;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

/// Tasks of a loop for each thread: with fewer, threads that are slower are waited for longer.
const TASKS: usize = 8;

/// Calls `work` with each item, in parallel.
pub(crate) fn each<P: Send>(
    items: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator + Send>,
    work: impl Fn(P) + Sync,
) {
    let Ok(()) = try_each(items, |item| {
        work(item);
        Ok::<(), Infallible>(())
    });
}

/// What `work` makes of each item, in their order; done in parallel.
pub(crate) fn map<P: Send, R: Send>(
    items: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator + Send>,
    work: impl Fn(P) -> R + Sync,
) -> Vec<R> {
    let items = items.into_iter();
    let mut made: Vec<Option<R>> = iter::repeat_with(|| None).take(items.len()).collect();
    each(items.zip(&mut made), |(item, made)| *made = Some(work(item)));
    made.into_iter().flatten().collect()
}

/// Calls `work` with each item, in parallel, until all are done or one has failed.
pub(crate) fn try_each<P: Send, E: Send>(
    items: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator + Send>,
    work: impl Fn(P) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items = items.into_iter();
    let in_task = (items.len() / (TASKS * rayon::current_num_threads())).max(1);
    each_task(items, in_task, |_, task| task.into_iter().try_for_each(&work))
}

/// Calls `work` with each `in_task` items and the number of the first of them, in parallel, until all are done or one
/// has failed. Threads take them in order, so that short tasks at the end let all threads end together.
pub(crate) fn each_task<P: Send, E: Send>(
    items: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator + Send>,
    in_task: usize,
    work: impl Fn(usize, Vec<P>) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items = items.into_iter();
    let tasks = items.len().div_ceil(in_task);
    let rest = Mutex::new((0, items, Ok(())));
    let next = || {
        let (taken, items, failed) = &mut *rest.lock();
        let first = *taken;
        let task: Vec<P> = items.take(if failed.is_ok() { in_task } else { 0 }).collect();
        *taken += task.len();
        (first, task)
    };
    on_threads(rayon::current_num_threads().min(tasks), &|| {
        loop {
            let (first, task) = next();
            if task.is_empty() {
                return;
            }
            if let Err(error) = work(first, task) {
                let failed = &mut rest.lock().2;
                if failed.is_ok() {
                    *failed = Err(error);
                }
            }
        }
    });
    rest.into_inner().2
}

/// Runs `work` on this thread and, at the same time, on up to `threads - 1` others of the pool, as they are free.
fn on_threads(threads: usize, work: &(dyn Fn() + Sync)) {
    if threads <= 1 {
        return work();
    }
    /// A pointer that goes to other threads.
    struct Shared(*const (dyn Fn() + Sync));
    // SAFETY: what it points to may be called from any thread.
    unsafe impl Send for Shared {}
    // SAFETY: only the lifetime of what is pointed to changes, which a pointer does not vouch for.
    let pointer: *const (dyn Fn() + Sync) =
        unsafe { mem::transmute::<*const (dyn Fn() + Sync + '_), _>(work) };
    let gate = Arc::new(Gate::default());
    for _ in 1..threads {
        let (gate, shared) = (gate.clone(), Shared(pointer));
        rayon::spawn(move || {
            let Shared(work) = { shared };
            // SAFETY: `work` lives until `on_threads` returns, which waits for all that entered.
            gate.pass(|| unsafe { (*work)() });
        });
    }
    let own = catch_unwind(AssertUnwindSafe(work));
    let entered = gate.close();
    // Tasks that nobody has begun are the youngest of a pool's thread, as others take the oldest first: these are
    // removed, and none but these. Those of another thread lie in the pool's queue, for its next idle thread.
    for _ in entered..threads - 1 {
        rayon::yield_local();
    }
    let panic = own.err().or(gate.panic.lock().take());
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// What other threads pass to join in, until it is closed.
#[derive(Default)]
struct Gate {
    /// How many are inside, and [`CLOSED`].
    inside: AtomicUsize,
    entered: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

const CLOSED: usize = 1 << (usize::BITS - 1);

impl Gate {
    /// Runs `work`, if the gate is open.
    fn pass(&self, work: impl FnOnce()) {
        if self.inside.fetch_add(1, Ordering::Acquire) & CLOSED == 0 {
            self.entered.fetch_add(1, Ordering::Relaxed);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                // One is kept; to drop another could panic in turn.
                mem::forget(self.panic.lock().replace(panic));
            }
        }
        self.inside.fetch_sub(1, Ordering::Release);
    }

    /// Lets nobody in any more, and waits for those inside; gives how many have entered.
    fn close(&self) -> usize {
        self.inside.fetch_or(CLOSED, Ordering::Relaxed);
        let mut tries = 0_u32;
        while self.inside.load(Ordering::Acquire) != CLOSED {
            tries = tries.saturating_add(1);
            match tries {
                0..1000 => hint::spin_loop(),
                _ => thread::yield_now(),
            }
        }
        self.entered.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn on<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn each_item_is_worked_on_once_and_what_is_made_keeps_its_order() {
        for threads in [1, 2, 5] {
            for items in [0, 1, 7, 1000] {
                let made = on(threads, || map(0..items, |i| map(0..i % 9, |j| i + j)));
                let expected: Vec<Vec<usize>> =
                    (0..items).map(|i| (i..i + i % 9).collect()).collect();
                assert_eq!(made, expected, "{threads} threads");
            }
        }
    }

    #[test]
    fn an_error_ends_the_loop() {
        let done = on(3, || {
            let begun = AtomicUsize::new(0);
            let result = try_each(0..1_000_000, |_| {
                begun.fetch_add(1, Ordering::Relaxed);
                Err(Error::Aliased { op: "loop" })
            });
            assert_eq!(result, Err(Error::Aliased { op: "loop" }));
            begun.into_inner()
        });
        assert!(done <= 3, "{done} tasks were begun");
    }

    #[test]
    fn a_panic_of_another_thread_reaches_the_caller() {
        let caught = on(2, || {
            let caller = thread::current().id();
            catch_unwind(AssertUnwindSafe(|| {
                let taken = AtomicUsize::new(0);
                each(0..2, |_| match thread::current().id() == caller {
                    // The caller keeps its item until the other thread has one.
                    true => {
                        while taken.load(Ordering::Relaxed) == 0 {
                            thread::yield_now();
                        }
                    }
                    false => {
                        taken.store(1, Ordering::Relaxed);
                        panic!("of another thread");
                    }
                });
            }))
        });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"of another thread"));
    }
}
