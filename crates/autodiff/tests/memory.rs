//! Backward frees what the operations saved, and the gradients between them, as it passes. Seen through clones that the
//! test keeps: once nothing else holds a tensor's memory, the clone is its sole owner.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use vitrine_autodiff::{CustomOp, Result, SelfAttention, Tape, Var};
use vitrine_tensor::{Activation, Device, Dropout, Epilogue, StreamKey, Tensor};

/// What is seen while backward is at a probe.
#[derive(Default)]
struct Watch {
    kept: RefCell<Vec<(&'static str, Tensor)>>,
    /// The gradients that came to probes.
    gradients: RefCell<Vec<Tensor>>,
    /// Names of kept tensors that something else still held, at each probe.
    held: RefCell<Vec<Vec<&'static str>>>,
    /// Gradients that came to earlier probes and that something else still held, at each probe.
    held_gradients: RefCell<Vec<usize>>,
}

impl Watch {
    fn keep(&self, name: &'static str, variable: &Var) {
        self.kept.borrow_mut().push((name, variable.value().clone()));
    }

    fn look(&self) {
        let held = |(name, t): &(&'static str, Tensor)| (!t.is_sole_owner()).then_some(*name);
        self.held.borrow_mut().push(self.kept.borrow().iter().filter_map(held).collect());
        let gradients = self.gradients.borrow();
        self.held_gradients
            .borrow_mut()
            .push(gradients.iter().filter(|g| !g.is_sole_owner()).count());
    }
}

/// `y = 2x`; its gradient rule looks at the watch.
struct Probe(Rc<Watch>);

impl CustomOp for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        Ok(inputs[0].scale(2.0)?)
    }

    fn backward(&self, _: &[Tensor], _: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        self.0.look();
        self.0.gradients.borrow_mut().push(dy.clone());
        Ok(vec![Some(dy.scale(2.0)?)])
    }
}

fn normal(stream: u32, shape: &[usize]) -> Tensor {
    let values = StreamKey { seed: 1, step: 0, stream }
        .normal()
        .take(shape.iter().product())
        .collect::<Vec<_>>();
    Tensor::from_slice(&values, shape, &Device::cpu()).unwrap()
}

/// One of each operation that saves tensors, from `[2, 3, 4]` to `[2, 3, 4]`.
fn layers(x: Var, watch: &Watch) -> Var {
    let tape = x.tape().clone();
    let weight = |stream, shape: &[usize]| tape.variable(normal(stream, shape));
    let keep = |name, y: Var| {
        watch.keep(name, &y);
        y
    };
    let dropout = Some(Dropout::new(0.1, StreamKey { seed: 1, step: 2, stream: 0 }));
    let mut y = keep("layer norm", x.layer_norm(&weight(0, &[4]), &weight(1, &[4]), 1e-5).unwrap());
    y = keep("qkv", y.linear(&weight(2, &[12, 4]), &Epilogue::default()).unwrap());
    let attention = SelfAttention { heads: 2, valid_lens: None, dropout };
    y = keep("attention", y.self_attention(&attention).unwrap());
    let activation = Some(Activation::GeluErf);
    let options = Epilogue { activation, dropout, ..Default::default() };
    y = keep("linear", y.linear(&weight(3, &[4, 4]), &options).unwrap());
    y = keep("activation", y.activate(Activation::GeluTanh).unwrap());
    y = keep("softmax", y.softmax().unwrap());
    y = keep("product", y.mul(&weight(4, &[2, 3, 4])).unwrap());
    y = keep("quotient", y.div(&weight(5, &[4])).unwrap());
    y = keep("matrix product", y.matmul(&weight(6, &[2, 4, 4])).unwrap());
    let (part, rest) = (y.narrow(1, 0, 2).unwrap(), y.narrow(1, 2, 1).unwrap());
    y = keep("concatenation", Var::concat(&[&part, &rest], 1).unwrap());
    keep("reshaped", y.permute(&[1, 0, 2]).unwrap().reshape(&[2, 3, 4]).unwrap())
}

#[test]
fn what_was_saved_is_freed_as_backward_passes() {
    let tape = Tape::new();
    let watch = Rc::new(Watch::default());
    let probe = |x: &Var| Var::custom(Probe(watch.clone()), &[x]).unwrap();
    let loss = {
        let x = probe(&tape.variable(normal(9, &[2, 3, 4])));
        let y = layers(x, &watch);
        let loss = probe(&y).cross_entropy_rows();
        watch.keep("loss", &loss);
        loss
    };
    // What the rules say they save, and nothing else: softmax its result, a quotient its operands, a sum or a view
    // nothing. `reshaped` is the probe's input, `loss` is held here.
    watch.look();
    let saved = [
        "layer norm",
        "qkv",
        "attention",
        "linear",
        "softmax",
        "product",
        "quotient",
        "reshaped",
        "loss",
    ];
    assert_eq!(watch.held.borrow()[0], saved);
    tape.backward(&loss).unwrap();
    let held = watch.held.borrow();
    let [_, at_the_end, at_the_start] = held.as_slice() else { panic!("two probes: {held:?}") };
    assert!(at_the_end.len() > 6, "backward began with {at_the_end:?} only");
    assert_eq!(*at_the_start, ["loss"], "still held when backward is through");
    assert_eq!(watch.held_gradients.borrow()[2], 0, "a gradient between operations is still held");
}

trait CrossEntropyRows {
    fn cross_entropy_rows(&self) -> Var;
}

impl CrossEntropyRows for Var {
    /// A scalar from `[2, 3, 4]`.
    fn cross_entropy_rows(&self) -> Var {
        let labels = Tensor::from_slice(&[0i64, 3, 1, 1, 2, 0], &[6], &Device::cpu()).unwrap();
        self.reshape(&[6, 4]).unwrap().cross_entropy(&labels, 0.1).unwrap()
    }
}

#[test]
fn activations_and_gradients_of_a_deep_chain_never_add_up() {
    const DEPTH: usize = 30;
    let tape = Tape::new();
    let watch = Rc::new(Watch::default());
    let loss = {
        let mut y = tape.variable(normal(9, &[2, 4]));
        for _ in 0..DEPTH {
            y = Var::custom(Probe(watch.clone()), &[&y])
                .unwrap()
                .activate(Activation::GeluErf)
                .unwrap();
            y = y.scale(0.5).unwrap();
            watch.keep("activation", &y);
        }
        y.sum().unwrap()
    };
    tape.backward(&loss).unwrap();
    let held: Vec<usize> = watch.held.borrow().iter().map(Vec::len).collect();
    // At the probe of layer i, counted from the end, the i + 1 activations after it are free.
    let expected: Vec<usize> = (0..DEPTH).map(|i| DEPTH - 1 - i).collect();
    assert_eq!(held, expected);
    assert!(watch.held_gradients.borrow().iter().all(|&held| held == 0));
}

#[test]
fn a_tape_for_inference_holds_nothing() {
    let watch = Watch::default();
    let y = layers(Tape::inference().constant(normal(9, &[2, 3, 4])), &watch);
    watch.look();
    // `reshaped` is what `y` itself holds.
    assert_eq!(watch.held.borrow()[0], ["reshaped"]);
    drop(y);
}

#[test]
fn a_tape_that_is_dropped_frees_everything() {
    struct Counted(Rc<Cell<usize>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    impl CustomOp for Counted {
        fn name(&self) -> &str {
            "counted"
        }
        fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor> {
            Ok(inputs[0].scale(1.0)?)
        }
        fn backward(&self, _: &[Tensor], _: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
            Ok(vec![Some(dy.clone())])
        }
    }
    let dropped = Rc::new(Cell::new(0));
    {
        let tape = Tape::new();
        let x = tape.variable(normal(0, &[3]));
        let y = Var::custom(Counted(dropped.clone()), &[&x]).unwrap();
        let _ = Var::custom(Counted(dropped.clone()), &[&y]).unwrap();
        assert_eq!(dropped.get(), 0);
    }
    assert_eq!(dropped.get(), 2, "a tape and its variables must not hold each other");
}
