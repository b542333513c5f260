//! The IDX container of the MNIST family: a parser that checks all of it. It knows no file names and no sums.
//!
//! ```text
//! 00 00 08 nn   magic: two zeros, element type 0x08 (unsigned byte), number of dimensions
//! dddd × nn     each dimension as a big-endian u32
//! bytes         the elements, row-major, exactly as many as the dimensions say
//! ```

/// A parsed IDX file of unsigned bytes, borrowing from the file's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx<'a> {
    /// The dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub data: &'a [u8],
}

/// What can be wrong with an IDX file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum IdxError {
    /// The file ends inside its header.
    #[error("truncated IDX header: the file has {actual} bytes, its header needs {expected}")]
    TruncatedHeader { expected: usize, actual: usize },
    /// The first two bytes are not zero.
    #[error(
        "not an IDX file: it starts with {0:02x?}, an IDX file of bytes starts with [00, 00, 08]"
    )]
    Magic([u8; 4]),
    /// The elements are not unsigned bytes.
    #[error("IDX element type 0x{0:02x} is not supported, only 0x08 (unsigned byte) is")]
    ElementType(u8),
    /// The number of elements does not fit in memory.
    #[error("IDX dimensions {0:?} are too large")]
    TooLarge(Vec<usize>),
    /// The elements are fewer than the header says.
    #[error(
        "truncated IDX file: the header promises {expected} bytes of data, the file has {actual}"
    )]
    Truncated { expected: usize, actual: usize },
    /// Bytes follow the last element.
    #[error("IDX file that goes on after the {expected} bytes of data that its header promises")]
    TrailingData { expected: usize },
}

/// Parses an IDX file of unsigned bytes. Never panics, whatever the bytes are.
pub fn parse(bytes: &[u8]) -> Result<Idx<'_>, IdxError> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(IdxError::TruncatedHeader { expected: 4, actual: bytes.len() });
    };
    let [zero0, zero1, element, dims] = *magic;
    if zero0 != 0 || zero1 != 0 {
        return Err(IdxError::Magic(*magic));
    }
    if element != 0x08 {
        return Err(IdxError::ElementType(element));
    }
    let header = 4 * usize::from(dims);
    let Some((sizes, data)) = rest.split_at_checked(header) else {
        return Err(IdxError::TruncatedHeader { expected: 4 + header, actual: bytes.len() });
    };
    let (sizes, _) = sizes.as_chunks::<4>();
    let shape: Vec<usize> = sizes.iter().map(|&s| u32::from_be_bytes(s) as usize).collect();
    let Some(expected) = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) else {
        return Err(IdxError::TooLarge(shape));
    };
    if data.len() < expected {
        return Err(IdxError::Truncated { expected, actual: data.len() });
    }
    if data.len() > expected {
        return Err(IdxError::TrailingData { expected });
    }
    Ok(Idx { shape, data })
}
