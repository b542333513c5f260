//! Reading files of records, CIFAR's binary form: label bytes, then the planes of an image. It knows no names, no sums.

use std::path::Path;

use crate::samples::check_label;
use crate::spec::{DatasetSpec, SplitSpec};
use crate::{DataError, files};

/// The images and labels of one part, after every check of its files. The label is at a place in each record, and the
/// image follows it.
pub(crate) fn read(
    dir: &Path,
    spec: &DatasetSpec,
    part: &SplitSpec,
    label_at: usize,
) -> Result<(Vec<u8>, Vec<i64>), DataError> {
    let size = label_at + 1 + spec.image_shape.iter().product::<usize>();
    let records = part.samples / part.files.len().max(1);
    let (mut images, mut labels) = (Vec::with_capacity(part.samples * size), Vec::new());
    for file in part.files {
        let (path, bytes) = files::checked(dir, file, records * size, |path, bytes| {
            let expected = records * size;
            let reason = format!("not {records} records of {size} bytes, which are {expected}");
            let error = DataError::BadFile { path: path.to_owned(), reason };
            (bytes.len() == expected).then_some(()).ok_or(error)
        })?;
        let name = path.display().to_string();
        for (sample, record) in bytes.chunks_exact(size).enumerate() {
            let label = i64::from(record[label_at]);
            check_label(&name, spec.class_names.len(), sample, label)?;
            labels.push(label);
            images.extend_from_slice(&record[label_at + 1..]);
        }
    }
    Ok((images, labels))
}
