//! scratch
use vitrine_tensor::*;
fn main(){ for d in [DType::BF16, DType::F32, DType::F64]{ let dev=Device::new(CpuBackend::default());
 for c in vitrine_testkit::cases::all(){ for x in c.run(&dev,d).unwrap(){ let r=x.verdict().unwrap(); 
 if r > 0.27 { println!("{d} {} {} {} {r:.3}", c.op,c.name,x.output()); } } } } }
