//! Cases of many sizes: each axis that a backend cuts into blocks takes sizes around the edges of those blocks, while
//! the others stay small; then all axes take random sizes at once. What a case computes is the table's
//! ([`operations`](mod@crate::operations)); layouts and options take turns.

use std::collections::BTreeSet;

use vitrine_tensor::{Result, StreamKey};

use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup};
use crate::operations::TOPICS;

/// How many sizes are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Some sixty shapes an operation, for a slow device.
    Few,
    /// Sizes up to 20, the edges of blocks, and a hundred random shapes.
    Edges,
    /// As [`Reach::Edges`] with all sizes up to 300, and four hundred random shapes.
    Whole,
}

/// Shapes of [`Reach::Few`], half of them random.
const FEW: usize = 60;

impl Reach {
    /// Sizes up to this are tried on each axis.
    fn small(self) -> usize {
        if self == Self::Whole { 300 } else { 20 }
    }

    fn random(self) -> usize {
        if self == Self::Whole { 400 } else { 100 }
    }

    /// The most numbers that random sizes multiply to.
    fn volume(self) -> usize {
        if self == Self::Whole { 1 << 16 } else { 1 << 13 }
    }
}

/// An axis that is swept.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    /// Its sizes while others are swept, one after the other.
    bases: &'static [usize],
    /// Sizes of the blocks that backends cut it into, beside those that are small.
    blocks: &'static [usize],
}

impl Axis {
    pub(crate) const fn new(bases: &'static [usize], blocks: &'static [usize]) -> Self {
        Self { bases, blocks }
    }

    /// The sizes to try, in order.
    fn sizes(&self, reach: Reach) -> Vec<usize> {
        let edges = self.blocks.iter().flat_map(|block| block - 1..=block + 1);
        let sizes: BTreeSet<usize> = (1..=reach.small()).chain(edges).collect();
        sizes.into_iter().collect()
    }
}

/// All shapes of an operation.
fn shapes<const N: usize>(axes: &[Axis; N], reach: Reach) -> Vec<[usize; N]> {
    let sizes = axes.map(|axis| axis.sizes(reach));
    let rounds = axes.iter().map(|axis| axis.bases.len()).max().unwrap_or(0);
    let mut each = Vec::new();
    for round in 0..rounds {
        for (at, sizes) in sizes.iter().enumerate() {
            each.extend(sizes.iter().map(|&size| {
                let mut shape = axes.map(|axis| pick(round, axis.bases));
                shape[at] = size;
                shape
            }));
        }
    }
    // Every second size is one of those above; the others have logarithms that are spread evenly.
    let random = (0..).map(|step| {
        let draws = StreamKey { seed: 0x5eed, step, stream: N as u32 }
            .uniform()
            .take(2 * N)
            .collect::<Vec<_>>();
        std::array::from_fn(|at| {
            let (sizes, most) = (&sizes[at], sizes[at][sizes[at].len() - 1]);
            match draws[2 * at] < 0.5 {
                true => sizes[(draws[2 * at + 1] * sizes.len() as f64) as usize],
                false => (most as f64).powf(draws[2 * at + 1]).round() as usize,
            }
        })
    });
    let random =
        random.filter(|shape: &[usize; N]| shape.iter().product::<usize>() <= reach.volume());
    let random: Vec<_> = random.take(reach.random()).collect();
    match reach {
        Reach::Few => [thinned(each), thinned(random)].concat(),
        _ => [each, random].concat(),
    }
}

/// Half of [`FEW`] of the shapes, evenly taken.
fn thinned<S: Copy>(shapes: Vec<S>) -> Vec<S> {
    (0..FEW / 2).map(|i| shapes[i * shapes.len() / (FEW / 2)]).collect()
}

/// The cases of an operation. `run` gets a shape and its number, by which it chooses layouts and options.
pub(crate) fn over<const N: usize>(
    reach: Reach,
    op: &'static str,
    axes: &[Axis; N],
    run: impl Fn(&Setup, [usize; N], usize) -> Result<Vec<Comparison>> + Copy + Send + Sync + 'static,
) -> Vec<Case> {
    let shapes = shapes(axes, reach).into_iter().enumerate();
    shapes
        .map(|(turn, shape)| {
            Case::new(op, format!("{shape:?}, turn {turn}"), move |s| run(s, shape, turn))
        })
        .collect()
}

/// The element of a list whose turn it is.
pub(crate) fn pick<T: Copy>(turn: usize, list: &[T]) -> T {
    list[turn % list.len()]
}

/// Of products: tiles, rows and columns of blocks, parts of the inner axis. Each axis is any of them in one gradient.
pub(crate) const PRODUCT: &[usize] = &[28, 32, 42, 64, 126, 128, 252, 256, 512, 768, 1024];

/// Of what is done row by row: rows of a task, a register, a warp, a block of threads.
pub(crate) const ROWS: &[usize] = &[32, 64, 96, 128, 256];
pub(crate) const WIDTH: &[usize] = &[32, 48, 64, 128, 256, 512, 1024];

/// Of what is done element by element: random words, a run, a task.
pub(crate) const FLAT: &[usize] = &[32, 64, 128, 256, 1024, 16 * 1024, 32 * 1024];

/// Layouts that every operation takes.
pub(crate) const LAYOUTS: [Layout; 3] = [Layout::Dense, Layout::Transposed, Layout::Narrowed];

/// The cases of all operations.
pub fn cases(reach: Reach) -> Vec<Case> {
    TOPICS.iter().flat_map(|topic| (topic.sweep)(reach)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_swept() {
        let ops = |cases: Vec<Case>| cases.iter().map(|case| case.op).collect::<BTreeSet<_>>();
        let mut table = ops(crate::operations::cases());
        // They move bytes between host and device, whatever the shape.
        assert!(table.remove("upload") && table.remove("download"));
        assert_eq!(ops(cases(Reach::Few)), table);
    }

    #[test]
    fn sizes_are_those_around_the_edges() {
        let axis = Axis::new(&[3, 4], &[32]);
        let sizes: Vec<usize> = (1..=20).chain(31..=33).collect();
        assert_eq!(axis.sizes(Reach::Edges), sizes);
        let shapes = shapes(&[axis, Axis::new(&[5], &[])], Reach::Edges);
        assert_eq!(shapes.len(), 2 * (23 + 20) + 100);
        assert_eq!([22, 23, 65, 66].map(|i| shapes[i]), [[33, 5], [3, 1], [33, 5], [4, 1]]);
    }
}
