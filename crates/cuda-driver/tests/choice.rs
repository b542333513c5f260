//! The choice of the driver by the environment, and what is said when it will not do. Each case
//! runs in a process of its own, as the choice is made once. Calls and arguments: `forwarding.rs`.

mod stub;

use std::process::Command;

use vitrine_cuda_driver::codes::CUDA_ERROR_NO_DEVICE;
use vitrine_cuda_driver::{Choice, DriverError, KernelForm, Version, choose};
use vitrine_cuda_driver::{api, devices, require, status};

/// Set in the processes that the tests start.
const CHILD: &str = "VITRINE_TEST_CHILD";

/// In the test's own process: runs the test again in another one with this environment, and gives
/// what it printed. In that one: prints what `report` says, and gives `None`.
fn in_a_process(
    test: &str,
    environment: &[(&str, &str)],
    report: impl FnOnce() -> String,
) -> Option<String> {
    if std::env::var_os(CHILD).is_some() {
        println!("<<{}>>", report());
        return None;
    }
    let mut command = Command::new(std::env::current_exe().expect("a test has a program"));
    command.args(["--exact", test, "--nocapture"]).env_remove("VITRINE_CUDA_DRIVER");
    let output = command.env(CHILD, "1").envs(environment.iter().copied()).output();
    let output = output.expect("the test starts again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (_, said) = text.split_once("<<").expect("the report");
    Some(said.split_once(">>").expect("all of it").0.to_owned())
}

/// The tests' stub, if there is a compiler.
fn stub_path() -> Option<String> {
    stub::build("choice", &[]).map(|path| path.to_str().expect("a path in UTF-8").to_owned())
}

/// The error as shown, or the value.
fn shown<T: std::fmt::Debug>(result: Result<T, DriverError>) -> String {
    result.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
}

#[test]
fn without_a_driver_calls_fail_and_the_reason_is_said() {
    let test = "without_a_driver_calls_fail_and_the_reason_is_said";
    let environment = [("VITRINE_CUDA_DRIVER", "/nowhere/libcuda.so.1")];
    let report = || {
        // SAFETY: cuInit takes a number.
        let first = unsafe { api::cuInit(0) };
        let mut text = std::ptr::null();
        // SAFETY: `text` can be written.
        let answered = unsafe { api::cuGetErrorString(first, &mut text) };
        assert_eq!(answered, 0);
        // SAFETY: the call succeeded.
        let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned();
        assert_eq!(status().expect_err("no driver"), devices().expect_err("no driver"));
        format!("{first} {text} | {}", shown(require(KernelForm::Ptx, Version::new(13, 0))))
    };
    let Some(said) = in_a_process(test, &environment, report) else { return };
    let (calls, reason) = said.split_once(" | ").expect("both");
    assert_eq!(calls, format!("{CUDA_ERROR_NO_DEVICE} no CUDA-capable device is detected"));
    assert!(reason.starts_with("no CUDA driver: /nowhere/libcuda.so.1 could not be opened (/now"));
    assert!(
        reason.ends_with("; install the NVIDIA driver >= 580, or train with --device cpu"),
        "{reason}"
    );
}

#[test]
fn the_systems_driver_has_a_name() {
    let test = "the_systems_driver_has_a_name";
    let report = || format!("{:?}", Choice::from_environment());
    for name in ["system", ""] {
        let environment = [("VITRINE_CUDA_DRIVER", name)];
        let Some(said) = in_a_process(test, &environment, report) else { return };
        assert_eq!(said, "System", "{name:?}");
    }
}

#[test]
fn a_library_that_is_no_driver_is_told_apart() {
    let test = "a_library_that_is_no_driver_is_told_apart";
    let report = || shown(status());
    let environment = [("VITRINE_CUDA_DRIVER", "libc.so.6")];
    let Some(said) = in_a_process(test, &environment, report) else { return };
    assert!(said.starts_with("libc.so.6 is not a CUDA driver: it lacks cuInit"), "{said}");
}

#[test]
fn the_emulated_device_needs_its_feature() {
    let test = "the_emulated_device_needs_its_feature";
    let environment = [("VITRINE_CUDA_DRIVER", "emulated")];
    let Some(said) = in_a_process(test, &environment, || shown(status())) else { return };
    if cfg!(feature = "emulator") {
        assert_eq!(said, "Emulated");
    } else {
        assert!(said.contains("was built without the emulated device: build it with"), "{said}");
    }
}

#[test]
fn a_driver_tells_its_version_and_devices() {
    let test = "a_driver_tells_its_version_and_devices";
    let Some(path) = stub_path() else { return };
    let environment =
        [("VITRINE_CUDA_DRIVER", &*path), ("STUB_VERSION", "13010"), ("STUB_DEVICES", "3")];
    let report = || {
        [
            shown(status()),
            shown(devices()),
            format!("{}", require(KernelForm::Ptx, Version::new(13, 1)).is_ok()),
            format!("{}", require(KernelForm::Native, Version::new(13, 2)).is_ok()),
            shown(require(KernelForm::Ptx, Version::new(13, 2))),
            shown(require(KernelForm::Native, Version::new(14, 0))),
        ]
        .join("\n")
    };
    let Some(said) = in_a_process(test, &environment, report) else { return };
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("System {{ path: {path:?}, version: Version(13010) }}"));
    assert_eq!(lines[1..4], ["3", "true", "true"]);
    let begin =
        "the CUDA driver supports CUDA 13.1, and these kernels (PTX) need CUDA 13.2: install";
    assert!(lines[4].starts_with(begin), "{said}");
    assert!(lines[5].contains("(machine code) need CUDA 14.0"), "{said}");
}

#[test]
fn an_old_driver_is_named_with_the_one_to_install() {
    let test = "an_old_driver_is_named_with_the_one_to_install";
    let Some(path) = stub_path() else { return };
    let environment = [("VITRINE_CUDA_DRIVER", &*path), ("STUB_VERSION", "12040")];
    let report = || shown(require(KernelForm::Native, Version::new(13, 0)));
    let Some(said) = in_a_process(test, &environment, report) else { return };
    assert_eq!(
        said,
        "the CUDA driver supports CUDA 12.4, and these kernels (machine code) need CUDA 13.0: \
         install the NVIDIA driver >= 580, or train with --device cpu"
    );
}

#[test]
fn a_driver_that_does_not_initialise_says_why() {
    let test = "a_driver_that_does_not_initialise_says_why";
    let Some(path) = stub_path() else { return };
    for (code, what) in [
        ("100", "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected; the driver sees"),
        ("803", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): "),
        ("46", "CUDA_ERROR_DEVICE_UNAVAILABLE (46): "),
        ("4711", "CUDA error 4711"),
    ] {
        let environment = [("VITRINE_CUDA_DRIVER", &*path), ("STUB_INIT_RESULT", code)];
        let Some(said) = in_a_process(test, &environment, || shown(devices())) else { return };
        assert!(said.starts_with(&format!("cuInit failed with {what}")), "{said}");
    }
}

#[test]
fn the_choice_is_made_once() {
    let test = "the_choice_is_made_once";
    let Some(path) = stub_path() else { return };
    let report = || {
        let stub = Choice::Library(path.clone().into());
        assert_eq!(choose(stub.clone()), status());
        assert_eq!(choose(stub), status());
        shown(choose(Choice::System))
    };
    // The environment says otherwise, but the program's choice came first.
    let environment = [("VITRINE_CUDA_DRIVER", "/nowhere"), ("STUB_VERSION", "13000")];
    let Some(said) = in_a_process(test, &environment, report) else { return };
    assert!(said.starts_with("this process uses the CUDA driver Library("), "{said}");
}

#[cfg(feature = "emulator")]
#[test]
fn the_environment_sets_the_emulated_device_up() {
    let test = "the_environment_sets_the_emulated_device_up";
    let report = || {
        let (mut context, mut free, mut total) = (std::ptr::null_mut(), 0, 0);
        assert_eq!(devices(), Ok(1));
        // SAFETY: `context` can be written.
        assert_eq!(unsafe { api::cuDevicePrimaryCtxRetain(&mut context, 0) }, 0);
        // SAFETY: the context was retained.
        assert_eq!(unsafe { api::cuCtxSetCurrent(context) }, 0);
        // SAFETY: both can be written.
        assert_eq!(unsafe { api::cuMemGetInfo_v2(&mut free, &mut total) }, 0);
        total.to_string()
    };
    let environment =
        [("VITRINE_CUDA_DRIVER", "emulated"), ("VITRINE_CUDA_EMULATED_MEMORY", "123456")];
    let Some(said) = in_a_process(test, &environment, report) else { return };
    assert_eq!(said, "123456");
}

#[cfg(feature = "emulator")]
#[test]
fn a_setting_that_cannot_be_read_is_named() {
    let test = "a_setting_that_cannot_be_read_is_named";
    for (variable, value, expected) in [
        ("VITRINE_CUDA_EMULATED_MEMORY", "lots", "a number of bytes"),
        ("VITRINE_CUDA_EMULATED_STREAMS", "lazy", "synchronous, deferred, or shuffled=SEED"),
        ("VITRINE_CUDA_EMULATED_CHECKS", "some", "a list, with commas, of none, all"),
    ] {
        let environment = [("VITRINE_CUDA_DRIVER", "emulated"), (variable, value)];
        let Some(said) = in_a_process(test, &environment, || shown(status())) else { return };
        let begin = format!("{variable}={value} is not understood: {expected}");
        assert!(said.starts_with(&begin), "{said}");
    }
}
