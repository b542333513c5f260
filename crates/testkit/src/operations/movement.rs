//! Moving values: upload and download, copy between layouts and element types, fill.

use vitrine_tensor::backend::Movement;
use vitrine_tensor::{DType, Result, Tensor};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Layout, Setup, random, rounded};
use crate::reference::zeros;
use crate::sweep::{Axis, FLAT, LAYOUTS, ROWS, Reach, over, pick};

const SHAPES: [&[usize]; 8] =
    [&[], &[1], &[0], &[7], &[3, 5], &[2, 0, 3], &[2, 3, 4, 5, 6], &[70, 300]];

/// All element types.
const DTYPES: [DType; 5] = [DType::F32, DType::F64, DType::BF16, DType::U8, DType::I64];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for op in ["upload", "download"] {
            cases.push(Case::new(op, format!("{shape:?}"), |s| {
                let x = s.normal(1, shape)?;
                Ok(vec![Comparison::new("x", &x.tensor, &x.values)?.exact()])
            }));
        }
        for layout in Layout::ALL {
            let name = format!("{layout:?} {shape:?}");
            cases.push(Case::new("copy", name.clone(), move |s| copy(s, shape, layout)));
            cases.push(Case::new("fill", name, move |s| fill(s, shape, layout)));
        }
    }
    for dtype in DTYPES {
        for layout in Layout::ALL {
            cases.push(Case::new("copy", format!("to {dtype}, {layout:?}"), move |s| {
                to_dtype(s, &[9, 33], dtype, layout)
            }));
            cases.push(Case::new("copy", format!("from {dtype}, {layout:?}"), move |s| {
                from_dtype(s, &[9, 33], dtype, (Layout::Transposed, layout))
            }));
        }
    }
    cases.extend(views());
    for dtype in DTYPES {
        cases
            .extend([[2, 0, 1], [1, 2, 0], [0, 2, 1], [2, 1, 0]].map(|order| turned(dtype, order)));
    }
    cases
}

/// More elements than a task takes, with the axes of both tensors in other orders, and gaps in the destination.
fn turned(dtype: DType, order: [usize; 3]) -> Case {
    Case::new("copy", format!("[37, 70, 13] as {order:?} into a part, {dtype}"), move |s| {
        let values = random(1, &[37, 70, 13]).mapv(|v| (v.abs() * 40.0).floor().min(255.0));
        let x = s.placed(&values, Layout::Dense)?.tensor.permute(&order)?;
        let shape = [x.shape()[2], x.shape()[0], x.shape()[1] + 3];
        let whole = Tensor::full(&shape, 7.0, dtype, &s.device)?;
        let part = whole.narrow(2, 1, x.shape()[1])?.permute(&[1, 2, 0])?;
        part.copy_(&x)?;
        let mut expected = zeros(&shape) + 7.0;
        let inside = ndarray::Slice::from(1..shape[2] - 2);
        let mut slot = expected.slice_axis_mut(ndarray::Axis(2), inside);
        slot.assign(&values.permuted_axes(order.to_vec()).permuted_axes(vec![2, 0, 1]));
        Ok(vec![Comparison::new("copy_", &whole, &expected)?.exact()])
    })
}

fn copy(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let (x, to) = (s.laid_out(1, shape, layout)?, s.laid_out(2, shape, layout)?);
    to.tensor.copy_(&x.tensor)?;
    Ok(vec![
        Comparison::new("copy", &x.tensor.copy()?, &x.values)?.exact(),
        Comparison::new("copy_", &to.tensor, &x.values)?.exact(),
    ])
}

fn fill(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    x.tensor.fill_(1.0 / 3.0)?;
    let expected = zeros(shape) + rounded(1.0 / 3.0, s.dtype);
    let full = Tensor::full(shape, 1.0 / 3.0, s.dtype, &s.device)?;
    Ok(vec![
        Comparison::new("fill_", &x.tensor, &expected)?.exact(),
        Comparison::new("full", &full, &expected)?.exact(),
    ])
}

fn to_dtype(s: &Setup, shape: &[usize], dtype: DType, layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.placed(&(random(1, shape) * 100.0), layout)?;
    let to = x.tensor.to_dtype(dtype)?;
    let expected = x.values.mapv(|v| rounded(v, dtype));
    Ok(vec![Comparison::new("to_dtype", &to, &expected)?.exact()])
}

fn from_dtype(
    s: &Setup,
    shape: &[usize],
    dtype: DType,
    (from_layout, to_layout): (Layout, Layout),
) -> Result<Vec<Comparison>> {
    // Small numbers that every type can hold.
    let values = random(1, shape).mapv(|v| (v.abs() * 40.0).floor().min(255.0));
    let from = s.placed_as(&values, from_layout, dtype)?;
    let to = s.laid_out(2, shape, to_layout)?;
    to.tensor.copy_(&from.tensor)?;
    let expected = from.values.mapv(|v| rounded(v, s.dtype));
    Ok(vec![Comparison::new("copy_", &to.tensor, &expected)?.exact()])
}

/// Views read through a copy.
fn views() -> Vec<Case> {
    let permuted = Case::new("copy", "permuted", |s| {
        let x = s.normal(1, &[2, 3, 4, 5])?;
        let view = x.tensor.permute(&[2, 0, 3, 1])?;
        let expected = x.values.clone().permuted_axes(vec![2, 0, 3, 1]);
        Ok(vec![Comparison::new("permute", &view, &expected)?.exact()])
    });
    let narrowed = Case::new("copy", "narrowed inside", |s| {
        let x = s.normal(1, &[4, 6, 5])?;
        let view = x.tensor.narrow(1, 2, 3)?.narrow(0, 1, 2)?;
        let expected = x.values.slice(ndarray::s![1..3, 2..5, ..]).to_owned().into_dyn();
        Ok(vec![Comparison::new("narrow", &view, &expected)?.exact()])
    });
    let broadcast = Case::new("copy", "broadcast", |s| {
        let x = s.normal(1, &[3, 1])?;
        let view = x.tensor.broadcast_to(&[2, 3, 4])?;
        let expected = x.values.broadcast(vec![2, 3, 4]).expect("the shapes fit").to_owned();
        Ok(vec![Comparison::new("broadcast_to", &view, &expected)?.exact()])
    });
    let joined = [0usize, 1, 2].map(|axis| {
        Case::new("copy", format!("concat along {axis}"), move |s| {
            let shape = |n| {
                let mut shape = [3, 4, 5];
                shape[axis] = n;
                shape
            };
            let a = s.laid_out(1, &shape(2), Layout::Transposed)?;
            let (b, c) = (s.normal(2, &shape(0))?, s.laid_out(3, &shape(3), Layout::Narrowed)?);
            let y = Tensor::concat(&[&a.tensor, &b.tensor, &c.tensor], axis)?;
            let views = [a.values.view(), b.values.view(), c.values.view()];
            let expected = ndarray::concatenate(ndarray::Axis(axis), &views).expect("shapes fit");
            Ok(vec![Comparison::new("concat", &y, &expected)?.exact()])
        })
    });
    [permuted, narrowed, broadcast].into_iter().chain(joined).collect()
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[2], ROWS), Axis::new(&[5], FLAT)];
    let mut cases =
        over(reach, "copy", &axes, |s, shape, turn| copy(s, &shape, pick(turn, &Layout::ALL)));
    cases.extend(over(reach, "copy", &axes, |s, shape, turn| {
        to_dtype(s, &shape, pick(turn, &DTYPES), pick(turn, &Layout::ALL))
    }));
    cases.extend(over(reach, "copy", &axes, |s, shape, turn| {
        let layouts = (pick(turn, &Layout::ALL), pick(turn, &LAYOUTS));
        from_dtype(s, &shape, pick(turn, &DTYPES), layouts)
    }));
    cases.extend(over(reach, "fill", &axes, |s, shape, turn| {
        fill(s, &shape, pick(turn, &Layout::ALL))
    }));
    cases
}

faults! {
    Movement {
        copy(from: &Tensor, to: &Tensor) writes [Some(to)];
        fill(to: &Tensor, value: f64) writes [Some(to)];
    }
}
