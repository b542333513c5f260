//! [`Shape`]: the extents (or strides) of a tensor, without allocation. Broadcasting rules live here too.

use std::fmt;
use std::ops::Deref;

use crate::Error;

/// The largest number of axes that a tensor can have.
pub const MAX_RANK: usize = 6;

/// Up to [`MAX_RANK`] extents; derefs to a slice. A scalar has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// A shape from its extents. An error if there are more than [`MAX_RANK`].
    pub fn new(dims: &[usize]) -> Result<Self, Error> {
        // Zeros apart: an empty tensor has strides too.
        let product = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
        let rule = match product {
            _ if dims.len() > MAX_RANK => "a tensor has at most 6 axes",
            Some(n) if n < 1 << 47 => return Ok(Self::from_valid(dims)),
            _ => "the product of the extents, zeros apart, must be below 2^47",
        };
        Err(Error::Shape { op: "shape", shape: dims.to_vec(), rule })
    }

    /// A shape whose extents come from valid shapes, so that no check is needed.
    pub(crate) fn from_valid(dims: &[usize]) -> Self {
        let mut out = Self { dims: [0; MAX_RANK], rank: dims.len() };
        out.dims[..dims.len()].copy_from_slice(dims);
        out
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The strides of a row-major (C order) tensor of this shape.
    pub fn row_major_strides(&self) -> Self {
        let mut strides = *self;
        let mut step = 1;
        for axis in (0..self.rank).rev() {
            strides.dims[axis] = step;
            step *= self.dims[axis];
        }
        strides
    }

    /// The last extent; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.as_slice().last().copied().unwrap_or(1)
    }

    /// The extents as a slice.
    pub fn as_slice(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// This shape with another extent of an axis.
    pub(crate) fn with(mut self, axis: usize, extent: usize) -> Self {
        self.dims[..self.rank][axis] = extent;
        self
    }

    /// The shape that `self` and `other` broadcast to (NumPy's rule: align at the right, 1 stretches).
    pub fn broadcast(&self, other: &Self, op: &'static str) -> Result<Self, Error> {
        let rank = self.rank.max(other.rank);
        let mut dims = [0; MAX_RANK];
        for (axis, dim) in dims[..rank].iter_mut().enumerate() {
            let extent = |s: &Self| (axis + s.rank).checked_sub(rank).map_or(1, |i| s.dims[i]);
            *dim = match (extent(self), extent(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => {
                    let rule =
                        "aligned at the right, each pair of extents must be equal or hold a 1";
                    return Err(Error::shapes(op, self, other, rule));
                }
            };
        }
        Self::new(&dims[..rank])
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.as_slice()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_slice(), f)
    }
}
