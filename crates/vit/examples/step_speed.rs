//! Times training steps of a preset on random images.
use std::time::Instant;
use vitrine_nn::{Optimizer, ParameterBuilder, Pass, Sgd};
use vitrine_tensor::{DType, Device, StreamKey, Tensor};
use vitrine_vit::{VisionTransformer, VitConfig};
fn main() {
    let d = Device::cpu();
    for saving in [true, false] {
        let config = VitConfig { last_block_saving: saving, ..VitConfig::preset("d2l").unwrap() };
        let mut b = ParameterBuilder::new(0);
        let m = VisionTransformer::new(&mut b.scope(""), &config).unwrap();
        let p = b.build(DType::F32, &d).unwrap();
        println!("{} params", p.count());
        let x: Vec<f32> = StreamKey { seed: 1, step: 0, stream: 0 }
            .uniform(128 * 96 * 96)
            .iter()
            .map(|v| *v as f32)
            .collect();
        let x = Tensor::from_slice(&x, &[128, 1, 96, 96], &d).unwrap();
        let y = Tensor::from_slice(&(0..128).map(|i| i % 10).collect::<Vec<i64>>(), &[128], &d)
            .unwrap();
        let mut o = Sgd::new(0.0, false, 0.0).unwrap();
        for step in 0..8 {
            let t = Instant::now();
            let pass = Pass::training(&p, 0, step);
            let logits = m.forward(&pass, &pass.constant(x.clone())).unwrap();
            let loss = logits.cross_entropy(&y, 0.0).unwrap();
            let f = t.elapsed();
            p.zero_grads().unwrap();
            pass.backward(&loss).unwrap();
            let bw = t.elapsed();
            o.step(&p, 0.1).unwrap();
            println!(
                "step {step} loss {:.4} fwd {:?} fwd+bwd {:?} all {:?}",
                loss.value().to_scalar().unwrap(),
                f,
                bw,
                t.elapsed()
            );
        }
    }
}
