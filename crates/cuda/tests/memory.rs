//! Device memory: blocks that are used again, copies in both directions, and what is said when there is no more.

use std::any::Any;

use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{DType, Device, Error, Tensor};

fn device(allocator: Allocator) -> Device {
    Device::new(CudaBackend::new(0, &Options { allocator, ..Options::default() }).unwrap())
}

fn backend(device: &Device) -> &CudaBackend {
    (device.backend() as &dyn Any).downcast_ref().expect("the device is a CUDA one")
}

#[test]
fn blocks_are_used_again() {
    let device = device(Allocator::Cached);
    let step = || {
        let x = Tensor::full(&[300, 70], 1.5, DType::F32, &device).unwrap();
        x.add(&x).unwrap().sum().unwrap().to_scalar().unwrap()
    };
    assert_eq!(step(), 63_000.0);
    let fresh = backend(&device).fresh_allocations();
    for _ in 0..5 {
        assert_eq!(step(), 63_000.0);
    }
    assert_eq!(backend(&device).fresh_allocations(), fresh);
    assert!(backend(&device).idle_bytes() >= 2 * 300 * 70 * 4);
    backend(&device).trim();
    assert_eq!(backend(&device).idle_bytes(), 0);
    assert_eq!(step(), 63_000.0);
}

#[test]
fn copies_of_any_size_arrive_whole() {
    for allocator in [Allocator::Cached, Allocator::Exact] {
        let device = device(allocator);
        // Slots have 4 MiB; the last one needs all of them and begins again.
        for count in [0, 1, 1000, 1 << 20, (1 << 20) + 1, 5_500_000] {
            let mut values: Vec<u32> = (0..count as u32).collect();
            let bytes: &[u8] = bytemuck::cast_slice(&values);
            let x = Tensor::from_slice(bytes, &[bytes.len()], &device).unwrap();
            // What is on its way must not change with the host's memory.
            values.fill(7);
            drop(values);
            let back = x.to_vec::<u8>().unwrap();
            let back: Vec<u32> = bytemuck::pod_collect_to_vec(&back);
            assert!(back.into_iter().eq(0..count as u32), "{count} in {allocator:?}");
        }
    }
}

#[test]
fn uploads_keep_their_order_among_kernels() {
    let device = device(Allocator::Cached);
    let x = Tensor::zeros(&[1000], DType::F32, &device).unwrap();
    let sums = Tensor::zeros(&[1000], DType::F32, &device).unwrap();
    for round in 0..20 {
        // Each sum must see the upload before it and not the one after.
        x.copy_from_slice_(&[round as f32; 1000]).unwrap();
        sums.add_scaled_(&x, 1.0).unwrap();
    }
    assert_eq!(sums.to_vec::<f32>().unwrap(), [190.0; 1000]);
}

#[test]
fn what_does_not_fit_is_said_with_figures() {
    for allocator in [Allocator::Cached, Allocator::Exact] {
        let device = device(allocator);
        let held = Tensor::zeros(&[1 << 20], DType::F32, &device).unwrap();
        let error = Tensor::zeros(&[1 << 40], DType::F32, &device).unwrap_err();
        let Error::Device { op: "allocate", device: name, message } = &error else {
            panic!("{error}")
        };
        assert_eq!(name, "cuda:0");
        for part in ["4194304.0 MiB were asked for", "are free", "hold 4.0", "smaller batch"] {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
        // The device goes on as if nothing had been asked.
        assert_eq!(held.sum().unwrap().to_scalar().unwrap(), 0.0);
    }
}

#[test]
fn a_label_that_is_no_class_is_told_by_the_next_call_that_waits() {
    let device = device(Allocator::Cached);
    let logits = Tensor::zeros(&[4, 3], DType::F32, &device).unwrap();
    let labels = |labels: &[i64]| Tensor::from_slice(labels, &[4], &device).unwrap();
    let loss = logits.cross_entropy(&labels(&[0, 1, 3, -1]), 0.0).unwrap();
    let error = loss.to_scalar().unwrap_err();
    assert_eq!(error, Error::Label { sample: 2, label: 3, classes: 3 });
    // Told once.
    let loss = logits.cross_entropy(&labels(&[0, 1, 2, 2]), 0.0).unwrap().to_scalar().unwrap();
    assert!((loss - 3f64.ln()).abs() < 1e-6);
}

#[test]
fn arithmetic_in_f64_is_for_the_cpu() {
    let device = device(Allocator::Cached);
    let x = Tensor::zeros(&[2, 2], DType::F64, &device).unwrap();
    for result in [x.add(&x), x.softmax(), x.matmul(&x), x.linear(&x, &Default::default())] {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("f32 or bf16 on CUDA"), "{error}");
    }
    let error = CudaBackend::new(99, &Options::default()).err().expect("no machine has so many");
    assert!(error.to_string().contains("no device cuda:99"), "{error}");
}

#[test]
fn a_device_is_the_same_at_each_call() {
    let (first, second) = (vitrine_cuda::device(0).unwrap(), vitrine_cuda::device(0).unwrap());
    assert_eq!(first, second);
    let x = Tensor::full(&[3], 1.0, DType::F32, &first).unwrap();
    let y = Tensor::full(&[3], 2.0, DType::F32, &second).unwrap();
    assert_eq!(x.add(&y).unwrap().to_vec::<f32>().unwrap(), [3.0; 3]);
}

#[test]
fn a_dense_copy_is_made_on_any_thread() {
    let device = device(Allocator::Cached);
    let from = Tensor::full(&[300], 1.5, DType::F32, &device).unwrap();
    let to = Tensor::zeros(&[300], DType::F32, &device).unwrap();
    // No call before it has made the context current there.
    std::thread::scope(|scope| scope.spawn(|| to.copy_(&from).unwrap()).join().unwrap());
    assert_eq!(to.to_vec::<f32>().unwrap(), [1.5; 300]);
}
