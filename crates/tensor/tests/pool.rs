//! The pool of buffers: a repeated step takes no fresh memory, and what is dropped can be taken again.

use std::any::Any;

use vitrine_tensor::*;

fn cpu(device: &Device) -> &CpuBackend {
    (device.backend() as &dyn Any).downcast_ref().expect("the device is a CPU")
}

/// Forward, backward and update of a small block, as a training step does them.
fn step(device: &Device, parameters: &Tensor, grads: &Tensor, number: u64) -> Result<()> {
    let dropout = Dropout::new(0.1, StreamKey { seed: 1, step: number, stream: 0 });
    let (d, hidden) = (16, 48);
    let weight =
        |flat: &Tensor, at: usize| flat.narrow(0, at * 3 * d, hidden * d)?.reshape(&[hidden, d]);
    let images = Tensor::full(&[8, 1, 12, 12], 0.5, DType::F32, device)?;
    let x = images.unfold(&Windows::patches((4, 4)))?;
    let (scale, shift) = (parameters.narrow(0, 0, d)?, parameters.narrow(0, d, d)?);
    let (normed, statistics) = x.layer_norm(&scale, &shift, 1e-5)?;
    let qkv = normed.linear(&weight(parameters, 1)?, &Epilogue::default())?;
    let [query, key, value] = AttentionInputs::packed(&qkv)?;
    let inputs = AttentionInputs { query: &query, key: &key, value: &value };
    let attention = Attention { heads: 4, valid_lens: None, bias: None, dropout: Some(dropout) };
    let output = inputs.attend(&attention)?;
    let epilogue = Epilogue { activation: Some(Activation::GeluErf), ..Default::default() };
    let (y, derivative) = output.y.linear_with_derivative(&weight(parameters, 1)?, &epilogue)?;
    let derivative = derivative.expect("there is an activation");
    let logits = y.sum_axis(1)?;
    let labels = Tensor::from_slice(&[1i64; 8], &[8], device)?;
    logits.cross_entropy(&labels, 0.1)?;
    let one = Tensor::full(&[], 1.0, DType::F32, device)?;
    let dlogits = logits.cross_entropy_grad(&labels, 0.1, &one)?;
    let dy = dlogits.reshape(&[8, 1, hidden])?.broadcast_to(y.shape())?.contiguous()?;
    let dpre = dy.mul(&derivative)?;
    dpre.linear_grad_weight_(&output.y, &weight(grads, 1)?, None)?;
    let dattended = dpre.linear_grad_input(&weight(parameters, 1)?)?;
    let dqkv = inputs.attend_grad(&attention, &output, &dattended, true)?;
    dqkv[0].linear_grad_weight_(&normed, &weight(grads, 1)?, None)?;
    let dnormed = dqkv[0].linear_grad_input(&weight(parameters, 1)?)?;
    let (dscale, dshift) = (grads.narrow(0, 0, d)?, grads.narrow(0, d, d)?);
    x.layer_norm_grad(&scale, &statistics, &dnormed, &dscale, &dshift)?;
    grads.clip_norm_(&grads.sum_squares()?, 1.0)?;
    let sgd = SgdStep { learning_rate: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    parameters.sgd_(grads, None, &sgd, &[])?;
    grads.fill_(0.0)
}

#[test]
fn a_repeated_step_takes_no_fresh_memory() {
    let device = Device::new(CpuBackend::default());
    let parameters = Tensor::full(&[3 * 16 + 48 * 16], 0.02, DType::F32, &device).unwrap();
    let grads = Tensor::zeros(parameters.shape(), DType::F32, &device).unwrap();
    step(&device, &parameters, &grads, 0).unwrap();
    let (warm, idle) = (cpu(&device).fresh_allocations(), cpu(&device).idle_bytes());
    assert!(warm > 10 && idle > 0, "{warm} buffers, {idle} bytes");
    for number in 1..20 {
        step(&device, &parameters, &grads, number).unwrap();
        assert_eq!(cpu(&device).fresh_allocations(), warm, "in step {number}");
        assert_eq!(cpu(&device).idle_bytes(), idle, "after step {number}");
    }
}

#[test]
fn dropped_buffers_are_taken_again_and_trimmed_ones_are_not() {
    let device = Device::new(CpuBackend::default());
    let make = |n: usize| Tensor::zeros(&[n], DType::F32, &device).unwrap();
    drop(make(1000));
    assert_eq!((cpu(&device).fresh_allocations(), cpu(&device).idle_bytes()), (1, 4032));
    // A little smaller: the buffer serves. Less than half, or larger: a fresh one.
    let smaller = make(900);
    assert_eq!((cpu(&device).fresh_allocations(), cpu(&device).idle_bytes()), (1, 0));
    drop(smaller);
    let others = [make(100), make(1100)];
    assert_eq!(cpu(&device).fresh_allocations(), 3);
    drop(others);
    cpu(&device).trim();
    assert_eq!(cpu(&device).idle_bytes(), 0);
    drop(make(1000));
    assert_eq!(cpu(&device).fresh_allocations(), 4);
}

#[test]
fn a_program_that_meets_many_sizes_does_not_keep_them_all() {
    let device = Device::new(CpuBackend::default());
    let mut largest = 0;
    for n in (1..200).map(|n| n * 4096) {
        drop(Tensor::zeros(&[n], DType::U8, &device).unwrap());
        largest = largest.max(n);
        assert!(cpu(&device).idle_bytes() <= 2 * largest.next_multiple_of(64), "after {n} bytes");
    }
    // The last ones are kept.
    let fresh = cpu(&device).fresh_allocations();
    drop(Tensor::zeros(&[largest], DType::U8, &device).unwrap());
    assert_eq!(cpu(&device).fresh_allocations(), fresh);
}

#[test]
fn a_view_keeps_the_buffer_alive() {
    let device = Device::new(CpuBackend::default());
    let view = {
        let whole = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[4], &device).unwrap();
        assert!(whole.is_sole_owner());
        whole.narrow(0, 2, 2).unwrap()
    };
    assert_eq!(cpu(&device).idle_bytes(), 0);
    let _other = Tensor::zeros(&[4], DType::F32, &device).unwrap();
    assert_eq!(view.to_vec::<f32>().unwrap(), [3.0, 4.0]);
    drop(view);
    assert_eq!(cpu(&device).idle_bytes(), 64);
}

#[test]
fn poison_fills_idle_buffers_alone() {
    let device = Device::new(CpuBackend::default());
    let kept = Tensor::full(&[16], 2.0, DType::F32, &device).unwrap();
    drop(Tensor::zeros(&[16], DType::F32, &device).unwrap());
    device.backend().poison();
    assert_eq!(kept.to_vec::<f32>().unwrap(), [2.0; 16]);
    let reused = Tensor::zeros(&[9], DType::F32, &device).unwrap();
    assert_eq!(reused.to_vec::<f32>().unwrap(), [0.0; 9]);
    assert_eq!(cpu(&device).fresh_allocations(), 2);
}

#[test]
fn threads_may_share_a_device() {
    let device = Device::new(CpuBackend::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let device = &device;
            scope.spawn(move || {
                for i in 0..200 {
                    let value = f64::from(thread * 1000 + i);
                    let x = Tensor::full(&[33], value, DType::F64, device).unwrap();
                    let y = x.add(&x).unwrap();
                    assert_eq!(y.to_vec::<f64>().unwrap(), [2.0 * value; 33]);
                }
            });
        }
    });
}
