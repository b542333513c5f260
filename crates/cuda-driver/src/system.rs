//! A driver library of the system: opened at run time, each function of the table looked up once.

use std::error::Error;
use std::path::{Path, PathBuf};

use libloading::Library;

use crate::choice::DriverError;
use crate::types::*;

/// A driver library that has been opened. It stays open until the process ends.
pub(crate) struct System {
    /// What was given to `dlopen`.
    pub path: PathBuf,
    /// The functions of the table that the library has.
    pub symbols: Symbols,
    _library: Library,
}

impl System {
    /// Opens `path` and looks up every function of the table. One that the library lacks is left
    /// out, except for the two without which it cannot be a driver.
    pub fn open(path: &Path) -> Result<Self, DriverError> {
        let failed = |error: libloading::Error| {
            // What the dynamic linker says is the source of the library's own error.
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            DriverError::NotOpened { path: path.to_owned(), reason }
        };
        // SAFETY: the initialisers of a driver library may run at any time; the path is
        // the system's driver, or one that the person who starts the program has named.
        let library = unsafe { Library::new(path) }.map_err(failed)?;
        // SAFETY: it is a driver library, whose functions have the signatures of cuda.h. The
        // library is kept as long as the symbols.
        let symbols = unsafe { Symbols::of(&library) };
        if symbols.cuInit.is_none() || symbols.cuDriverGetVersion.is_none() {
            return Err(DriverError::NoDriverLibrary { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), symbols, _library: library })
    }
}

macro_rules! symbols {
    ($($group:ident {
        $(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*
    })*) => {
        /// Where each function of the table is, `None` where the library does not have it.
        #[allow(non_snake_case, reason = "the names are those of cuda.h")]
        pub(crate) struct Symbols {
            $($(pub $name: Option<unsafe extern "C" fn($($type),*) -> CUresult>,)*)*
        }

        impl Symbols {
            /// # Safety
            ///
            /// The functions of the library have the table's signatures, and the symbols are not
            /// used when it has been closed.
            unsafe fn of(library: &Library) -> Self {
                Self {
                    // SAFETY: the caller's promise.
                    $($($name: unsafe { library.get(concat!(stringify!($name), "\0")) }
                        .ok()
                        .map(|symbol| *symbol),)*)*
                }
            }
        }
    };
}

for_each_function!(symbols);
