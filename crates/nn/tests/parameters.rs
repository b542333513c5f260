//! Parameters: names, views of the flat buffers, and what a pass does with them.

use vitrine_nn::{
    Error, Init, Linear, Optimizer, ParameterBuilder, Parameters, Pass, Sgd, recompute,
};
use vitrine_tensor::{DType, Device, Tensor};

fn build(builder: ParameterBuilder) -> Parameters {
    builder.build(DType::F64, &Device::cpu()).unwrap()
}

fn model() -> Parameters {
    let mut builder = ParameterBuilder::new(1);
    let mut blocks = builder.scope("blocks");
    let mut block = blocks.scope("0");
    Linear::new(&mut block.scope("fc"), 3, 2, &Init::TORCH, Some(&Init::TORCH)).unwrap();
    block.vector("gamma", &[2], &Init::ONES, 2);
    builder.scope("").vector("pos_embed", &[1, 2, 3], &Init::Normal { std: 1.0 }, 3);
    build(builder)
}

#[test]
fn names_shapes_and_decay_are_in_declaration_order() {
    let parameters = model();
    let names = ["blocks.0.fc.weight", "blocks.0.fc.bias", "blocks.0.gamma", "pos_embed"];
    assert_eq!(parameters.names().collect::<Vec<_>>(), names);
    let shapes: Vec<_> = parameters.infos().iter().map(|info| info.shape.clone()).collect();
    assert_eq!(shapes, [vec![2, 3], vec![2], vec![2], vec![1, 2, 3]]);
    let decays: Vec<_> = parameters.infos().iter().map(|info| info.group.decay).collect();
    assert_eq!(decays, [true, false, false, false]);
    assert_eq!(parameters.count(), 16);
    assert_eq!(parameters.values().shape(), [16]);
    assert_eq!(parameters.grads().unwrap().to_vec::<f64>().unwrap(), [0.0; 16]);
    for ((name, value), info) in parameters.named_values().zip(parameters.infos()) {
        assert_eq!((name, value.unwrap().shape()), (info.name.as_str(), info.shape.as_slice()));
    }
}

#[test]
fn each_parameter_is_a_view_of_the_flat_buffers() {
    let parameters = model();
    let id = parameters.find("blocks.0.gamma").unwrap();
    let (value, grad) = (parameters.value(id).unwrap(), parameters.grad(id).unwrap());
    assert!(value.shares_memory_with(parameters.values()));
    assert!(grad.shares_memory_with(parameters.grads().unwrap()));
    let before = parameters.values().to_vec::<f64>().unwrap();
    value.fill_(7.0).unwrap();
    grad.fill_(8.0).unwrap();
    let changed = |i: &usize| (8..10).contains(i);
    let values = parameters.values().to_vec::<f64>().unwrap();
    let grads = parameters.grads().unwrap().to_vec::<f64>().unwrap();
    for i in 0..16 {
        let expected = if changed(&i) { (7.0, 8.0) } else { (before[i], 0.0) };
        assert_eq!((values[i], grads[i]), expected, "element {i}");
    }
    // A clone is a handle to the same buffers.
    let clone = parameters.clone();
    assert_eq!(clone.grad_sum_squares().unwrap().to_scalar().unwrap(), 128.0);
    clone.zero_grads().unwrap();
    assert_eq!(parameters.grads().unwrap().to_vec::<f64>().unwrap(), [0.0; 16]);
}

#[test]
fn a_name_declared_twice_is_an_error() {
    let mut builder = ParameterBuilder::new(0);
    builder.scope("a").weight("b.c", &[1, 1], &Init::ZEROS);
    builder.scope("x").vector("y", &[1], &Init::ZEROS, 1);
    // The same full name by another way.
    builder.scope("a").scope("b").vector("c", &[2], &Init::ZEROS, 1);
    let Err(error) = builder.build(DType::F32, &Device::cpu()) else { panic!("two are `a.b.c`") };
    assert_eq!(error, Error::DuplicateParameter { name: "a.b.c".into() });
    assert_eq!(error.to_string(), "parameter `a.b.c` was declared twice");
}

#[test]
fn an_unknown_name_suggests_the_nearest() {
    let parameters = model();
    for (name, nearest) in [
        ("blocks.0.fc.weigth", "blocks.0.fc.weight"),
        ("blocks.0.fc.b", "blocks.0.fc.bias"),
        ("pos_embedding", "pos_embed"),
    ] {
        let error = parameters.find(name).unwrap_err();
        let expected = Error::UnknownParameter { name: name.into(), nearest: nearest.into() };
        assert_eq!(error, expected);
        assert!(error.to_string().contains(nearest));
    }
    assert!(build(ParameterBuilder::new(0)).find("w").is_err());
}

#[test]
fn a_layer_of_another_model_is_an_error() {
    let mut builder = ParameterBuilder::new(0);
    builder.scope("a").vector("v", &[1], &Init::ZEROS, 1);
    let layer = Linear::new(&mut builder.scope("b"), 3, 2, &Init::TORCH, None).unwrap();
    let empty = build(ParameterBuilder::new(0));
    for pass in [Pass::training(&empty, 0, 0), Pass::inference(&empty)] {
        let x = pass.constant(Tensor::zeros(&[1, 3], DType::F64, &Device::cpu()).unwrap());
        let error = layer.forward(&pass, &x).unwrap_err();
        assert_eq!(error, Error::ForeignParameter { index: 1 });
        let error = layer.forward_rows(&pass, &x, 0, 1, None).unwrap_err();
        assert_eq!(error, Error::ForeignParameter { index: 1 });
    }
}

#[test]
fn a_pass_records_a_parameter_once_and_adds_to_its_gradient() {
    let mut builder = ParameterBuilder::new(1);
    let layer = Linear::new(&mut builder.scope("fc"), 3, 3, &Init::TORCH, None).unwrap();
    let parameters = build(builder);
    let x = Tensor::full(&[1, 3], 1.0, DType::F64, &Device::cpu()).unwrap();
    let run = || {
        let pass = Pass::training(&parameters, 0, 0);
        let once = layer.forward(&pass, &pass.constant(x.clone())).unwrap();
        assert_eq!(pass.tape().len(), 2, "the weight and the product");
        let twice = layer.forward(&pass, &once).unwrap();
        assert_eq!(pass.tape().len(), 3, "the weight is there already");
        pass.backward(&twice.sum().unwrap()).unwrap();
        parameters.grads().unwrap().to_vec::<f64>().unwrap()
    };
    let first = run();
    assert!(first.iter().any(|&g| g != 0.0));
    // A second pass adds the same again: gradient accumulation over small batches.
    for (first, second) in first.iter().zip(run()) {
        assert!((second - 2.0 * first).abs() < 1e-15);
    }
}

#[test]
fn rows_of_a_parameter_get_their_part_of_the_gradient() {
    let mut builder = ParameterBuilder::new(1);
    let layer =
        Linear::new(&mut builder.scope("fc"), 3, 6, &Init::TORCH, Some(&Init::TORCH)).unwrap();
    let parameters = build(builder);
    let x: Vec<f64> = (0..6).map(|i| (i as f64).cos()).collect();
    let x = Tensor::from_slice(&x, &[2, 3], &Device::cpu()).unwrap();
    let run = |rows: bool| {
        parameters.zero_grads().unwrap();
        let pass = Pass::training(&parameters, 0, 0);
        let x = pass.constant(x.clone());
        let y = match rows {
            true => layer.forward_rows(&pass, &x, 2, 3, None).unwrap(),
            false => layer.forward(&pass, &x).unwrap().narrow(1, 2, 3).unwrap(),
        };
        pass.backward(&y.mul(&y).unwrap().sum().unwrap()).unwrap();
        [y.value().to_vec::<f64>().unwrap(), parameters.grads().unwrap().to_vec::<f64>().unwrap()]
    };
    for (rows, whole) in run(true).iter().zip(run(false)) {
        assert!(rows.iter().zip(whole).all(|(a, b)| (a - b).abs() < 1e-14));
    }
}

#[test]
fn a_pass_cannot_go_on_after_backward() {
    let mut builder = ParameterBuilder::new(1);
    let layer = Linear::new(&mut builder.scope("fc"), 3, 3, &Init::TORCH, None).unwrap();
    let parameters = build(builder);
    let pass = Pass::training(&parameters, 0, 0);
    let x = pass.constant(Tensor::full(&[1, 3], 1.0, DType::F64, &Device::cpu()).unwrap());
    pass.backward(&layer.forward(&pass, &x).unwrap().sum().unwrap()).unwrap();
    let error = layer.forward(&pass, &x).unwrap_err();
    let expected = vitrine_autodiff::Error::AfterBackward { op: "linear" };
    assert_eq!(error, Error::Autodiff(expected));
}

#[test]
fn a_layer_runs_on_its_own_model_alone() {
    let build = || {
        let mut builder = ParameterBuilder::new(1);
        let layer = Linear::new(&mut builder.scope("fc"), 3, 2, &Init::TORCH, None).unwrap();
        let running = builder.scope("norm").buffer("running_mean", &[2], 0.0);
        (layer, running, builder.build(DType::F64, &Device::cpu()).unwrap())
    };
    let ((layer, running, own), (_, _, twin)) = (build(), build());
    let x = Tensor::full(&[1, 3], 1.0, DType::F64, &Device::cpu()).unwrap();
    let run = |parameters: &Parameters| {
        let pass = Pass::inference(parameters);
        let y = layer.forward(&pass, &pass.constant(x.clone()));
        y.and_then(|_| pass.buffer(running)).map(|_| ())
    };
    run(&own).unwrap();
    run(&own.clone()).unwrap();
    // The twin has parameters of the same names, shapes and values.
    assert_eq!(run(&twin), Err(Error::ForeignParameter { index: 0 }));
    assert_eq!(twin.buffer(running).err(), Some(Error::ForeignParameter { index: 0 }));
}

#[test]
fn buffers_have_names_and_first_values_and_are_no_parameters() {
    let mut builder = ParameterBuilder::new(1);
    builder.scope("bn").vector("weight", &[2], &Init::ONES, 2);
    let mean = builder.scope("bn").buffer("running_mean", &[2], 0.0);
    let var = builder.scope("bn").buffer("running_var", &[1, 3], 1.0);
    let parameters = build(builder);
    assert_eq!(parameters.count(), 2);
    let files: Vec<_> = parameters
        .named_values()
        .map(|(name, value)| (name.to_owned(), value.unwrap().to_vec::<f64>().unwrap()))
        .collect();
    let expected = [
        ("bn.weight", vec![1.0; 2]),
        ("bn.running_mean", vec![0.0; 2]),
        ("bn.running_var", vec![1.0; 3]),
    ];
    assert_eq!(files, expected.map(|(name, values)| (name.to_owned(), values)));
    assert_eq!(parameters.buffer(var).unwrap().shape(), [1, 3]);
    let update = Tensor::full(&[2], 5.0, DType::F64, &Device::cpu()).unwrap();
    Pass::inference(&parameters).update_buffer(mean, &update).unwrap();
    assert_eq!(parameters.buffer(mean).unwrap().to_vec::<f64>().unwrap(), [0.0; 2], "inference");
    Pass::training(&parameters, 0, 0).update_buffer(mean, &update).unwrap();
    assert_eq!(parameters.buffer(mean).unwrap().to_vec::<f64>().unwrap(), [5.0; 2]);
    // A name is used once, be it a parameter's or a buffer's.
    let mut builder = ParameterBuilder::new(1);
    builder.scope("a").vector("b", &[1], &Init::ONES, 1);
    builder.scope("a").buffer("b", &[1], 0.0);
    let error = builder.build(DType::F32, &Device::cpu()).err().unwrap();
    assert_eq!(error, Error::DuplicateParameter { name: "a.b".into() });
}

#[test]
fn a_part_that_is_run_again_updates_buffers_once() {
    let mut builder = ParameterBuilder::new(1);
    let layer = Linear::new(&mut builder.scope("fc"), 3, 3, &Init::TORCH, None).unwrap();
    let runs = builder.scope("fc").buffer("runs", &[], 0.0);
    let parameters = build(builder);
    let x = Tensor::full(&[2, 3], 1.0, DType::F64, &Device::cpu()).unwrap();
    let step = || {
        parameters.zero_grads().unwrap();
        let pass = Pass::training(&parameters, 0, 0);
        let y = recompute(&pass, &pass.tape().variable(x.clone()), move |pass, x| {
            let count = pass.buffer(runs)?;
            let one = Tensor::full(&[], 1.0, count.dtype(), count.device())?;
            pass.update_buffer(runs, &count.add(&one)?)?;
            layer.forward(pass, x)
        });
        pass.backward(&y.unwrap().sum().unwrap()).unwrap();
    };
    for count in [1.0, 2.0] {
        step();
        assert_eq!(parameters.buffer(runs).unwrap().to_scalar().unwrap(), count);
        assert!(parameters.grad_sum_squares().unwrap().to_scalar().unwrap() > 0.0);
    }
}

#[test]
fn values_to_be_read_are_not_drawn() {
    let mut builder = ParameterBuilder::new(1);
    builder.scope("a").weight("w", &[4, 4], &Init::TORCH);
    let parameters = builder.allocate(DType::F32, &Device::cpu()).unwrap();
    assert_eq!(parameters.values().to_vec::<f32>().unwrap(), [0.0; 16]);
}

#[test]
fn the_optimizer_treats_groups_as_they_say() {
    let mut builder = ParameterBuilder::new(1);
    for name in ["a", "b", "c"] {
        builder.scope(name).weight("w", &[2, 1], &Init::ONES);
    }
    builder.scope("d").vector("bias", &[1], &Init::ONES, 1);
    let mut parameters = build(builder);
    let range = |parameters: &Parameters| -> Vec<_> {
        parameters.groups().into_iter().map(|group| (group.range, group.decay)).collect()
    };
    let each = [(0..2, true), (2..4, true), (4..6, true), (6..7, false)];
    assert_eq!(range(&parameters), each);
    parameters.regroup(|name, group| {
        group.range = 0..0; // which is not theirs to change
        group.frozen = name.starts_with('b');
        group.rate_scale = if name.starts_with('c') { 0.5 } else { 1.0 };
    });
    assert_eq!(range(&parameters), each);
    for momentum in [0.0, 0.9] {
        parameters.values().fill_(1.0).unwrap();
        parameters.grads().unwrap().fill_(1.0).unwrap();
        let mut sgd = Sgd::new(momentum, false, 0.5).unwrap();
        sgd.step(&parameters, 0.1).unwrap();
        // 1 − 0.1·(1 + 0.5·1); nothing; half of it; without decay.
        let expected = [0.85, 0.85, 1.0, 1.0, 0.925, 0.925, 0.9];
        let found = parameters.values().to_vec::<f64>().unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
    }
    // What is frozen gets no gradient.
    let pass = Pass::training(&parameters, 0, 0);
    let frozen = pass.parameter(parameters.find("b.w").unwrap()).unwrap();
    let free = pass.parameter(parameters.find("a.w").unwrap()).unwrap();
    assert_eq!((frozen.needs_grad(), free.needs_grad()), (false, true));
}

#[test]
fn values_are_rounded_once_between_writes() {
    let mut builder = ParameterBuilder::new(1);
    let id = builder.scope("").vector("gamma", &[2], &Init::ONES, 2);
    let parameters = builder.build(DType::F32, &Device::cpu()).unwrap();
    let plain = Pass::inference(&parameters).parameter(id).unwrap().into_value();
    assert!(plain.shares_memory_with(parameters.values()));

    let parameters = parameters.computing_in(DType::BF16).unwrap();
    let value = || Pass::inference(&parameters).parameter(id).unwrap().into_value();
    let (first, second) = (value(), value());
    assert!(first.shares_memory_with(&second) && first.dtype() == DType::BF16);
    // Through any view of the values.
    parameters.value(id).unwrap().fill_(3.0).unwrap();
    let third = value();
    assert!(!third.shares_memory_with(&first));
    assert_eq!(first.to_f64_vec().unwrap(), [1.0; 2]);
    assert_eq!(third.to_f64_vec().unwrap(), [3.0; 2]);
    // A handle that computes in another type has its own.
    let wide = parameters.clone().computing_in(DType::F32).unwrap();
    assert_eq!(Pass::inference(&wide).parameter(id).unwrap().value().dtype(), DType::F32);
    assert_eq!(value().dtype(), DType::BF16);
}
