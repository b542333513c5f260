//! The IDX container of the MNIST family: a parser that checks all of it. It knows no file names and no sums.
//!
//! ```text
//! 00 00 08 nn   magic: two zeros, element type 0x08 (unsigned byte), number of dimensions
//! dddd × nn     each dimension as a big-endian u32
//! bytes         the elements, row-major, exactly as many as the dimensions say
//! ```

use std::cmp::Ordering;
use std::path::Path;

use crate::DataError;

/// A parsed IDX file of unsigned bytes, borrowing from the file's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx<'a> {
    /// The dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub data: &'a [u8],
}

/// Parses an IDX file of unsigned bytes. Never panics, whatever the bytes are. The path is for error messages.
pub fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Idx<'a>, DataError> {
    let bad = |reason| Err(DataError::BadFile { path: path.to_owned(), reason });
    let cut_off = |header: usize| {
        let length = bytes.len();
        bad(format!("truncated IDX header: the file has {length} bytes, its header needs {header}"))
    };
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else { return cut_off(4) };
    let [zero0, zero1, element, dims] = *magic;
    if [zero0, zero1] != [0, 0] {
        let right = "an IDX file of bytes starts with [00, 00, 08]";
        return bad(format!("not an IDX file: it starts with {magic:02x?}, {right}"));
    }
    if element != 0x08 {
        return bad(format!(
            "IDX element type 0x{element:02x} is not supported, only 0x08 (unsigned byte) is"
        ));
    }
    let header = 4 * usize::from(dims);
    let Some((sizes, data)) = rest.split_at_checked(header) else { return cut_off(4 + header) };
    let (sizes, _) = sizes.as_chunks::<4>();
    let shape: Vec<usize> = sizes.iter().map(|&s| u32::from_be_bytes(s) as usize).collect();
    let Some(expected) = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) else {
        return bad(format!("IDX dimensions {shape:?} are too large"));
    };
    let promise = format!("{expected} bytes of data that its header promises");
    match data.len().cmp(&expected) {
        Ordering::Less => bad(format!("truncated IDX file: {} of the {promise}", data.len())),
        Ordering::Equal => Ok(Idx { shape, data }),
        Ordering::Greater => bad(format!("IDX file that goes on after the {promise}")),
    }
}
