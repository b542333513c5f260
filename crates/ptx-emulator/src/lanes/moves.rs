//! Copies between registers, selections, and halves that are put together or taken apart.

use super::{Table, lane};

pub(super) fn fill(table: &mut Table) {
    lane!(table, ["mov.b16", "mov.u16", "mov.s16", "mov.f16", "mov.bf16"], |a: u16| -> u16 { a });
    lane!(table, ["mov.b32", "mov.u32", "mov.s32", "mov.f32"], |a: u32| -> u32 { a });
    lane!(table, ["mov.b64", "mov.u64", "mov.s64", "mov.f64"], |a: u64| -> u64 { a });

    lane!(table, ["selp.b16", "selp.u16", "selp.s16", "selp.f16", "selp.bf16"], |a: u16,
                                                                                 b: u16,
                                                                                 c: bool|
     -> u16 {
        if c { a } else { b }
    });
    lane!(table, ["selp.b32", "selp.u32", "selp.s32", "selp.f32"], |a: u32,
                                                                    b: u32,
                                                                    c: bool|
     -> u32 {
        if c { a } else { b }
    });
    lane!(table, ["selp.b64", "selp.u64", "selp.s64", "selp.f64"], |a: u64,
                                                                    b: u64,
                                                                    c: bool|
     -> u64 {
        if c { a } else { b }
    });

    macro_rules! slct {
        ($type:ty, $name:literal) => {
            lane!(table, [concat!("slct.", $name, ".s32")], |a: $type,
                                                             b: $type,
                                                             c: i32|
             -> $type {
                if c >= 0 { a } else { b }
            });
            lane!(table, [concat!("slct.", $name, ".f32")], |a: $type,
                                                             b: $type,
                                                             c: f32|
             -> $type {
                if c >= 0.0 { a } else { b }
            });
        };
    }
    slct!(u16, "b16");
    slct!(u16, "u16");
    slct!(u16, "s16");
    slct!(u32, "b32");
    slct!(u32, "u32");
    slct!(u32, "s32");
    slct!(u32, "f32");
    slct!(u64, "b64");
    slct!(u64, "u64");
    slct!(u64, "s64");
    slct!(u64, "f64");

    // Parts of `mov.b32 d, {a, b}` and `mov.b32 {a, b}, d`: these names are not PTX.
    lane!(table, ["pack.b32.b16"], |a: u16, b: u16| -> u32 { u32::from(a) | u32::from(b) << 16 });
    lane!(table, ["pack.b64.b32"], |a: u32, b: u32| -> u64 { u64::from(a) | u64::from(b) << 32 });
    lane!(table, ["pack.b64.b16"], |a: u16, b: u16, c: u16, e: u16| -> u64 {
        u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(e) << 48
    });
    lane!(table, ["part0.b32.b16"], |a: u32| -> u16 { a as u16 });
    lane!(table, ["part1.b32.b16"], |a: u32| -> u16 { (a >> 16) as u16 });
    lane!(table, ["part0.b64.b32"], |a: u64| -> u32 { a as u32 });
    lane!(table, ["part1.b64.b32"], |a: u64| -> u32 { (a >> 32) as u32 });
    lane!(table, ["part0.b64.b16"], |a: u64| -> u16 { a as u16 });
    lane!(table, ["part1.b64.b16"], |a: u64| -> u16 { (a >> 16) as u16 });
    lane!(table, ["part2.b64.b16"], |a: u64| -> u16 { (a >> 32) as u16 });
    lane!(table, ["part3.b64.b16"], |a: u64| -> u16 { (a >> 48) as u16 });
}
