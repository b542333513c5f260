//! The exported functions, made from the table: each hands its arguments to the driver in use.
#![allow(non_snake_case, reason = "the names are those of cuda.h")]

use crate::choice::{Driver, driver};
use crate::codes::{self, CUDA_ERROR_NO_DEVICE, CUDA_ERROR_NOT_SUPPORTED, answered};
#[cfg(feature = "emulator")]
use crate::emulator;
use crate::types::*;

macro_rules! export {
    ($name:ident($($argument:ident: $type:ty),*) emulated $emulated:block absent $absent:block) => {
        #[doc = concat!("`", stringify!($name), "` of the CUDA driver.")]
        ///
        /// # Safety
        ///
        /// As the driver's documentation says for the function of this name.
        #[unsafe(no_mangle)]
        #[allow(unused_unsafe, reason = "some functions of the emulated device are safe")]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> CUresult {
            codes::mapped(match driver() {
                Ok(Driver::System(system)) => match system.symbols.$name {
                    // SAFETY: the caller's promise; the symbol has this signature.
                    Some(function) => unsafe { function($($argument),*) },
                    None => CUDA_ERROR_NOT_SUPPORTED,
                },
                #[cfg(feature = "emulator")]
                Ok(Driver::Emulated) => $emulated,
                Err(_) => $absent,
            })
        }
    };
}

macro_rules! exported_functions {
    (
        answered { $(fn $answered:ident($($a:ident: $a_type:ty),* $(,)?);)* }
        emulated { $(fn $emulated:ident($($e:ident: $e_type:ty),* $(,)?);)* }
        system_only { $(fn $system:ident($($s:ident: $s_type:ty),* $(,)?);)* }
    ) => {
        $(export!($answered($($a: $a_type),*)
            // SAFETY: the caller's promise.
            emulated { unsafe { answered::$answered($($a),*) } }
            // SAFETY: the caller's promise.
            absent { unsafe { answered::$answered($($a),*) } }
        );)*
        $(export!($emulated($($e: $e_type),*)
            // SAFETY: the caller's promise.
            emulated { emulator::code(unsafe { emulator::$emulated($($e),*) }) }
            absent { CUDA_ERROR_NO_DEVICE }
        );)*
        $(export!($system($($s: $s_type),*)
            emulated { CUDA_ERROR_NOT_SUPPORTED }
            absent { CUDA_ERROR_NO_DEVICE }
        );)*
    };
}

for_each_function!(exported_functions);
