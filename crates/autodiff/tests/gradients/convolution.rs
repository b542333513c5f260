//! Cases of windows of images and of convolution.

use vitrine_tensor::{Partition, Windows};

use crate::check::{Case, case};

/// Windows side by side, apart, overlapping, and with padding.
const WINDOWS: [Windows; 4] = [
    Windows { kernel: (2, 3), stride: (2, 3), padding: (0, 0) },
    Windows { kernel: (1, 2), stride: (2, 3), padding: (0, 1) },
    Windows { kernel: (3, 2), stride: (1, 1), padding: (1, 0) },
    Windows { kernel: (3, 3), stride: (2, 1), padding: (2, 1) },
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for windows in WINDOWS {
        let name = format!("{windows:?}");
        cases.push(case("unfold", name.clone(), &[&[2, 3, 4, 6]], move |x| x[0].unfold(&windows)));
        let (p, q) = windows.kernel;
        let shapes: [&[usize]; 3] = [&[2, 4, 6, 3], &[5, 3, p, q], &[5]];
        cases.push(case("convolution", format!("{name}, bias"), &shapes, move |x| {
            x[0].convolution(&x[1], Some(&x[2]), &windows)
        }));
        cases.push(case("convolution", name, &shapes[..2], move |x| {
            x[0].convolution(&x[1], None, &windows)
        }));
    }
    let partition = Partition { window: (2, 3), shift: (1, 2) };
    cases.push(case("window_partition", "shifted", &[&[2, 4, 6, 3]], move |x| {
        x[0].window_partition(&partition)
    }));
    cases.push(case("window_reverse", "shifted", &[&[8, 6, 3]], move |x| {
        x[0].window_reverse(&partition, &[2, 4, 6, 3])
    }));
    for windows in &WINDOWS[..3] {
        let windows = *windows;
        cases.push(case("max_pool", format!("{windows:?}"), &[&[2, 4, 6, 3]], move |x| {
            x[0].max_pool(&windows)
        }));
    }
    cases.push(case("unfold", "transposed images", &[&[2, 1, 2, 3]], |x| {
        x[0].permute(&[0, 1, 3, 2])?.unfold(&Windows::patches((1, 1)))
    }));
    cases.push(case("convolution", "of a picture with itself", &[&[3, 3, 3, 3]], |x| {
        let windows = Windows { kernel: (3, 3), stride: (1, 1), padding: (1, 1) };
        x[0].convolution(&x[0], None, &windows)
    }));
    cases
}
