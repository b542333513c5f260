//! Runs one instruction on chosen operands, one case a lane.

use crate::device::{Argument, EmulatedDevice, module};

/// The width of an operand; `P` is a predicate.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    P,
    H,
    W,
    D,
}

pub use Kind::{D, H, P, W};

impl Kind {
    fn register(self) -> &'static str {
        match self {
            P => "pred",
            H => "b16",
            W => "b32",
            D => "b64",
        }
    }
}

/// Runs a body with the operands in registers `a`, `b`, `c`, `e` and the result in `d`, one case a
/// lane.
fn evaluate(body: &str, result: Kind, inputs: &[Kind], cases: &[Vec<u64>]) -> Vec<u64> {
    let names = ["a", "b", "c", "e"];
    let mut text = format!(
        ".reg .b64 %rd<8>; .reg .b32 %r<8>; .reg .{} d; .reg .b64 x; .reg .pred %p<9>;\n\
         ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x;\n\
         mad.wide.u32 %rd1, %r1, 40, %rd1;\n",
        result.register()
    );
    for (index, (name, kind)) in names.iter().zip(inputs).enumerate() {
        text +=
            &format!(".reg .{} {name}; ld.global.u64 x, [%rd1+{}];\n", kind.register(), 8 * index);
        text += &match kind {
            P => format!("setp.ne.u64 {name}, x, 0;\n"),
            H => format!("cvt.u16.u64 {name}, x;\n"),
            W => format!("cvt.u32.u64 {name}, x;\n"),
            D => format!("mov.b64 {name}, x;\n"),
        };
    }
    text += body;
    text += match result {
        P => "\nselp.u64 x, 1, 0, d;\n",
        H => "\ncvt.u64.u16 x, d;\n",
        W => "\ncvt.u64.u32 x, d;\n",
        D => "\nmov.b64 x, d;\n",
    };
    text += "st.global.u64 [%rd1+32], x; ret;";

    let mut device = EmulatedDevice::new(&module(".param .u64 p", &text));
    let mut words = Vec::new();
    for case in cases {
        let mut row = [0u64; 5];
        row[..case.len()].copy_from_slice(case);
        words.extend(row.iter().flat_map(|word| word.to_le_bytes()));
    }
    let buffer = device.bytes(&words);
    let threads = cases.len() as u32;
    device
        .launch("k", [1, 1, 1], [threads, 1, 1], &[Argument::Pointer(buffer)])
        .unwrap_or_else(|fault| panic!("{body}: {fault}"));
    let found = device.read_bytes(buffer, words.len());
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    found.chunks_exact(40).map(|row| word(&row[32..])).collect()
}

/// Checks an instruction `d, a, b, …` on cases of operands and result.
pub fn check<const N: usize>(
    name: &str,
    result: Kind,
    inputs: [Kind; N],
    cases: &[([u64; N], u64)],
) {
    let operands: String =
        ["a", "b", "c", "e"][..N].iter().map(|name| format!(", {name}")).collect();
    let body = format!("{name} d{operands};");
    check_body(&body, result, inputs, cases);
}

pub fn check_body<const N: usize>(
    body: &str,
    result: Kind,
    inputs: [Kind; N],
    cases: &[([u64; N], u64)],
) {
    let operands: Vec<Vec<u64>> = cases.iter().map(|(operands, _)| operands.to_vec()).collect();
    let found = evaluate(body, result, &inputs, &operands);
    for ((operands, wanted), found) in cases.iter().zip(found) {
        assert_eq!(found, *wanted, "{body} of {operands:x?}: {found:#x} in place of {wanted:#x}");
    }
}

/// The bits of a number.
pub fn f(value: f32) -> u64 {
    u64::from(value.to_bits())
}

/// The bits of a number in double precision.
pub fn d(value: f64) -> u64 {
    value.to_bits()
}

/// The bits of an integer.
pub fn i(value: i32) -> u64 {
    u64::from(value as u32)
}

/// The bits of a long integer.
pub fn l(value: i64) -> u64 {
    value as u64
}

/// The NaN that instructions give.
pub const NAN: u64 = 0x7fff_ffff;
/// All 32 bits.
pub const ONES: u64 = 0xffff_ffff;
