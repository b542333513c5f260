//! Operations on the same tensors from several threads, and from tasks of one pool, all come to an end.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vitrine_tensor::*;

fn ones(elements: usize) -> Tensor {
    Tensor::full(&[elements], 1.0, DType::F32, &Device::cpu()).unwrap()
}

/// Fails if `work` takes longer than it ever may.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, waits) = mpsc::channel();
    let thread = thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    match waits.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("two operations wait for each other"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn two_threads_take_the_same_tensors_in_another_order() {
    ends(|| {
        let (a, b) = (ones(64), ones(64));
        thread::scope(|scope| {
            for [to, from] in [[&a, &b], [&b, &a]] {
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        to.add_scaled_(from, 0.0).unwrap();
                        to.copy_(from).unwrap();
                    }
                });
            }
        });
        assert_eq!(a.to_vec::<f32>().unwrap(), [1.0; 64]);
    });
}

#[test]
fn tasks_of_one_pool_update_and_read_the_same_parameters() {
    ends(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let step =
            SgdStep { learning_rate: 1.0, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let side = 512;
        let (parameters, grads, velocity) =
            (ones(side * side), ones(side * side), ones(side * side));
        grads.fill_(0.0).unwrap();
        velocity.fill_(0.0).unwrap();
        let square = parameters.reshape(&[side, side]).unwrap();
        let (parameters, grads, velocity) = (&parameters, &grads, &velocity);
        pool.scope(|scope| {
            for task in 0..150 {
                let square = &square;
                scope.spawn(move |_| match task % 3 {
                    0 => parameters.sgd_(grads, Some(velocity), &step, &[]).unwrap(),
                    1 => {
                        let sum = parameters.sum().unwrap().to_vec::<f32>().unwrap();
                        assert_eq!(sum, [(side * side) as f32]);
                    }
                    _ => {
                        let product = square.matmul(square).unwrap().to_vec::<f32>().unwrap();
                        assert!(product.iter().all(|&x| x == side as f32));
                    }
                });
            }
        });
    });
}
