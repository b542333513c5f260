//! The mode in which `.approx` instructions are off by up to the bounds of the PTX ISA manual.

use crate::device::{Argument, EmulatedDevice, module};
use vitrine_ptx_emulator::{APPROXIMATIONS, Checks};

/// The results of an instruction for arguments, with noise or without.
fn results(instruction: &str, arguments: &[f32], seed: Option<u64>) -> Vec<f32> {
    let body = format!(
        ".reg .b64 %rd<4>; .reg .b32 %r<4>; .reg .f32 %f<4>;\n\
         ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;\n\
         mad.lo.u32 %r1, %r2, 32, %r1; mad.wide.u32 %rd1, %r1, 8, %rd1;\n\
         ld.global.f32 %f1, [%rd1];\n\
         {instruction} %f2, %f1; st.global.f32 [%rd1+4], %f2; ret;"
    );
    let mut device = EmulatedDevice::new(&module(".param .u64 p", &body));
    device.checks = Checks { approximate: seed, ..Checks::default() };
    let rows: Vec<f32> = arguments.iter().flat_map(|&a| [a, 0.0]).collect();
    let buffer = device.floats(&rows);
    let blocks = arguments.len() as u32 / 32;
    device.launch("k", [blocks, 1, 1], [32, 1, 1], &[Argument::Pointer(buffer)]).unwrap();
    device.read_floats(buffer, rows.len()).chunks_exact(2).map(|row| row[1]).collect()
}

fn exact(instruction: &str, a: f64) -> f64 {
    match instruction {
        "rcp.approx.ftz.f32" => 1.0 / a,
        "ex2.approx.ftz.f32" => a.exp2(),
        name => panic!("{name} is not among the approximations"),
    }
}

/// Arguments over many orders of magnitude, or as far as the instruction's results reach.
fn arguments(instruction: &str) -> Vec<f32> {
    let one = |index: i32| {
        let step = index as f32 / 1024.0 - 0.5;
        let spread = (step * 60.0).exp2() * (1.0 + index as f32 * 0.37).fract().max(0.1);
        if instruction.starts_with("ex2") { 120.0 * step + 1e-3 } else { spread }
    };
    (0..1024).map(one).collect()
}

#[test]
fn without_noise_results_are_exact_up_to_rounding() {
    for approximation in &APPROXIMATIONS {
        let name = approximation.instruction;
        let arguments = arguments(name);
        for (&a, found) in arguments.iter().zip(results(name, &arguments, None)) {
            let wanted = exact(name, f64::from(a)) as f32;
            // The exact result may lie so near to a tie that its computation decides.
            let near = found == wanted || found == wanted.next_up() || found == wanted.next_down();
            assert!(near, "{name} of {a:e}: {found:e} for {wanted:e}");
        }
    }
}

#[test]
fn noise_stays_within_the_bound_and_reaches_for_it() {
    for approximation in &APPROXIMATIONS {
        let name = approximation.instruction;
        let arguments = arguments(name);
        let clean = results(name, &arguments, None);
        for seed in [1, 99] {
            let noisy = results(name, &arguments, Some(seed));
            assert_eq!(noisy, results(name, &arguments, Some(seed)), "the same for the same seed");
            let mut largest = 0.0f64;
            let mut changed = 0;
            for ((&a, &found), &clean) in arguments.iter().zip(&noisy).zip(&clean) {
                let exact = exact(name, f64::from(a));
                let part = (f64::from(found) - exact).abs() / approximation.allowed(exact);
                assert!(part <= 1.0 + 1e-6, "{name} of {a:e} is off by {part} bounds");
                largest = largest.max(part);
                changed += usize::from(found.to_bits() != clean.to_bits());
            }
            assert!(largest > 0.5, "{name} uses only {largest} of its bound");
            assert!(changed > 200, "{name} changes only {changed} of 1024 results");
        }
        assert_ne!(results(name, &arguments, Some(1)), results(name, &arguments, Some(2)));
    }
}

#[test]
fn special_results_stay_exact() {
    let specials = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let arguments: Vec<_> = (0..32).map(|index| specials[index % 5]).collect();
    for approximation in &APPROXIMATIONS {
        let name = approximation.instruction;
        let bits = |seed| -> Vec<u32> {
            results(name, &arguments, seed).into_iter().map(f32::to_bits).collect()
        };
        assert_eq!(bits(Some(5)), bits(None), "{name}");
    }
}

#[test]
fn bounds_are_those_of_the_manual() {
    let known = |name: &str| APPROXIMATIONS.iter().find(|it| it.instruction == name).unwrap();
    assert_eq!(known("ex2.approx.ftz.f32").ulps, 2.0);
    assert_eq!(known("rcp.approx.ftz.f32").allowed(1.0), 2f64.powi(-23));
    // In the range of subnormal numbers a last place is 2⁻¹⁴⁹.
    assert_eq!(known("ex2.approx.ftz.f32").allowed(2f64.powi(-140)), 2f64.powi(-148));
}
