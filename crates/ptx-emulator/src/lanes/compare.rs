//! Comparisons that give a predicate.

use super::{Table, lane};

pub(super) fn fill(table: &mut Table) {
    macro_rules! equality {
        ($type:ty, $($name:literal),+) => {
            lane!(table, [$(concat!("setp.eq.", $name)),+], |a: $type, b: $type| -> bool { a == b });
            lane!(table, [$(concat!("setp.ne.", $name)),+], |a: $type, b: $type| -> bool { a != b });
        };
    }
    macro_rules! order {
        ($type:ty, $name:literal) => {
            lane!(table, [concat!("setp.lt.", $name)], |a: $type, b: $type| -> bool { a < b });
            lane!(table, [concat!("setp.le.", $name)], |a: $type, b: $type| -> bool { a <= b });
            lane!(table, [concat!("setp.gt.", $name)], |a: $type, b: $type| -> bool { a > b });
            lane!(table, [concat!("setp.ge.", $name)], |a: $type, b: $type| -> bool { a >= b });
        };
    }
    equality!(u16, "b16", "u16", "s16");
    equality!(u32, "b32", "u32", "s32");
    equality!(u64, "b64", "u64", "s64");
    order!(u16, "u16");
    order!(u32, "u32");
    order!(u64, "u64");
    order!(i16, "s16");
    order!(i32, "s32");
    order!(i64, "s64");

    // Without a `u` a comparison with NaN is false, with it true.
    macro_rules! compare {
        ($type:ty, $compare:literal, $name:literal, |$a:ident, $b:ident| $body:expr) => {
            lane!(table, [concat!("setp.", $compare, ".", $name)], |$a: $type,
                                                                    $b: $type|
             -> bool { $body });
        };
    }
    macro_rules! float {
        ($type:ty, $name:literal) => {
            order!($type, $name);
            compare!($type, "eq", $name, |a, b| a == b);
            compare!($type, "ne", $name, |a, b| a != b && !(a.is_nan() || b.is_nan()));
            compare!($type, "equ", $name, |a, b| a == b || a.is_nan() || b.is_nan());
            compare!($type, "neu", $name, |a, b| a != b);
            compare!($type, "ltu", $name, |a, b| a < b || a.is_nan() || b.is_nan());
            compare!($type, "leu", $name, |a, b| a <= b || a.is_nan() || b.is_nan());
            compare!($type, "gtu", $name, |a, b| a > b || a.is_nan() || b.is_nan());
            compare!($type, "geu", $name, |a, b| a >= b || a.is_nan() || b.is_nan());
            compare!($type, "num", $name, |a, b| !a.is_nan() && !b.is_nan());
            compare!($type, "nan", $name, |a, b| a.is_nan() || b.is_nan());
        };
    }
    float!(f32, "f32");
    float!(f64, "f64");
}
