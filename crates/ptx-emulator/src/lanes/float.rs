//! Arithmetic of `f32` and `f64`. A NaN that an operation gives has one bit pattern, as on
//! devices. `.ftz` and `.sat` are put together from the parts here in `decode`.

use super::rounding::{
    NAN, NAN64, Rounding, add_f32, canonical, canonical64, fma_f32, multiply_f32,
};
use super::{Table, lane};

pub(super) fn fill(table: &mut Table) {
    single(table);
    directed(table);
    double(table);
    signs(table);
    order(table);
}

fn single(table: &mut Table) {
    lane!(table, ["add.f32", "add.rn.f32"], |a: f32, b: f32| -> f32 { canonical(a + b) });
    lane!(table, ["sub.f32", "sub.rn.f32"], |a: f32, b: f32| -> f32 { canonical(a - b) });
    lane!(table, ["mul.f32", "mul.rn.f32"], |a: f32, b: f32| -> f32 { canonical(a * b) });
    lane!(table, ["fma.rn.f32", "mad.rn.f32"], |a: f32, b: f32, c: f32| -> f32 {
        canonical(a.mul_add(b, c))
    });
    lane!(table, ["div.rn.f32"], |a: f32, b: f32| -> f32 { canonical(a / b) });
    lane!(table, ["rcp.rn.f32"], |a: f32| -> f32 { canonical(1.0 / a) });
    lane!(table, ["sqrt.rn.f32"], |a: f32| -> f32 { canonical(a.sqrt()) });
    // Not PTX: the steps that `.ftz` and `.sat` add.
    lane!(table, ["flush.f32"], |a: f32| -> f32 {
        if a.to_bits() & 0x7f80_0000 == 0 { f32::from_bits(a.to_bits() & 1 << 31) } else { a }
    });
    lane!(table, ["saturate.f32", "cvt.sat.f32.f32"], |a: f32| -> f32 {
        if a > 1.0 {
            1.0
        } else if a > 0.0 {
            a
        } else {
            0.0
        }
    });
    lane!(table, ["saturate.f64", "cvt.sat.f64.f64"], |a: f64| -> f64 {
        if a > 1.0 {
            1.0
        } else if a > 0.0 {
            a
        } else {
            0.0
        }
    });
}

fn directed(table: &mut Table) {
    macro_rules! direction {
        ($name:literal, $rounding:expr) => {
            lane!(table, [concat!("add.", $name, ".f32")], |a: f32, b: f32| -> f32 {
                add_f32(a, b, $rounding)
            });
            lane!(table, [concat!("sub.", $name, ".f32")], |a: f32, b: f32| -> f32 {
                add_f32(a, -b, $rounding)
            });
            lane!(table, [concat!("mul.", $name, ".f32")], |a: f32, b: f32| -> f32 {
                multiply_f32(a, b, $rounding)
            });
            lane!(table, [concat!("fma.", $name, ".f32")], |a: f32, b: f32, c: f32| -> f32 {
                fma_f32(a, b, c, $rounding)
            });
        };
    }
    direction!("rz", Rounding::Zero);
    direction!("rm", Rounding::Down);
    direction!("rp", Rounding::Up);
}

fn double(table: &mut Table) {
    lane!(table, ["add.f64", "add.rn.f64"], |a: f64, b: f64| -> f64 { canonical64(a + b) });
    lane!(table, ["sub.f64", "sub.rn.f64"], |a: f64, b: f64| -> f64 { canonical64(a - b) });
    lane!(table, ["mul.f64", "mul.rn.f64"], |a: f64, b: f64| -> f64 { canonical64(a * b) });
    lane!(table, ["fma.rn.f64", "mad.rn.f64"], |a: f64, b: f64, c: f64| -> f64 {
        canonical64(a.mul_add(b, c))
    });
    lane!(table, ["div.rn.f64"], |a: f64, b: f64| -> f64 { canonical64(a / b) });
    lane!(table, ["rcp.rn.f64"], |a: f64| -> f64 { canonical64(1.0 / a) });
    lane!(table, ["sqrt.rn.f64"], |a: f64| -> f64 { canonical64(a.sqrt()) });
}

fn signs(table: &mut Table) {
    lane!(table, ["neg.f32"], |a: f32| -> f32 { -a });
    lane!(table, ["neg.f64"], |a: f64| -> f64 { -a });
    lane!(table, ["abs.f32"], |a: f32| -> f32 { a.abs() });
    lane!(table, ["abs.f64"], |a: f64| -> f64 { a.abs() });
    // The sign of the first operand, the size of the second.
    lane!(table, ["copysign.f32"], |a: f32, b: f32| -> f32 { b.copysign(a) });
    lane!(table, ["copysign.f64"], |a: f64, b: f64| -> f64 { b.copysign(a) });
}

/// The number of the two, where one is NaN; -0 is less than +0. With `.NaN`, a NaN wins.
fn order(table: &mut Table) {
    macro_rules! order {
        ($type:ty, $name:literal, $nan:expr) => {
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
            lane!(table, [concat!("min.NaN.", $name)], |a: $type, b: $type| -> $type {
                if a.is_nan() || b.is_nan() {
                    $nan
                } else if a < b || a == b && a.is_sign_negative() {
                    a
                } else {
                    b
                }
            });
            lane!(table, [concat!("max.NaN.", $name)], |a: $type, b: $type| -> $type {
                if a.is_nan() || b.is_nan() {
                    $nan
                } else if a > b || a == b && a.is_sign_positive() {
                    a
                } else {
                    b
                }
            });
        };
    }
    order!(f32, "f32", NAN);
    order!(f64, "f64", NAN64);
}
