//! Text that is no PTX, or PTX that the emulator does not know: an error with its line, no panic.

use crate::device::{KERNELS, module};
use vitrine_ptx_emulator::{LoadError, PtxProgram};

fn refused(body: &str) -> LoadError {
    let declarations = ".reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .pred %p<9>;\n";
    let text = module(".param .u64 p", &format!("{declarations}{body}"));
    match PtxProgram::load(&text) {
        Ok(_) => panic!("`{body}` was loaded"),
        Err(error) => error,
    }
}

#[test]
fn an_unknown_instruction_is_named_with_its_line() {
    let error = refused("mov.u32 %r1, 0;\n  frobnicate.b32 %r1, %r2;");
    assert_eq!((error.line(), error.column()), (8, 3));
    assert_eq!(error.what(), "unknown instruction `frobnicate.b32`");
    assert!(error.to_string().contains("line 8, column 3"));
}

#[test]
fn what_is_not_understood_is_refused() {
    for (body, part) in [
        ("add.s33 %r1, %r2, %r3;", "unknown instruction `add.s33`"),
        ("add.rn.s32 %r1, %r2, %r3;", "unknown instruction"),
        ("add.sat.f32 %f1, %f2, %f3;", "unknown instruction `add.sat.f32`"),
        ("lg2.approx.f32 %f1, %f2;", "unknown instruction `lg2.approx.f32`"),
        ("ld.global.e.u32 %r1, [%rd1];", "unknown instruction"),
        ("ld.global.L2::cache_hint.u32 %r1, [%rd1], %rd2;", "unknown instruction"),
        ("ld.global.v4.u64 {%rd1, %rd2, %rd3, %rd4}, [%rd1];", "unknown instruction"),
        ("ld.global.s8 %r1, [%rd1];", "unknown instruction `ld.global.s8`"),
        ("ld.shared::cluster.u32 %r1, [%r2];", "unknown instruction"),
        ("ld.u32 %r1, [%rd1];", "unknown instruction `ld.u32`"),
        ("ld.local.u32 %r1, [%rd1];", "unknown instruction `ld.local.u32`"),
        ("cvta.to.shared.u64 %rd1, %rd2;", "unknown instruction `cvta.to.shared.u64`"),
        ("shfl.sync.idx.b32 %r1, %r2, 0, 31, -1;", "unknown instruction `shfl.sync.idx.b32`"),
        ("vote.sync.any.pred %p1, %p2, -1;", "unknown instruction `vote.sync.any.pred`"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.bf16 {%r1}, [%rd1], %r2;", "unknown instruction"),
        (
            "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1}, {%r1}, {%r1}, {%r1};",
            "unknown instruction",
        ),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r2];", "unknown instruction"),
        ("cvt.rn.f32.f32 %f1, %f2;", "unknown instruction"),
        ("setp.lt.and.s32 %p1, %r1, %r2, %p2;", "unknown instruction `setp.lt.and.s32`"),
        ("cp.async.cg.shared.global [%r1], [%rd1], 8, %r2;", "copies 16 bytes"),
        ("cp.async.cg.shared.global [%r1], [%rd1], 16;", "takes 4 operands"),
        ("cp.async.ca.shared.global [%r1], [%rd1], 4, %r2;", "unknown instruction"),
        ("atom.global.add.u32 %r1, [%rd1], %r2;", "unknown instruction `atom.global.add.u32`"),
        ("membar.gl;", "unknown instruction `membar.gl`"),
        ("brx.idx %r1, TABLE; TABLE:", "unknown instruction `brx.idx`"),
        ("call foo, (%r1);", "not emulated"),
        ("bar.sync;", "takes 1 operands"),
        ("bar.sync 1;", "only barrier 0"),
        ("bar.sync %r1;", "only barrier 0"),
        ("bar.sync 0, 64;", "takes 1 operands"),
        ("bar.arrive 1, 64;", "unknown instruction `bar.arrive`"),
        ("trap;", "unknown instruction `trap`"),
    ] {
        let error = refused(body);
        assert!(error.to_string().contains(part), "{body}: {error}");
        assert_eq!(error.line(), 7, "{body}: {error}");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for (body, part) in [
        ("add.s32 %r1, %r2;", "takes 3 operands, not 2"),
        ("add.s32 %r1, %r2, %rd3;", "`%rd3` is 64 bits where add.s32 takes 32 bits"),
        ("add.s64 %rd1, %rd2, %r3;", "takes 64 bits"),
        ("add.f32 %f1, %f2, 1;", "the integer 1 is no operand of add.f32"),
        ("add.f32 %f1, %f2, 0d3FF0000000000000;", "no value of 32 bits"),
        ("add.s32 %r1, %r2, 0x1ffffffff;", "does not fit 32 bits"),
        ("add.s32 5, %r2, %r3;", "must be a register"),
        ("add.s32 %r1, %r2, %r99;", "neither declared nor a known special register"),
        ("mov.u32 %r1, %nothing;", "neither declared nor a known special register"),
        ("mov.u64 %rd1, %tid.x;", "32 bits wide"),
        ("bra NOWHERE;", "`NOWHERE` is not declared"),
        ("bra %r1;", "a label is missing"),
        ("@%r1 bra HERE; HERE:", "no predicate register"),
        ("ld.global.u32 %r1, %rd1;", "address in brackets"),
        ("ld.global.u32 %r1, [%r2];", "`%r2` is 32 bits"),
        ("ld.global.u64 %r1, [%rd2];", "`%r1` is 32 bits"),
        ("ld.shared.u32 %r1, [p];", "not in shared memory"),
        ("ld.global.v2.u32 %r1, [%rd1];", "takes 2 registers"),
        ("st.param.u32 [p], %r1;", "unknown instruction"),
        ("mov.b32 {%r1, %r2}, %r3;", "must be a register"),
        ("mov.u32 %r1, %laneid;", "neither declared nor a known special register"),
        ("and.pred %p1, %p2, !%p3;", "expected an operand"),
    ] {
        let error = refused(body);
        assert!(error.to_string().contains(part), "{body}: {error}");
    }
}

#[test]
fn declarations_that_do_not_fit_are_refused() {
    for (body, part) in [
        (".reg .b32 %r<3>;", "declared twice"),
        (".reg .b7 x;", "expected a register's type"),
        (".shared .b8 x[];", "expected an array's size"),
        (".shared .b8 x[99999999999];", "larger than"),
        (".shared .align 3 .b8 x[4];", "no alignment"),
        (".shared .b8 x[4] = {1, 2, 3, 4};", "expected `;`"),
        (".local .b8 x[4];", "unknown directive `.local`"),
        ("L: L: ret;", "declared twice"),
        ("{ ret;", "expected"),
        (".frob 3;", "unknown directive"),
        ("{ .param .b64 param0; }", "calls are not emulated"),
    ] {
        let error = refused(body);
        assert!(error.to_string().contains(part), "{body}: {error}");
    }
    for (text, part) in [
        (".address_size 32", "64 bits"),
        (".func f() { ret; }", "__forceinline__"),
        (".extern .shared .b32 x[];", "unknown directive `.extern`"),
        (".global .b32 x = 1;", "unknown directive `.global`"),
        (".shared .b8 x[4000000000];", "larger than"),
        (".section .debug_str { {", "section's end"),
        (".entry k() { ret; } .entry k() { ret; }", "defined twice"),
        ("hello", "expected a directive"),
        (".version", "without a number"),
    ] {
        let error = PtxProgram::load(text).expect_err(text);
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn text_that_breaks_off_anywhere_never_panics() {
    for end in (0..KERNELS.len()).step_by(61) {
        let Some(text) = KERNELS.get(..end) else { continue };
        let _ = PtxProgram::load(text);
    }
}

#[test]
fn text_with_changed_bytes_never_panics() {
    let start = KERNELS.find(".visible .entry matmul_bf16").unwrap();
    let end = KERNELS[start..].find("\n}\n").unwrap() + start + 3;
    let head = ".version 9.0\n.target sm_80\n.address_size 64\n";
    let text = format!("{head}{}", &KERNELS[start..end]);
    PtxProgram::load(&text).expect("the kernel alone is well formed");
    let mut state = 1u64;
    let mut draw = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let marks = b"%.,;:[]{}()<>@!|+-_0123456789abcdefrpxz \n\"/*";
    let mut errors = 0;
    for _ in 0..1500 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + draw(3) {
            let at = draw(bytes.len());
            match draw(4) {
                0 => bytes[at] = marks[draw(marks.len())],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, marks[draw(marks.len())]),
                _ => {
                    let other = draw(bytes.len());
                    bytes.swap(at, other);
                }
            }
        }
        if let Ok(text) = String::from_utf8(bytes) {
            errors += usize::from(PtxProgram::load(&text).is_err());
        }
    }
    assert!(errors > 500, "most changes are errors, but only {errors} were");
}
