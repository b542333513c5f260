//! Every misuse has its typed error, and none changes what was recorded or a parameter's gradient.

use vitrine_autodiff::{CustomOp, Error, Gradients, Result, Tape, Var};
use vitrine_tensor::{DType, Device, Epilogue, Error as TensorError, Rotation, Tensor, Windows};

fn tensor(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, &[values.len()], &Device::cpu()).unwrap()
}

fn error(gradients: Result<Gradients>) -> Error {
    match gradients {
        Ok(_) => panic!("backward should have failed"),
        Err(error) => error,
    }
}

#[test]
fn backward_starts_from_a_scalar() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[1.0, 2.0]));
    let y = x.scale(2.0).unwrap();
    let found = error(tape.backward(&y));
    assert_eq!(found, Error::NotScalar { shape: vec![2] });
    assert!(found.to_string().contains("[2]") && found.to_string().contains("sum"));
    // The tape is as it was: the right call still works. A shape of ones is a scalar too.
    let y = y.sum().unwrap().reshape(&[1, 1]).unwrap();
    let gradients = tape.backward(&y).unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec::<f64>().unwrap(), [2.0, 2.0]);
}

#[test]
fn backward_needs_a_result_of_its_own_tape() {
    let (tape, other) = (Tape::new(), Tape::new());
    let x = tape.variable(tensor(&[1.0]));
    let y = x.mul(&x).unwrap();
    let foreign = other.variable(tensor(&[3.0])).scale(2.0).unwrap();
    assert_eq!(error(tape.backward(&foreign)), Error::NotRecorded);
    assert_eq!(error(tape.backward(&tape.constant(tensor(&[1.0])))), Error::NotRecorded);
    let inference = Tape::inference();
    let z = inference.variable(tensor(&[1.0])).scale(2.0).unwrap();
    assert!(!z.needs_grad() && inference.is_empty() && !inference.is_recording());
    assert_eq!(error(inference.backward(&z)), Error::NotRecorded);
    // None of these took anything off the tape.
    assert_eq!(tape.backward(&y).unwrap().get(&x).unwrap().to_scalar().unwrap(), 2.0);
}

#[test]
fn backward_empties_the_tape() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[3.0]));
    let y = x.mul(&x).unwrap();
    assert_eq!(tape.len(), 2);
    tape.backward(&y).unwrap();
    assert!(tape.is_empty());
    assert_eq!(error(tape.backward(&y)), Error::NotRecorded);
    // New operations may take the old places on the tape; the old variables must not be taken for them.
    let new = tape.variable(tensor(&[5.0]));
    let z = new.scale(7.0).unwrap();
    assert_eq!(error(tape.backward(&y)), Error::NotRecorded);
    assert_eq!(x.add(&new).unwrap_err(), Error::AfterBackward { op: "add" });
    assert_eq!(x.scale(2.0).unwrap_err(), Error::AfterBackward { op: "scale" });
    let gradients = tape.backward(&z).unwrap();
    assert_eq!(gradients.get(&new).unwrap().to_scalar().unwrap(), 7.0);
    assert!(gradients.get(&x).is_none() && gradients.get(&y).is_none());
    // A constant is not recorded, so it stays good.
    let constant = tape.constant(tensor(&[2.0]));
    let w = tape.variable(tensor(&[4.0]));
    let first = constant.mul(&w).unwrap();
    assert_eq!(tape.backward(&first).unwrap().get(&w).unwrap().to_scalar().unwrap(), 2.0);
    let w = tape.variable(tensor(&[4.0]));
    let second = w.mul(&constant).unwrap();
    assert_eq!(tape.backward(&second).unwrap().get(&w).unwrap().to_scalar().unwrap(), 2.0);
}

#[test]
fn operands_of_different_tapes_are_refused() {
    let (tape, other, inference) = (Tape::new(), Tape::new(), Tape::inference());
    let x = tape.variable(tensor(&[1.0, 2.0]));
    for y in [other.variable(tensor(&[1.0, 2.0])), inference.constant(tensor(&[1.0, 2.0]))] {
        assert_eq!(x.mul(&y).unwrap_err(), Error::OtherTape { op: "mul" });
        assert_eq!(Var::concat(&[&x, &y], 0).unwrap_err(), Error::OtherTape { op: "concat" });
    }
    // Handles of one tape are one tape, and so are all that record nothing.
    assert!(x.add(&tape.clone().variable(tensor(&[0.0, 0.0]))).is_ok());
    let y = Tape::inference().constant(tensor(&[1.0, 2.0]));
    assert!(inference.constant(tensor(&[1.0, 2.0])).add(&y).is_ok());
}

#[test]
fn gradients_are_of_one_tape_and_of_what_the_result_depends_on() {
    let (tape, other) = (Tape::new(), Tape::new());
    let (x, unused) = (tape.variable(tensor(&[1.0])), tape.variable(tensor(&[1.0])));
    let constant = tape.constant(tensor(&[1.0]));
    let foreign = other.variable(tensor(&[1.0]));
    let gradients = tape.backward(&x.mul(&constant).unwrap()).unwrap();
    assert!(gradients.get(&x).is_some());
    for variable in [unused, constant, foreign] {
        assert!(gradients.get(&variable).is_none());
    }
}

#[test]
fn a_given_gradient_must_fit_the_result() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[1.0, 2.0]));
    let y = x.mul(&x).unwrap();
    let found = error(tape.backward_from(&y, tensor(&[1.0, 1.0, 1.0])));
    assert!(matches!(found, Error::Tensor(TensorError::ShapeMismatch { op: "backward_from", .. })));
    let single = tensor(&[1.0, 1.0]).to_dtype(DType::F32).unwrap();
    let found = error(tape.backward_from(&y, single));
    assert!(matches!(found, Error::Tensor(TensorError::DTypeMismatch { op: "backward_from", .. })));
    let gradients = tape.backward_from(&y, tensor(&[1.0, -10.0])).unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec::<f64>().unwrap(), [2.0, -40.0]);
}

#[test]
fn a_parameters_buffer_must_have_its_shape_and_no_gaps() {
    let tape = Tape::new();
    let found = tape.parameter(tensor(&[1.0, 2.0]), tensor(&[0.0])).unwrap_err();
    assert!(matches!(found, Error::Tensor(TensorError::ShapeMismatch { op: "parameter", .. })));
    let wide = tensor(&[0.0; 6]).reshape(&[2, 3]).unwrap();
    let column = wide.narrow(1, 0, 1).unwrap();
    let found = tape.parameter(tensor(&[1.0, 2.0]).reshape(&[2, 1]).unwrap(), column).unwrap_err();
    assert!(matches!(found, Error::Tensor(TensorError::Shape { op: "parameter", .. })));
    assert!(tape.is_empty());
}

#[test]
fn errors_of_operations_name_the_operation_and_record_nothing() {
    let tape = Tape::new();
    let x = tape.variable(tensor(&[1.0, 2.0]));
    let y = tape.variable(tensor(&[1.0, 2.0, 3.0]));
    let before = tape.len();
    let results = [
        x.add(&y),
        x.matmul(&y),
        x.linear(&y, &Epilogue::default()),
        x.embed_tokens(&[&y], None, None),
        x.rotate(&Rotation { cos: tensor(&[1.0]), sin: tensor(&[0.0]), heads: 1 }),
        x.layer_norm(&y, &y, 1e-5),
        x.sum_axis(1),
        x.mean_axis(4),
        x.narrow(0, 1, 2),
        x.reshape(&[3]),
        x.permute(&[1]),
        x.unfold(&Windows::patches((2, 2))),
        x.convolution(&y, None, &Windows::patches((2, 2))),
        x.self_attention(&Default::default()),
        x.attention(&y, &Default::default()),
        x.cross_entropy(y.value(), 0.0),
        x.soft_target_cross_entropy(y.value()),
        Var::concat(&[], 0),
        Var::concat(&[&x, &y], 1),
    ];
    for result in results {
        assert!(matches!(result, Err(Error::Tensor(_))), "{result:?}");
    }
    assert_eq!(tape.len(), before);
}

/// Gives whatever gradients it was told to.
struct Told(Vec<Option<Tensor>>);

impl CustomOp for Told {
    fn name(&self) -> &str {
        "told"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        match inputs {
            [] => Ok(tensor(&[0.0])),
            [first, ..] => Ok(first.sum()?),
        }
    }

    fn backward(&self, _: &[Tensor], _: &Tensor, _: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_custom_operations_gradients_must_fit_its_inputs() {
    let run = |gradients: Vec<Option<Tensor>>| {
        let tape = Tape::new();
        let (x, y) = (tape.variable(tensor(&[1.0, 2.0])), tape.variable(tensor(&[1.0])));
        let z = Var::custom(Told(gradients), &[&x, &y])?;
        let gradients = tape.backward(&z)?;
        Ok::<_, Error>([x, y].map(|v| gradients.get(&v).map(|g| g.to_vec::<f64>().unwrap())))
    };
    let op = || "told".to_owned();
    let fits = || Some(tensor(&[5.0, 6.0]));
    assert_eq!(
        run(vec![fits(), Some(tensor(&[7.0]))]),
        Ok([Some(vec![5.0, 6.0]), Some(vec![7.0])])
    );
    assert_eq!(run(vec![fits(), None]), Ok([Some(vec![5.0, 6.0]), None]));
    for grads in [vec![], vec![fits()], vec![fits(), None, None]] {
        let found = grads.len();
        assert_eq!(run(grads), Err(Error::CustomGradients { op: op(), expected: 2, found }));
    }
    let (expected, narrow) =
        ((vec![1], DType::F64), Some(tensor(&[7.0]).to_dtype(DType::F32).unwrap()));
    for (grad, found) in [(fits(), (vec![2], DType::F64)), (narrow, (vec![1], DType::F32))] {
        let wrong = Error::CustomGradient { op: op(), input: 1, expected: expected.clone(), found };
        assert_eq!(run(vec![fits(), grad]), Err(wrong));
    }
    let message = run(vec![fits(), fits()]).unwrap_err().to_string();
    assert_eq!(
        message,
        "told: the gradient of input 1 must have its shape and type, [1] of f64, not [2] of f64"
    );
}

#[test]
fn a_custom_operation_without_inputs_is_refused() {
    let found = Var::custom(Told(Vec::new()), &[]).unwrap_err();
    assert!(matches!(found, Error::Tensor(TensorError::Argument { op: "custom", .. })), "{found}");
}

#[test]
fn an_error_of_a_custom_operation_reaches_the_caller() {
    struct Fails;
    impl CustomOp for Fails {
        fn name(&self) -> &str {
            "fails"
        }
        fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor> {
            Ok(inputs[0].scale(1.0)?)
        }
        fn backward(
            &self,
            inputs: &[Tensor],
            _: &Tensor,
            _: &Tensor,
        ) -> Result<Vec<Option<Tensor>>> {
            Ok(vec![Some(inputs[0].reshape(&[77])?)])
        }
    }
    let tape = Tape::new();
    let x = tape.variable(tensor(&[1.0]));
    let y = Var::custom(Fails, &[&x]).unwrap();
    let found = error(tape.backward(&y));
    assert!(matches!(found, Error::Tensor(TensorError::ShapeMismatch { op: "reshape", .. })));
}

#[test]
fn a_write_between_forward_and_backward_is_an_error() {
    let tape = Tape::new();
    let full = |value| Tensor::full(&[2], value, DType::F32, &Device::cpu()).unwrap();
    let (v, w) = (tape.variable(full(3.0)), tape.constant(full(2.0)));
    let (scaled, product) = (v.scale(2.0).unwrap(), v.mul(&w).unwrap());
    // A view of the same memory.
    w.value().narrow(0, 1, 1).unwrap().fill_(100.0).unwrap();
    let error = tape.backward(&scaled.add(&product).unwrap().sum().unwrap()).err().unwrap();
    assert_eq!(error, Error::ChangedInPlace { op: "mul" });
    assert!(error.to_string().contains("changed in place"), "{error}");

    // What no gradient needs may be written to.
    let v = tape.variable(full(3.0));
    let y = v.scale(2.0).unwrap().sum().unwrap();
    v.value().fill_(0.0).unwrap();
    assert_eq!(tape.backward(&y).unwrap().get(&v).unwrap().to_vec::<f32>().unwrap(), [2.0, 2.0]);
}
