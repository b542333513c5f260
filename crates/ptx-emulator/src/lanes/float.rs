//! Arithmetic of `f32` and `f64`. A NaN that an operation gives has one bit pattern, as on devices.

use super::rounding::{NAN, NAN64, canonical, canonical64, fma_down};
use super::{Table, lane};

pub(super) fn fill(table: &mut Table) {
    macro_rules! arithmetic {
        ($type:ty, $name:literal, $nan:expr, $canonical:expr) => {
            lane!(table, [concat!("add.", $name), concat!("add.rn.", $name)], |a: $type,
                                                                               b: $type|
             -> $type {
                $canonical(a + b)
            });
            lane!(table, [concat!("sub.", $name), concat!("sub.rn.", $name)], |a: $type,
                                                                               b: $type|
             -> $type {
                $canonical(a - b)
            });
            lane!(table, [concat!("mul.", $name), concat!("mul.rn.", $name)], |a: $type,
                                                                               b: $type|
             -> $type {
                $canonical(a * b)
            });
            lane!(table, [concat!("fma.rn.", $name)], |a: $type, b: $type, c: $type| -> $type {
                $canonical(a.mul_add(b, c))
            });
            lane!(table, [concat!("div.rn.", $name)], |a: $type, b: $type| -> $type {
                $canonical(a / b)
            });
            lane!(table, [concat!("rcp.rn.", $name)], |a: $type| -> $type { $canonical(1.0 / a) });
            lane!(table, [concat!("sqrt.rn.", $name)], |a: $type| -> $type {
                $canonical(a.sqrt())
            });
            lane!(table, [concat!("neg.", $name)], |a: $type| -> $type { -a });
            lane!(table, [concat!("abs.", $name)], |a: $type| -> $type { a.abs() });
            // The sign of the first operand, the size of the second.
            lane!(table, [concat!("copysign.", $name)], |a: $type, b: $type| -> $type {
                b.copysign(a)
            });
            // The number of the two, where one is NaN; -0 is less than +0.
            lane!(table, [concat!("min.", $name)], |a: $type, b: $type| -> $type {
                if a.is_nan() && b.is_nan() {
                    $nan
                } else if a < b || b.is_nan() || a == b && a.is_sign_negative() {
                    a
                } else {
                    b
                }
            });
            lane!(table, [concat!("max.", $name)], |a: $type, b: $type| -> $type {
                if a.is_nan() && b.is_nan() {
                    $nan
                } else if a > b || b.is_nan() || a == b && a.is_sign_positive() {
                    a
                } else {
                    b
                }
            });
        };
    }
    arithmetic!(f32, "f32", NAN, canonical);
    arithmetic!(f64, "f64", NAN64, canonical64);
    lane!(table, ["fma.rm.f32"], |a: f32, b: f32, c: f32| -> f32 { fma_down(a, b, c) });
}
