//! Every function of the table, called as `cust` calls it, arrives in a driver library with its
//! arguments. The library is a stub in C. Which driver is chosen is in `choice.rs`.
#![allow(non_snake_case, reason = "the names are those of cuda.h")]

mod stub;

use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard};

use libloading::Library;
use vitrine_cuda_driver::codes::*;
use vitrine_cuda_driver::types::*;
use vitrine_cuda_driver::{Choice, choose, for_each_function, last_unmapped_code};

/// A value to pass, and how the stub writes it down. Each position gives another one.
trait Sample: Sized {
    fn sample(position: usize) -> (Self, String);
}

macro_rules! numbers {
    ($($type:ty: $first:expr),*) => {
        $(impl Sample for $type {
            fn sample(position: usize) -> (Self, String) {
                let value = $first + position as $type;
                (value, value.to_string())
            }
        })*
    };
}

// The first bit is set, and no half is like the other: a wrong width or sign shows.
numbers!(c_int: -0x1234_5678, c_uint: 0x8765_4321, c_uchar: 0xc8, c_ushort: 0xfa01,
    u64: 0x8765_4321_1234_5678, usize: 0x9876_5432_2345_6789);

impl<T> Sample for *mut T {
    fn sample(position: usize) -> (Self, String) {
        let address = 0x7654_3210_8000 + 16 * position;
        (address as Self, format!("{address:#x}"))
    }
}

impl<T> Sample for *const T {
    fn sample(position: usize) -> (Self, String) {
        let (pointer, text) = <*mut T>::sample(position);
        (pointer, text)
    }
}

extern "C" fn host_function(_: *mut c_void) {}
extern "C" fn shared_memory(_: c_int) -> usize {
    0
}

impl Sample for CUhostFn {
    fn sample(_: usize) -> (Self, String) {
        (Some(host_function), format!("{:#x}", host_function as *const () as usize))
    }
}

impl Sample for CUoccupancyB2DSize {
    fn sample(_: usize) -> (Self, String) {
        (Some(shared_memory), format!("{:#x}", shared_memory as *const () as usize))
    }
}

/// Declares the functions as a crate does that links against `libcuda`, and calls each of them.
macro_rules! calls {
    ($($group:ident { $(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)* })*) => {
        /// The functions by their names in the linked program.
        mod linked {
            use vitrine_cuda_driver::types::*;
            // SAFETY: the signatures are those of the definitions.
            unsafe extern "C" {
                $($(pub fn $name($($argument: $type),*) -> CUresult;)*)*
            }
        }

        /// Calls every function with sample values. Gives name, result, and the call as the stub
        /// should have written it.
        fn call_all(mut check: impl FnMut(&str, CUresult, String)) {
            $($({
                let mut position = 0..;
                let mut written = concat!(stringify!($name), "(").to_owned();
                $(let ($argument, text) = <$type>::sample(position.next().unwrap());
                written += &format!(" {text}");)*
                let _ = (&mut position, &mut written);
                // SAFETY: the stub follows no pointer.
                let code = unsafe { linked::$name($($argument),*) };
                check(stringify!($name), code, written + ")");
            })*)*
        }
    };
}

for_each_function!(calls);

/// The stub in use by this process, for one test at a time.
struct Stub {
    library: Library,
    _alone: MutexGuard<'static, ()>,
}

impl Stub {
    fn start() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        static PATH: std::sync::OnceLock<Option<std::path::PathBuf>> = std::sync::OnceLock::new();
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let path = PATH.get_or_init(|| stub::build("forwarding", &["LACKS_MEMORY_INFO"]));
        let path = path.as_ref()?;
        choose(Choice::Library(path.clone())).expect("the stub opens");
        // SAFETY: the library has no initialisers.
        let library = unsafe { Library::new(path) }.expect("it is open already");
        Some(Self { library, _alone: alone })
    }

    fn return_from_now_on(&self, code: CUresult) {
        // SAFETY: this is the function's signature.
        let set = unsafe { self.library.get::<unsafe extern "C" fn(c_int)>("stub_set_result") };
        // SAFETY: it takes any number.
        unsafe { set.expect("the stub has it")(code) }
    }

    fn last_call(&self) -> String {
        type Function = unsafe extern "C" fn() -> *const c_char;
        // SAFETY: this is the function's signature.
        let last = unsafe { self.library.get::<Function>("stub_last_call") };
        // SAFETY: it gives a text that ends with zero.
        let text = unsafe { CStr::from_ptr(last.expect("the stub has it")()) };
        text.to_string_lossy().into_owned()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.return_from_now_on(CUDA_SUCCESS);
    }
}

#[test]
fn every_function_hands_on_its_arguments_and_its_result() {
    let Some(stub) = Stub::start() else { return };
    stub.return_from_now_on(CUDA_ERROR_ILLEGAL_STATE);
    let mut functions = 0;
    call_all(|name, code, written| {
        if name != "cuMemGetInfo_v2" {
            assert_eq!(stub.last_call(), written);
            assert_eq!(code, CUDA_ERROR_ILLEGAL_STATE, "{name}");
            functions += 1;
        }
    });
    assert_eq!(functions, 112);
}

#[test]
fn a_function_that_the_library_lacks_is_not_supported() {
    let Some(stub) = Stub::start() else { return };
    let before = stub.last_call();
    let (mut free, mut total) = (1, 2);
    // SAFETY: both can be written.
    let code = unsafe { linked::cuMemGetInfo_v2(&mut free, &mut total) };
    assert_eq!((code, free, total), (CUDA_ERROR_NOT_SUPPORTED, 1, 2));
    assert_eq!(stub.last_call(), before);
}

#[test]
fn codes_that_cust_does_not_know_never_come_out() {
    let Some(stub) = Stub::start() else { return };
    for code in -1..1100 {
        stub.return_from_now_on(code);
        // SAFETY: the stub follows no pointer.
        let given = unsafe { linked::cuStreamQuery(std::ptr::null_mut()) };
        if KNOWN_TO_CUST.contains(&code) {
            assert_eq!(given, code);
        } else {
            assert_eq!((given, last_unmapped_code()), (CUDA_ERROR_UNKNOWN, Some(code)));
        }
    }
}

#[test]
fn calls_inside_of_the_library_stay_there() {
    let Some(stub) = Stub::start() else { return };
    // Coming out at the exported function of this program, the code would be mapped.
    stub.return_from_now_on(CUDA_ERROR_TENSOR_MEMORY_LEAK);
    type Function = unsafe extern "C" fn() -> CUresult;
    // SAFETY: this is the function's signature.
    let inner = unsafe { stub.library.get::<Function>("stub_calls_itself") };
    // SAFETY: it needs nothing.
    let code = unsafe { inner.expect("the stub has it")() };
    assert_eq!(stub.last_call(), "cuCtxSynchronize()");
    assert_eq!(code, CUDA_ERROR_TENSOR_MEMORY_LEAK);
}
