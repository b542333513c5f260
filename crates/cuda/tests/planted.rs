//! Bugs planted into the PTX of one of our kernels are found, and the kernel as it is passes. Runs on the emulator
//! alone.

use std::fs;

use vitrine_ptx_emulator::{
    Checks, DeviceMemory, Fault, FaultKind, LaunchConfig, PtxProgram, launch,
};

/// Sums over rows: global and shared memory, a loop, a barrier.
const KERNEL: &str = "sum_f32";
const ROWS: usize = 20;
const COLUMNS: usize = 40;

/// The PTX of the module that has the kernel.
fn module() -> String {
    fs::read_to_string(vitrine_cuda::kernels_folder().unwrap().join("sum.ptx")).unwrap()
}

/// The module with the kernel's lines changed: `edit` gives a line's new text, or `None` to leave it out.
fn planted(edit: impl Fn(&str) -> Option<String>) -> String {
    let module = module();
    let start = module.find(&format!(".entry {KERNEL}(")).expect("the module has the kernel");
    let end = start + module[start..].find("\n}").expect("a body ends");
    let body: Vec<String> = module[start..end].lines().filter_map(edit).collect();
    let changed = [&module[..start], &body.join("\n"), &module[end..]].concat();
    assert_ne!(changed, module, "nothing was planted");
    changed
}

/// Sums a matrix of ones, three, … with the kernel.
fn run(ptx: &str, checks: &Checks) -> Result<Vec<f32>, Fault> {
    let program = PtxProgram::load(ptx).unwrap();
    let mut memory = DeviceMemory::new(1 << 20);
    let values: Vec<f32> = (0..ROWS * COLUMNS).map(|i| (i % 7) as f32).collect();
    let from = memory.alloc((4 * values.len()) as u64).unwrap();
    memory.write(from, bytemuck::cast_slice(&values)).unwrap();
    let to = memory.alloc(4 * COLUMNS as u64).unwrap();
    let mut parameters = [from, to, ROWS as u64].map(u64::to_le_bytes).concat();
    parameters.extend((COLUMNS as u32).to_le_bytes());
    let blocks = COLUMNS.div_ceil(32) as u32;
    let config = LaunchConfig { grid: [blocks, 1, 1], block: [256, 1, 1] };
    launch(&mut memory, &program, KERNEL, &config, &parameters, checks)?;
    let mut bytes = vec![0; 4 * COLUMNS];
    memory.read(to, &mut bytes).unwrap();
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}

#[track_caller]
fn fault(ptx: &str, checks: &Checks) -> FaultKind {
    let fault = run(ptx, checks).expect_err("the bug was not found");
    println!("{fault}");
    let site = fault.site().expect("it has a place");
    assert!(fault.to_string().contains(KERNEL) && site.line > 0, "{fault}");
    fault.kind().clone()
}

#[test]
fn the_kernel_as_it_is_passes() {
    let expected: Vec<f32> =
        (0..COLUMNS).map(|c| (0..ROWS).map(|r| ((r * COLUMNS + c) % 7) as f32).sum()).collect();
    for schedule in [None, Some(1), Some(2)] {
        let checks = Checks { schedule, ..Checks::default() };
        assert_eq!(run(&module(), &checks).unwrap(), expected);
    }
}

#[test]
fn a_missing_barrier_is_found() {
    let ptx = planted(|line| (!line.contains("bar.sync")).then(|| line.to_owned()));
    let unordered = Checks { uninitialised: false, ..Checks::default() };
    assert!(matches!(fault(&ptx, &unordered), FaultKind::SharedRace { .. }));
    // What was not written yet is read, too.
    assert!(matches!(
        fault(&ptx, &Checks::default()),
        FaultKind::SharedRace { .. } | FaultKind::Uninitialised { .. }
    ));
}

#[test]
fn an_off_by_one_is_found() {
    let ptx = planted(|line| {
        Some(line.replace("setp.ge.u64", "setp.gt.u64").replace("setp.lt.u64", "setp.le.u64"))
    });
    assert!(matches!(fault(&ptx, &Checks::none()), FaultKind::OutOfBounds { .. }));
}

#[test]
fn an_uninitialised_read_is_found() {
    let ptx = planted(|line| (!line.contains("st.shared")).then(|| line.to_owned()));
    assert!(matches!(fault(&ptx, &Checks::default()), FaultKind::Uninitialised { .. }));
}

#[test]
fn a_wrong_stride_is_found() {
    // Elements of four bytes, addressed as if they had eight.
    let ptx = planted(|line| match line.trim_start().starts_with("shl.b64") {
        true => Some(line.replace(", 2;", ", 3;")),
        false => Some(line.to_owned()),
    });
    assert!(matches!(fault(&ptx, &Checks::none()), FaultKind::OutOfBounds { .. }));
}
