use std::sync::Arc;
use std::time::Instant;
use vitrine_data::augment::*;
use vitrine_data::*;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let workers: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let folder = Folder::open(std::path::Path::new(&dir), "x", None, MAX_PIXELS).unwrap();
    let n = folder.len();
    let t = Instant::now();
    let mut im = Image::default();
    for i in 0..n { folder.read(i, &mut im).unwrap(); }
    println!("decode {:.3} ms", t.elapsed().as_secs_f64() * 1e3 / n as f64);
    let pre = Preprocessing { interpolation: Interpolation::Bicubic, ..Preprocessing::new(3, (224, 224)) };
    let mut scratch = transform_scratch();
    let t = Instant::now();
    for _ in 0..500 { let mut i2 = im.clone(); scratch.resize(&mut i2, Rect{top:20,left:20,height:300,width:400}, (224,224), Rect::whole((224,224)), Interpolation::Bicubic).unwrap(); }
    println!("rrc {:.3} ms", t.elapsed().as_secs_f64() * 1e3 / 500.0);
    scratch.resize(&mut im, Rect{top:20,left:20,height:300,width:400}, (224,224), Rect::whole((224,224)), Interpolation::Bicubic).unwrap();
    for op in [Operation::Rotate(20.0), Operation::ShearX(0.2), Operation::Color(1.3), Operation::Sharpness(1.5), Operation::Equalize, Operation::GaussianBlur(1.2), Operation::Hue(0.1), Operation::Brightness(1.2), Operation::Contrast(1.1)] {
        let t = Instant::now();
        for _ in 0..200 { let mut i2 = im.clone(); op.apply(&mut i2, Interpolation::Bicubic, &[100,100,100], &mut scratch); }
        println!("{op:?} {:.3} ms", t.elapsed().as_secs_f64() * 1e3 / 200.0);
    }
    let augmentation = Augmentation { crop: RandomCrop::Resized { scale: [0.08, 1.0], ratio: [0.75, 4.0/3.0] }, hflip: 0.5, policy: Some("rand-m9-mstd0.5-inc1".parse().unwrap()), ..Augmentation::none(pre.clone()) };
    let config = LoaderConfig { shuffle: true, workers, prefetch: 2*workers.max(1), ..LoaderConfig::new(32, pre) };
    let loader = Loader::with_transform(Arc::new(folder), config, Arc::new(augmentation)).unwrap();
    for epoch in 0..4 {
        let t = Instant::now();
        for b in loader.epoch(epoch, 0) { loader.recycle(b.unwrap()); }
        println!("{:.1} pictures/s", n as f64 / t.elapsed().as_secs_f64());
    }
}
fn transform_scratch() -> Scratch { Scratch::default() }
