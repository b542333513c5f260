//! Instructions that compute lane by lane from registers to a register: one table from the
//! instruction as PTX spells it to its arithmetic. The files of this folder fill the table; an
//! instruction that is in none of them, nor in `decode`, is unknown.

mod approximate;
mod bits;
mod compare;
mod convert;
mod float;
mod integer;
mod moves;
pub(crate) mod rounding;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::registers::{BITS, LANES, LaneMask, Narrow, Registers, Wide};
use crate::types::Kind;

pub(crate) use approximate::scramble;
pub use approximate::{APPROXIMATIONS, Approximation};

/// The register slots of an instruction: the result first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slots {
    pub d: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub e: u32,
}

/// Runs one instruction for the lanes of a mask.
///
/// # Safety
///
/// The machine must have the instructions of the [`Simd`] set that the function was compiled for.
pub(crate) type LaneFn = unsafe fn(&mut Registers, &Slots, LaneMask);

/// A set of vector instructions that loops over lanes are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Simd {
    /// What every machine of the target has.
    Portable,
    /// x86-64 with AVX2, FMA and BMI.
    Avx2,
    /// That, and AVX-512 F, BW, CD, DQ and VL.
    Avx512,
}

impl Simd {
    /// All sets that this machine has.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Simd> {
        let all = [Simd::Portable, Simd::Avx2, Simd::Avx512];
        all.into_iter().filter(|&set| set <= Simd::best()).collect()
    }

    /// The widest set that this machine has.
    pub(crate) fn best() -> Simd {
        static BEST: OnceLock<Simd> = OnceLock::new();
        *BEST.get_or_init(detect)
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Simd {
    use std::arch::is_x86_feature_detected as has;
    let avx2 = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2");
    let avx2 = avx2 && has!("lzcnt") && has!("popcnt");
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512cd");
    if !avx2 {
        Simd::Portable
    } else if avx512 && has!("avx512dq") && has!("avx512vl") {
        Simd::Avx512
    } else {
        Simd::Avx2
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Simd {
    Simd::Portable
}

/// A function once for each [`Simd`] set, in the order of [`Simd`].
#[derive(Clone, Copy)]
pub(crate) struct Versions(pub [LaneFn; 3]);

impl Versions {
    pub(crate) fn get(&self, simd: Simd) -> LaneFn {
        self.0[simd as usize]
    }
}

/// What a lane instruction takes and gives, and its arithmetic.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub result: Kind,
    pub inputs: &'static [Kind],
    pub versions: Versions,
}

/// The table from PTX spelling to [`Entry`].
#[derive(Default)]
pub(crate) struct Table {
    entries: HashMap<&'static str, Entry>,
}

impl Table {
    pub(crate) fn get(&self, mnemonic: &str) -> Option<Entry> {
        self.entries.get(mnemonic).copied()
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Entry)> {
        self.entries.iter().map(|(name, entry)| (*name, *entry))
    }

    pub(crate) fn add(&mut self, names: &[&'static str], entry: Entry) {
        for &name in names {
            let before = self.entries.insert(name, entry);
            assert!(before.is_none(), "{name} is in the table twice");
        }
    }
}

/// All lane instructions.
pub(crate) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table::default();
        approximate::fill(&mut table);
        bits::fill(&mut table);
        compare::fill(&mut table);
        convert::fill(&mut table);
        float::fill(&mut table);
        integer::fill(&mut table);
        moves::fill(&mut table);
        table
    })
}

/// A type that a lane's value can be read and written as.
pub(crate) trait Lane: Copy {
    const KIND: Kind;
    /// How the register file keeps it.
    type Row;
    /// Where results are put together before the register file gets them.
    type Draft;
    const EMPTY: Self::Draft;
    fn row(registers: &Registers, slot: u32) -> &Self::Row;
    fn get(row: &Self::Row, lane: usize) -> Self;
    fn put(draft: &mut Self::Draft, lane: usize, value: Self);
    fn store(registers: &mut Registers, slot: u32, draft: &Self::Draft, mask: LaneMask);
}

macro_rules! lane_type {
    ($type:ty, $kind:ident, $row:ident, $read:ident, $write:ident, $from:expr, $to:expr) => {
        impl Lane for $type {
            const KIND: Kind = Kind::$kind;
            type Row = $row;
            type Draft = $row;
            const EMPTY: $row = $row::ZERO;
            #[inline(always)]
            fn row(registers: &Registers, slot: u32) -> &$row {
                registers.$read(slot)
            }
            #[inline(always)]
            fn get(row: &$row, lane: usize) -> $type {
                $from(row.0[lane])
            }
            #[inline(always)]
            fn put(row: &mut $row, lane: usize, value: $type) {
                row.0[lane] = $to(value);
            }
            #[inline(always)]
            fn store(registers: &mut Registers, slot: u32, row: &$row, mask: LaneMask) {
                registers.$write(slot, row, mask);
            }
        }
    };
}

lane_type!(u16, B16, Narrow, narrow, set_narrow, |x: u32| x as u16, u32::from);
lane_type!(i16, B16, Narrow, narrow, set_narrow, |x: u32| x as i16, |x: i16| u32::from(x as u16));
lane_type!(u32, B32, Narrow, narrow, set_narrow, |x: u32| x, |x: u32| x);
lane_type!(i32, B32, Narrow, narrow, set_narrow, |x: u32| x as i32, |x: i32| x as u32);
lane_type!(f32, B32, Narrow, narrow, set_narrow, f32::from_bits, f32::to_bits);
lane_type!(u64, B64, Wide, wide, set_wide, |x: u64| x, |x: u64| x);
lane_type!(i64, B64, Wide, wide, set_wide, |x: u64| x as i64, |x: i64| x as u64);
lane_type!(f64, B64, Wide, wide, set_wide, f64::from_bits, f64::to_bits);

/// A predicate's register is a mask of lanes. Results are put together as one word a lane.
impl Lane for bool {
    const KIND: Kind = Kind::Predicate;
    type Row = LaneMask;
    type Draft = Narrow;
    const EMPTY: Narrow = Narrow::ZERO;
    #[inline(always)]
    fn row(registers: &Registers, slot: u32) -> &LaneMask {
        registers.predicate_row(slot)
    }
    #[inline(always)]
    fn get(row: &LaneMask, lane: usize) -> bool {
        row & BITS[lane] != 0
    }
    #[inline(always)]
    fn put(draft: &mut Narrow, lane: usize, value: bool) {
        draft.0[lane] = if value { BITS[lane] } else { 0 };
    }
    #[inline(always)]
    fn store(registers: &mut Registers, slot: u32, draft: &Narrow, mask: LaneMask) {
        let mut bits = 0;
        for word in draft.0 {
            bits |= word;
        }
        registers.set_predicate(slot, bits, mask);
    }
}

#[inline(always)]
pub(crate) fn unary<A: Lane, D: Lane>(
    registers: &mut Registers,
    slots: &Slots,
    mask: LaneMask,
    function: impl Fn(A) -> D,
) {
    let a = A::row(registers, slots.a);
    let mut result = D::EMPTY;
    for lane in 0..LANES {
        D::put(&mut result, lane, function(A::get(a, lane)));
    }
    D::store(registers, slots.d, &result, mask);
}

#[inline(always)]
pub(crate) fn binary<A: Lane, B: Lane, D: Lane>(
    registers: &mut Registers,
    slots: &Slots,
    mask: LaneMask,
    function: impl Fn(A, B) -> D,
) {
    let (a, b) = (A::row(registers, slots.a), B::row(registers, slots.b));
    let mut result = D::EMPTY;
    for lane in 0..LANES {
        D::put(&mut result, lane, function(A::get(a, lane), B::get(b, lane)));
    }
    D::store(registers, slots.d, &result, mask);
}

#[inline(always)]
pub(crate) fn ternary<A: Lane, B: Lane, C: Lane, D: Lane>(
    registers: &mut Registers,
    slots: &Slots,
    mask: LaneMask,
    function: impl Fn(A, B, C) -> D,
) {
    let (a, b) = (A::row(registers, slots.a), B::row(registers, slots.b));
    let c = C::row(registers, slots.c);
    let mut result = D::EMPTY;
    for lane in 0..LANES {
        let value = function(A::get(a, lane), B::get(b, lane), C::get(c, lane));
        D::put(&mut result, lane, value);
    }
    D::store(registers, slots.d, &result, mask);
}

#[inline(always)]
pub(crate) fn quaternary<A: Lane, B: Lane, C: Lane, E: Lane, D: Lane>(
    registers: &mut Registers,
    slots: &Slots,
    mask: LaneMask,
    function: impl Fn(A, B, C, E) -> D,
) {
    let (a, b) = (A::row(registers, slots.a), B::row(registers, slots.b));
    let (c, e) = (C::row(registers, slots.c), E::row(registers, slots.e));
    let mut result = D::EMPTY;
    for lane in 0..LANES {
        let value = function(A::get(a, lane), B::get(b, lane), C::get(c, lane), E::get(e, lane));
        D::put(&mut result, lane, value);
    }
    D::store(registers, slots.d, &result, mask);
}

/// A block of code over `registers`, `slots` and `mask`, compiled for each [`Simd`] set.
macro_rules! versions {
    (|$registers:ident, $slots:ident, $mask:ident| $body:expr) => {{
        use $crate::lanes::{Slots, Versions};
        use $crate::registers::{LaneMask, Registers};

        #[inline(always)]
        fn portable($registers: &mut Registers, $slots: &Slots, $mask: LaneMask) {
            $body
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn avx2(registers: &mut Registers, slots: &Slots, mask: LaneMask) {
            portable(registers, slots, mask)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f")]
        #[target_feature(enable = "avx512bw,avx512cd,avx512dq,avx512vl")]
        fn avx512(registers: &mut Registers, slots: &Slots, mask: LaneMask) {
            portable(registers, slots, mask)
        }

        #[cfg(target_arch = "x86_64")]
        let all = Versions([portable, avx2, avx512]);
        #[cfg(not(target_arch = "x86_64"))]
        let all = Versions([portable, portable, portable]);
        all
    }};
}
pub(crate) use versions;

/// Calls an `#[inline(always)]` function that was compiled for a [`Simd`] set.
macro_rules! call_for {
    ($simd:expr, $function:ident($($arg:ident: $type:ty),+ $(,)?) -> $result:ty) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn avx2($($arg: $type),+) -> $result {
            $function($($arg),+)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f")]
        #[target_feature(enable = "avx512bw,avx512cd,avx512dq,avx512vl")]
        fn avx512($($arg: $type),+) -> $result {
            $function($($arg),+)
        }

        match $simd {
            // SAFETY: a set is only chosen where the machine has it.
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Simd::Avx512 => unsafe { avx512($($arg),+) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Simd::Avx2 => unsafe { avx2($($arg),+) },
            _ => $function($($arg),+),
        }
    }};
}
pub(crate) use call_for;

/// Adds an instruction to the table: its spellings, and what it computes for one lane.
///
/// ```text
/// lane!(table, ["add.s32", "add.u32"], |a: u32, b: u32| -> u32 { a.wrapping_add(b) });
/// ```
macro_rules! lane {
    ($table:ident, [$($name:expr),+ $(,)?], |$($arg:ident: $type:ty),+| -> $result:ty $body:block) => {{
        #[inline(always)]
        fn one($($arg: $type),+) -> $result $body
        let versions = $crate::lanes::versions!(|registers, slots, mask| {
            $crate::lanes::lane!(@ registers, slots, mask, one, $($type),+)
        });
        let inputs = &[$(<$type as $crate::lanes::Lane>::KIND),+];
        let result = <$result as $crate::lanes::Lane>::KIND;
        $table.add(&[$($name),+], $crate::lanes::Entry { result, inputs, versions });
    }};
    (@ $r:ident, $s:ident, $m:ident, $one:ident, $a:ty) => {
        $crate::lanes::unary::<$a, _>($r, $s, $m, $one)
    };
    (@ $r:ident, $s:ident, $m:ident, $one:ident, $a:ty, $b:ty) => {
        $crate::lanes::binary::<$a, $b, _>($r, $s, $m, $one)
    };
    (@ $r:ident, $s:ident, $m:ident, $one:ident, $a:ty, $b:ty, $c:ty) => {
        $crate::lanes::ternary::<$a, $b, $c, _>($r, $s, $m, $one)
    };
    (@ $r:ident, $s:ident, $m:ident, $one:ident, $a:ty, $b:ty, $c:ty, $e:ty) => {
        $crate::lanes::quaternary::<$a, $b, $c, $e, _>($r, $s, $m, $one)
    };
}
pub(crate) use lane;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::{ALL, SlotCounts};

    /// Words that arithmetic likes to get wrong: zeros, ones, infinities, NaN, subnormal numbers.
    const EDGES: [u64; 16] = [
        0,
        1,
        0x8000_0000_8000_0000,
        u64::MAX,
        0x3f80_0000_3f80_0000,
        0x7f80_0000_7f80_0000,
        0xff80_0000_ff80_0000,
        0x7fc0_0001_7fc0_0001,
        0x0040_0000_0000_0001,
        0x7ff0_0000_0000_0000,
        0x3ff0_0000_0000_0000,
        0x7fff_ffff_7fff_ffff,
        0x3c00_bc00_7bff_fc00,
        31,
        32,
        64,
    ];

    fn registers(seed: u64) -> Registers {
        let mut registers = Registers::new(SlotCounts { narrow: 5, wide: 5, predicates: 5 }, None);
        let mut state = seed;
        for slot in 0..5 {
            for lane in 0..LANES {
                state = scramble(state);
                let edge = EDGES[(state >> 32) as usize % EDGES.len()];
                let value = if state.is_multiple_of(3) { edge } else { state.rotate_left(21) };
                registers.set_lane(Kind::B32, slot, lane, value);
                registers.set_lane(Kind::B64, slot, lane, value);
                registers.set_lane(Kind::Predicate, slot, lane, value & 1);
            }
        }
        registers
    }

    #[test]
    fn all_sets_of_vector_instructions_give_the_same_bits() {
        let slots = Slots { d: 4, a: 0, b: 1, c: 2, e: 3 };
        for (name, entry) in table().iter() {
            for seed in 0..30 {
                let run = |simd: Simd, mask: LaneMask| {
                    let mut registers = registers(seed);
                    // SAFETY: only sets that the machine has are asked for.
                    unsafe { entry.versions.get(simd)(&mut registers, &slots, mask) };
                    let result = |lane| registers.lane(entry.result, 4, lane);
                    (0..LANES).map(result).collect::<Vec<_>>()
                };
                let before: Vec<_> =
                    (0..LANES).map(|lane| registers(seed).lane(entry.result, 4, lane)).collect();
                let wanted = run(Simd::Portable, ALL);
                for simd in Simd::available() {
                    assert_eq!(run(simd, ALL), wanted, "{name} with {simd:?}");
                    let masked = run(simd, 0x00f3_5a01);
                    for lane in 0..LANES {
                        let active = 0x00f3_5a01u32 & BITS[lane] != 0;
                        let wanted = if active { wanted[lane] } else { before[lane] };
                        assert_eq!(masked[lane], wanted, "{name} with {simd:?}, lane {lane}");
                    }
                }
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_where_they_are_written() {
        for (name, entry) in table().iter() {
            let run = |d: u32| {
                let mut registers = registers(7);
                let slots = Slots { d, a: 0, b: 1, c: 2, e: 3 };
                // SAFETY: the machine has what `best` gives.
                unsafe { entry.versions.get(Simd::best())(&mut registers, &slots, ALL) };
                (0..LANES).map(|lane| registers.lane(entry.result, d, lane)).collect::<Vec<_>>()
            };
            assert_eq!(run(0), run(4), "{name} over its first operand");
            assert_eq!(run(1), run(4), "{name} over its second operand");
        }
    }
}
