//! Cases of many sizes: each axis that a backend cuts into blocks takes sizes around the edges of those blocks, while
//! the others stay small; then all axes take random sizes at once. What a case computes is the table's
//! ([`cases`](mod@crate::cases)); layouts and options take turns.

use std::collections::BTreeSet;

use vitrine_tensor::{AdamWStep, Result, SgdStep, StreamKey};

use crate::case::Case;
use crate::cases::{
    activation, attention, cross_entropy, elementwise, embed, layer_norm, linear, mask, memory,
    optimizer, softmax, sum,
};
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup};

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
struct Axis {
    /// Its sizes while others are swept, one after the other.
    bases: &'static [usize],
    /// Sizes of the blocks that backends cut it into, beside those that are small.
    blocks: &'static [usize],
}

impl Axis {
    const fn new(bases: &'static [usize], blocks: &'static [usize]) -> Self {
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
        let draws = StreamKey { seed: 0x5eed, step, stream: N as u32 }.uniform(2 * N);
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
fn sweep<const N: usize>(
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
fn pick<T: Copy>(turn: usize, list: &[T]) -> T {
    list[turn % list.len()]
}

/// Of products: tiles, rows and columns of blocks, parts of the inner axis. Each axis is any of them in one gradient.
const PRODUCT: &[usize] = &[28, 32, 42, 64, 126, 128, 252, 256, 512, 768, 1024];

/// Of what is done row by row: rows of a task, a register, a warp, a block of threads.
const ROWS: &[usize] = &[32, 64, 96, 128, 256];
const WIDTH: &[usize] = &[32, 48, 64, 128, 256, 512, 1024];

/// Of what is done element by element: random words, a run, a task.
const FLAT: &[usize] = &[32, 64, 128, 256, 1024, 16 * 1024, 32 * 1024];

/// Layouts that every operation takes.
const LAYOUTS: [Layout; 3] = [Layout::Dense, Layout::Transposed, Layout::Narrowed];

/// The cases of all operations.
pub fn cases(reach: Reach) -> Vec<Case> {
    let operations = [products, attentions, rows, elements, moves, updates];
    operations.into_iter().flat_map(|operation| operation(reach)).collect()
}

/// The linear layer with its gradients, and the batched product.
fn products(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[5], PRODUCT), Axis::new(&[19], PRODUCT), Axis::new(&[17], PRODUCT)];
    let mut cases = sweep(reach, "linear", &axes, |s, [rows, inputs, outputs], turn| {
        let (options, layouts) = (pick(turn, &linear::OPTIONS), pick(turn, &linear::LAYOUTS));
        linear::forward(s, &[rows, inputs], outputs, options, layouts, None)
    });
    for (op, gradient) in linear::GRADIENTS {
        cases.extend(sweep(reach, op, &axes, move |s, [rows, inputs, outputs], turn| {
            gradient(s, &[rows, inputs], outputs, pick(turn, &linear::LAYOUTS))
        }));
    }
    cases.extend(sweep(reach, "matmul", &axes, |s, [m, k, n], turn| {
        let (batch, layouts) = (1 + turn / 4 % 2, (pick(turn, &Layout::ALL), pick(turn, &LAYOUTS)));
        linear::matmul(s, &[batch, m, k], &[batch, k, n], layouts)
    }));
    cases
}

/// Attention in each form, with and without dropout and lengths.
fn attentions(reach: Reach) -> Vec<Case> {
    use attention::{Form, Plan};
    const FORMS: [Form; 4] = [Form::Packed, Form::Split, Form::Packed, Form::Apart];
    const LENGTHS: [Option<&[i64]>; 5] =
        [None, Some(&[1000, 5]), None, Some(&[15, 70]), Some(&[0, 33])];
    let plan = |[queries, keys, head_width]: [usize; 3], turn| {
        let (form, heads) = (pick(turn, &FORMS), 1 + turn / 8 % 2);
        let queries = if form == Form::Packed { keys } else { queries };
        Plan {
            extents: [1 + turn / 4 % 2, queries, keys, heads * head_width, heads],
            form,
            valid_lens: pick(turn, &LENGTHS),
            dropout: (turn % 7 < 3).then(|| mask(0.3, 7)),
        }
    };
    const TOKENS: &[usize] = &[32, 48, 64, 80, 96, 112, 128, 192];
    const HEAD: &[usize] = &[32, 48, 64, 80, 96, 128];
    let axes = [Axis::new(&[17], TOKENS), Axis::new(&[19], TOKENS), Axis::new(&[16, 48, 64], HEAD)];
    let mut cases = sweep(reach, "attention", &axes, move |s, shape, turn| {
        attention::forward(s, &plan(shape, turn))
    });
    cases.extend(sweep(reach, "attention_grad", &axes, move |s, shape, turn| {
        attention::gradient(s, &plan(shape, turn))
    }));
    cases
}

/// What works on rows: norms, softmax, cross-entropy, sums.
fn rows(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[19], WIDTH)];
    let mut cases = sweep(reach, "layer_norm", &axes, |s, shape, turn| {
        layer_norm::forward(s, &shape, pick(turn, &LAYOUTS), 1e-5)
    });
    cases.extend(sweep(reach, "layer_norm_grad", &axes, |s, shape, turn| {
        layer_norm::gradient(s, &shape, pick(turn, &LAYOUTS), 1e-5)
    }));
    cases.extend(sweep(reach, "softmax", &axes, |s, shape, turn| {
        softmax::forward(s, &shape, pick(turn, &LAYOUTS))
    }));
    cases.extend(sweep(reach, "softmax_grad", &axes, |s, shape, turn| {
        softmax::gradient(s, &shape, pick(turn, &LAYOUTS))
    }));
    cases.extend(sweep(reach, "cross_entropy", &axes, |s, shape, turn| {
        cross_entropy::loss(s, shape, pick(turn, &LAYOUTS), pick(turn, &[0.0, 0.1]), 1.0)
    }));
    cases.extend(sweep(reach, "cross_entropy_grad", &axes, |s, shape, turn| {
        cross_entropy::gradient(s, shape, pick(turn, &LAYOUTS), pick(turn, &[0.0, 0.1]), 1.0)
    }));
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[5], ROWS), Axis::new(&[7], WIDTH)];
    cases.extend(sweep(reach, "sum", &axes, |s, shape, turn| {
        sum::over_axis(s, &shape, turn % 3, pick(turn / 3, &LAYOUTS))
    }));
    let axes = [Axis::new(&[2], ROWS), Axis::new(&[5], FLAT)];
    cases.extend(sweep(reach, "sum", &axes, |s, shape, turn| match turn % 3 {
        0 => sum::over_axis(s, &shape, 1, pick(turn / 3, &LAYOUTS)),
        1 => sum::over_all(s, &shape, pick(turn / 3, &LAYOUTS)),
        _ => sum::to_shape(s, &shape, &shape[1..]),
    }));
    cases
}

/// What works on elements: activations, dropout, arithmetic, tokens with positions.
fn elements(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[2], ROWS), Axis::new(&[5], FLAT)];
    let mut cases = sweep(reach, "activate", &axes, |s, shape, turn| {
        activation::activate(
            s,
            &shape,
            pick(turn / 3, &LAYOUTS),
            pick(turn, &activation::ACTIVATIONS),
        )
    });
    cases.extend(sweep(reach, "activate_grad", &axes, |s, shape, turn| {
        activation::activate_grad(
            s,
            &shape,
            pick(turn / 3, &LAYOUTS),
            pick(turn, &activation::ACTIVATIONS),
        )
    }));
    cases.extend(sweep(reach, "dropout", &axes, |s, shape, turn| {
        activation::dropout(s, &shape, pick(turn, &LAYOUTS), 0.3)
    }));
    cases.extend(sweep(reach, "binary", &axes, |s, [rows, width], turn| {
        let right = [&[rows, width][..], &[width], &[rows, 1], &[1, width]];
        let (right, layout) = (pick(turn, &right), pick(turn, &LAYOUTS));
        elementwise::binary(s, &[rows, width], right, pick(turn / 4, &elementwise::OPS), layout)
    }));
    cases.extend(sweep(reach, "add_scaled", &axes, |s, shape, turn| {
        elementwise::add_scaled(s, &shape, pick(turn, &Layout::ALL))
    }));
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[5], ROWS), Axis::new(&[7], WIDTH)];
    cases.extend(sweep(reach, "embed_tokens", &axes, |s, shape, turn| {
        let (with_class, dropout) = (turn % 2 == 0, turn % 3 == 0);
        embed::embed_tokens(s, shape, pick(turn / 2, &Layout::ALL), with_class, dropout, None)
    }));
    cases
}

/// What moves values: copies between layouts and types, patches.
fn moves(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[2], ROWS), Axis::new(&[5], FLAT)];
    let mut cases = sweep(reach, "copy", &axes, |s, shape, turn| {
        memory::copy(s, &shape, pick(turn, &Layout::ALL))
    });
    cases.extend(sweep(reach, "copy", &axes, |s, shape, turn| {
        memory::to_dtype(s, &shape, pick(turn, &memory::DTYPES), pick(turn, &Layout::ALL))
    }));
    cases.extend(sweep(reach, "copy", &axes, |s, shape, turn| {
        let layouts = (pick(turn, &Layout::ALL), pick(turn, &LAYOUTS));
        memory::from_dtype(s, &shape, pick(turn, &memory::DTYPES), layouts)
    }));
    cases.extend(sweep(reach, "fill", &axes, |s, shape, turn| {
        memory::fill(s, &shape, pick(turn, &Layout::ALL))
    }));
    // Patches down and across an image, and pixels down and across a patch.
    let axes = [
        Axis::new(&[2], &[]),
        Axis::new(&[3], &[]),
        Axis::new(&[2], &[]),
        Axis::new(&[3], &[32, 64]),
    ];
    let image = |[down, across, p, q]: [usize; 4], turn: usize| {
        ([1 + turn % 2, 1 + turn % 3, down * p, across * q], (p, q))
    };
    cases.extend(sweep(reach, "patchify", &axes, move |s, shape, turn| {
        let (shape, patch) = image(shape, turn);
        embed::patchify(s, shape, patch, pick(turn / 2, &Layout::ALL))
    }));
    cases.extend(sweep(reach, "unpatchify", &axes, move |s, shape, turn| {
        let (shape, patch) = image(shape, turn);
        embed::unpatchify(s, shape, patch, pick(turn / 2, &Layout::ALL))
    }));
    cases
}

/// What works on flat buffers: optimizers, the norm of the gradient.
fn updates(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[1], FLAT)];
    let undecayed = |n, turn| if turn % 2 == 0 { optimizer::undecayed(n) } else { Vec::new() };
    let mut cases = sweep(reach, "sgd", &axes, move |s, [n], turn| {
        let (momentum, nesterov) = pick(turn, &[(0.0, false), (0.9, false), (0.9, true)]);
        let step = SgdStep { learning_rate: 0.1, momentum, nesterov, weight_decay: 0.05 };
        optimizer::sgd(s, n, &step, &undecayed(n, turn))
    });
    cases.extend(sweep(reach, "adamw", &axes, move |s, [n], turn| {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        let (learning_rate, weight_decay, step) = (1e-2, 0.05, 1 + turn as u64);
        let step = AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, step };
        optimizer::adamw(s, n, &step, &undecayed(n, turn))
    }));
    cases.extend(sweep(reach, "sum_squares", &axes, |s, [n], turn| {
        optimizer::sum_squares(s, n, pick(turn, &Layout::ALL))
    }));
    cases.extend(sweep(reach, "clip_norm", &axes, |s, [n], turn| {
        optimizer::clip_norm(s, n, pick(turn, &[0.5, 1e6]))
    }));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_swept() {
        let ops = |cases: Vec<Case>| cases.iter().map(|case| case.op).collect::<BTreeSet<_>>();
        let mut table = ops(crate::cases::all());
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
