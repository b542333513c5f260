//! Copies between registers, selections, and halves that are put together.

use super::{Table, lane};

pub(super) fn fill(table: &mut Table) {
    macro_rules! width {
        ($type:ty, [$($name:literal),+]) => {
            lane!(table, [$(concat!("mov.", $name)),+], |a: $type| -> $type { a });
            lane!(table, [$(concat!("selp.", $name)),+], |a: $type, b: $type, c: bool| -> $type {
                if c { a } else { b }
            });
        };
    }
    width!(u16, ["b16", "u16", "s16"]);
    width!(u32, ["b32", "u32", "s32", "f32"]);
    width!(u64, ["b64", "u64", "s64", "f64"]);
    // `mov.b32 d, {a, b}`: this name is not PTX.
    lane!(table, ["pack.b32"], |a: u16, b: u16| -> u32 { u32::from(a) | u32::from(b) << 16 });
}
