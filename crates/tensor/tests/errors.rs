//! Every wrong call is a typed error whose message names the operation and what does not fit.

use std::ops::Range;

use vitrine_tensor::*;

const KEY: StreamKey = StreamKey { seed: 1, step: 2, stream: 3 };

fn zeros(shape: &[usize]) -> Tensor {
    of(DType::F32, shape)
}

fn of(dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, dtype, &Device::cpu()).unwrap()
}

/// The error of a call, whose message must hold all `parts`.
#[track_caller]
fn error<T>(result: Result<T>, parts: &[&str]) -> Error {
    let Err(error) = result else { panic!("this call must fail: {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
    error
}

/// A shape mismatch that names the operation and both shapes.
#[track_caller]
fn mismatch<T>(result: Result<T>, op: &str, lhs: &[usize], rhs: &[usize]) {
    let parts = [&format!("{op}: "), &format!("{lhs:?}"), &format!("{rhs:?}")];
    let error = error(result, &parts.map(String::as_str));
    assert!(matches!(error, Error::ShapeMismatch { .. }), "{error:?}");
}

/// An unfit argument, named with its value.
#[track_caller]
fn argument<T>(result: Result<T>, op: &str, name: &str, value: &str) {
    let error = error(result, &[&format!("{op}: "), name, value]);
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
}

#[test]
fn shapes_that_do_not_fit() {
    let plain = Epilogue::default;
    let (a, b) = (zeros(&[2, 3]), zeros(&[4, 5]));
    mismatch(a.add(&b), "add", &[2, 3], &[4, 5]);
    mismatch(a.div(&b), "div", &[2, 3], &[4, 5]);
    mismatch(a.add_scaled_(&b, 1.0), "add_scaled_", &[4, 5], &[2, 3]);
    mismatch(a.copy_(&b), "copy_", &[4, 5], &[2, 3]);
    mismatch(a.matmul(&b), "matmul", &[2, 3], &[4, 5]);
    mismatch(a.matmul(&zeros(&[3])), "matmul", &[2, 3], &[3]);
    mismatch(a.linear(&b, &plain()), "linear", &[2, 3], &[4, 5]);
    mismatch(zeros(&[]).linear(&b, &plain()), "linear", &[], &[4, 5]);
    let (weight, wrong) = (zeros(&[4, 3]), zeros(&[3]));
    let bias = Epilogue { bias: Some(&wrong), ..plain() };
    mismatch(a.linear(&weight, &bias), "linear", &[3], &[4]);
    let residual = Epilogue { residual: Some(&a), ..plain() };
    mismatch(a.linear(&weight, &residual), "linear", &[2, 3], &[2, 4]);
    mismatch(a.linear_grad_input(&b), "linear_grad_input", &[2, 3], &[4, 5]);
    mismatch(a.linear_grad_activated(&b, &a), "linear_grad_activated", &[2, 3], &[4, 5]);
    let square = zeros(&[3, 4]);
    mismatch(a.linear_grad_activated(&square, &a), "linear_grad_activated", &[2, 3], &[2, 4]);
    mismatch(
        a.linear_grad_weight_(&b, &zeros(&[3, 5]), None),
        "linear_grad_weight",
        &[2, 3],
        &[4, 5],
    );
    let rows = zeros(&[2, 5]);
    let bias_grad = zeros(&[4]);
    mismatch(
        a.linear_grad_weight_(&rows, &zeros(&[3, 5]), Some(&bias_grad)),
        "linear_grad_weight",
        &[4],
        &[3],
    );
    mismatch(a.activate_grad(Activation::Relu, &b), "activate_grad", &[4, 5], &[2, 3]);
    mismatch(a.softmax_grad(&b), "softmax_grad", &[4, 5], &[2, 3]);
    mismatch(a.reshape(&[7]), "reshape", &[2, 3], &[7]);
    mismatch(a.permute(&[0, 0]), "permute", &[2, 3], &[0, 0]);
    mismatch(a.permute(&[0]), "permute", &[2, 3], &[0]);
    mismatch(a.narrow(1, 2, 2), "narrow", &[2, 3], &[1, 2, 2]);
    mismatch(a.narrow(2, 0, 1), "narrow", &[2, 3], &[2, 0, 1]);
    mismatch(a.narrow(0, usize::MAX, 2), "narrow", &[2, 3], &[0, usize::MAX, 2]);
    mismatch(a.broadcast_to(&[4, 3]), "broadcast_to", &[2, 3], &[4, 3]);
    mismatch(a.broadcast_to(&[3]), "broadcast_to", &[2, 3], &[3]);
    mismatch(a.sum_to(&[5]), "sum_to", &[3], &[5]);
    mismatch(zeros(&[3]).sum_to(&[3, 1]), "sum_to", &[3], &[3, 1]);
    mismatch(Tensor::concat(&[&a, &b], 0), "concat", &[2, 3], &[4, 5]);
    mismatch(Tensor::concat(&[&a, &zeros(&[2])], 0), "concat", &[2, 3], &[2]);
    mismatch(Tensor::from_slice(&[1.0f32], &[2, 2], &Device::cpu()), "from_slice", &[1], &[2, 2]);
}

#[test]
fn shapes_that_an_operation_does_not_take() {
    #[track_caller]
    fn refused<T>(result: Result<T>, op: &str, shape: &[usize]) {
        let error = error(result, &[&format!("{op}: "), &format!("{shape:?}")]);
        assert!(matches!(error, Error::Shape { .. }), "{error:?}");
    }
    let a = zeros(&[2, 3]);
    refused(a.sum_axis(2), "sum_axis", &[2, 3]);
    refused(a.transpose(0, 2), "transpose", &[2, 3]);
    refused(a.to_scalar(), "to_scalar", &[2, 3]);
    refused(a.copy_from_slice_(&[1.0f32]), "copy_from_slice_", &[2, 3]);
    refused(Tensor::concat(&[&a], 2), "concat", &[2, 3]);
    refused(AttentionInputs::packed(&a), "attention", &[2, 3]);
    refused(AttentionInputs::packed(&zeros(&[1, 2, 4])), "attention", &[1, 2, 4]);
    refused(Tensor::zeros(&[1; 7], DType::F32, &Device::cpu()), "shape", &[1; 7]);
    refused(Tensor::zeros(&[usize::MAX, 2], DType::F32, &Device::cpu()), "shape", &[usize::MAX, 2]);
    let labels = of(DType::I64, &[2]);
    refused(zeros(&[2]).cross_entropy(&labels, 0.0), "cross_entropy", &[2]);
    refused(zeros(&[2, 0]).cross_entropy(&labels, 0.0), "cross_entropy", &[2, 0]);
    refused(zeros(&[3]).embed_tokens(&[], Some(&a), None), "embed_tokens", &[3]);
    let d = zeros(&[1]);
    refused(zeros(&[]).layer_norm(&d, &d, 1e-5), "layer_norm", &[]);
    let columns = zeros(&[3, 2]).transpose(0, 1).unwrap();
    refused(columns.add_scaled_(&a, 1.0), "add_scaled_", &[2, 3]);
}

#[test]
fn layer_norm_checks_its_vectors() {
    let (x, d, wrong) = (zeros(&[2, 3]), zeros(&[3]), zeros(&[2]));
    mismatch(x.layer_norm(&wrong, &d, 1e-5), "layer_norm", &[2], &[3]);
    mismatch(x.layer_norm(&d, &wrong, 1e-5), "layer_norm", &[2], &[3]);
    argument(x.layer_norm(&d, &d, -1.0), "layer_norm", "epsilon", "-1");
    argument(x.layer_norm(&d, &d, f64::NAN), "layer_norm", "epsilon", "NaN");
    let (statistics, other) = (zeros(&[2, 2]), zeros(&[3]));
    let grad = |statistics: &Tensor, dy: &Tensor, dscale: &Tensor| {
        x.layer_norm_grad(&d, statistics, dy, dscale, &zeros(&[3]))
    };
    assert!(grad(&statistics, &zeros(&[2, 3]), &other).is_ok());
    mismatch(grad(&zeros(&[3, 2]), &x, &other), "layer_norm_grad", &[3, 2], &[2, 2]);
    mismatch(grad(&statistics, &zeros(&[3, 2]), &other), "layer_norm_grad", &[3, 2], &[2, 3]);
    mismatch(grad(&statistics, &zeros(&[2, 3]), &wrong), "layer_norm_grad", &[2], &[3]);
    error(
        grad(&of(DType::F64, &[2, 2]), &x.copy().unwrap(), &other),
        &["layer_norm_grad", "f64", "f32"],
    );
}

#[test]
fn attention_checks_its_inputs() {
    let (q, k) = (zeros(&[2, 5, 6]), zeros(&[2, 4, 6]));
    let plain = Attention { heads: 2, valid_lens: None, dropout: None };
    let attend = |query: &Tensor, key: &Tensor, value: &Tensor, attention: &Attention<'_>| {
        AttentionInputs { query, key, value }.attend(attention)
    };
    assert!(attend(&q, &k, &k, &plain).is_ok());
    mismatch(attend(&q, &k, &q, &plain), "attention", &[2, 5, 6], &[2, 4, 6]);
    let other = zeros(&[3, 4, 6]);
    mismatch(attend(&q, &other, &other, &plain), "attention", &[2, 5, 6], &[3, 4, 6]);
    let other = zeros(&[4, 6]);
    mismatch(attend(&other, &other, &other, &plain), "attention", &[4, 6], &[4, 6]);
    for heads in [0, 4] {
        let attention = Attention { heads, ..plain };
        argument(attend(&q, &k, &k, &attention), "attention", "heads", &heads.to_string());
    }
    let lens = of(DType::I64, &[3]);
    let with_lens = Attention { valid_lens: Some(&lens), ..plain };
    mismatch(attend(&q, &k, &k, &with_lens), "attention", &[3], &[2]);
    let lens = zeros(&[2]);
    let with_lens = Attention { valid_lens: Some(&lens), ..plain };
    error(attend(&q, &k, &k, &with_lens), &["attention", "f32", "i64"]);
    let columns = zeros(&[2, 6, 4]).transpose(1, 2).unwrap();
    error(attend(&q, &columns, &columns, &plain), &["attention", "dense"]);

    let inputs = AttentionInputs { query: &q, key: &k, value: &k };
    let output = inputs.attend(&plain).unwrap();
    mismatch(
        inputs.attend_grad(&plain, &output, &zeros(&[2, 5, 3]), false),
        "attention_grad",
        &[2, 5, 3],
        &[2, 5, 6],
    );
    let dy = zeros(&[2, 5, 6]);
    mismatch(
        inputs.attend_grad(&plain, &output, &dy, true),
        "attention_grad",
        &[2, 4, 6],
        &[2, 5, 6],
    );
    let short = AttentionOutput { y: output.y.clone(), log_sums: zeros(&[2, 2, 4]) };
    mismatch(
        inputs.attend_grad(&plain, &short, &dy, false),
        "attention_grad",
        &[2, 2, 4],
        &[2, 2, 5],
    );
    let wide = AttentionOutput { y: output.y, log_sums: of(DType::F64, &[2, 2, 5]) };
    error(inputs.attend_grad(&plain, &wide, &dy, false), &["attention_grad", "f64", "f32"]);
}

#[test]
fn tokens_that_do_not_fit() {
    let patches = zeros(&[2, 4, 8]);
    let (class, positions) = (zeros(&[1, 1, 8]), zeros(&[1, 5, 8]));
    let embed = |prefix: &[&Tensor], positions| patches.embed_tokens(prefix, positions, None);
    assert!(embed(&[&class], Some(&positions)).is_ok());
    mismatch(embed(&[], Some(&positions)), "embed_tokens", &[1, 5, 8], &[1, 4, 8]);
    mismatch(embed(&[&class, &class], Some(&positions)), "embed_tokens", &[1, 5, 8], &[1, 6, 8]);
    for wrong in [&[1, 1, 7][..], &[2, 1, 8], &[8], &[1, 1, 1, 8]] {
        let expected = [1, wrong.get(1).copied().unwrap_or(1), 8];
        mismatch(embed(&[&class, &zeros(wrong)], None), "embed_tokens", wrong, &expected);
    }
    let wide = of(DType::F64, &[1, 1, 8]);
    error(embed(&[&class, &wide], None), &["embed_tokens", "f32", "f64"]);
}

#[test]
fn rotations_that_do_not_fit() {
    let rotate = |x: &[usize], cos: &[usize], sin: &[usize], heads| {
        let rotation = Rotation { cos: zeros(cos), sin: zeros(sin), heads };
        zeros(x).rotate(&rotation, false)
    };
    assert!(rotate(&[2, 5, 12], &[4, 2], &[4, 2], 3).is_ok());
    mismatch(rotate(&[2, 5, 12], &[4, 2], &[4, 1], 3), "rotate", &[4, 1], &[4, 2]);
    for cos in [[6, 2], [4, 4], [4, 0]] {
        mismatch(rotate(&[2, 5, 12], &cos, &cos, 0), "rotate", &[2, 5, 12], &cos);
    }
    argument(rotate(&[2, 5, 12], &[4, 2], &[4, 2], 4), "rotate", "heads", "4");
    error(rotate(&[5, 12], &[4, 2], &[4, 2], 1), &["rotate", "[5, 12]"]);
    error(rotate(&[2, 5, 12], &[8], &[8], 1), &["rotate", "[8]"]);
    let (wide, angles) = (of(DType::F64, &[2, 5, 12]), zeros(&[4, 2]));
    let rotation = Rotation { cos: angles.clone(), sin: angles, heads: 1 };
    error(wide.rotate(&rotation, true), &["rotate", "f32", "f64"]);
    assert!(of(DType::BF16, &[2, 5, 12]).rotate(&rotation, true).is_ok());
    error(of(DType::U8, &[2, 5, 12]).rotate(&rotation, true), &["rotate", "u8"]);
}

#[test]
fn windows_that_do_not_fit() {
    let images = zeros(&[2, 1, 6, 6]);
    let windows = |kernel, stride, padding| Windows { kernel, stride, padding };
    let whole = windows((3, 3), (3, 3), (0, 0));
    for wrong in [
        windows((0, 3), (1, 1), (0, 0)),
        windows((3, 3), (1, 0), (0, 0)),
        windows((9, 3), (1, 1), (1, 4)),
        windows((3, 3), (1, 1), (usize::MAX, 0)),
    ] {
        assert_eq!(wrong.count(6, 6), None);
        argument(images.unfold(&wrong), "unfold", "windows", "[2, 1, 6, 6]");
        argument(images.fold(&wrong, &[2, 1, 6, 6]), "fold", "windows", &format!("{wrong:?}"));
        argument(images.convolution(&images, None, &wrong), "convolution", "windows", "kernel");
    }
    assert_eq!(windows((3, 4), (2, 3), (1, 0)).count(6, 6), Some((3, 1)));
    error(zeros(&[6, 6]).unfold(&whole), &["unfold", "[6, 6]", "[B, C, H, W]"]);
    let wrong = zeros(&[2, 4, 8]);
    mismatch(wrong.fold(&whole, &[2, 1, 6, 6]), "fold", &[2, 4, 8], &[2, 4, 9]);
    let overlapping = windows((3, 3), (1, 3), (0, 0));
    error(of(DType::U8, &[2, 8, 9]).fold(&overlapping, &[2, 1, 6, 6]), &["fold", "u8"]);

    let (weight, dy) = (zeros(&[5, 1, 3, 3]), zeros(&[2, 5, 2, 2]));
    let wide = zeros(&[5, 1, 3, 4]);
    mismatch(images.convolution(&wide, None, &whole), "convolution", &[5, 1, 3, 4], &[5, 1, 3, 3]);
    let (two, five) = (zeros(&[2]), zeros(&[5]));
    mismatch(images.convolution(&weight, Some(&two), &whole), "convolution", &[2], &[5]);
    let wrong = zeros(&[2, 5, 2, 3]);
    let grad = wrong.convolution_grad_input(&weight, &whole, images.shape());
    mismatch(grad, "convolution_grad_input", &[2, 5, 2, 3], &[2, 5, 2, 2]);
    let add = |dw: &Tensor, db: &Tensor| dy.convolution_grad_weight_(&images, &whole, dw, Some(db));
    mismatch(add(&wide, &five), "convolution_grad_weight", &[5, 1, 3, 4], &[5, 1, 3, 3]);
    mismatch(add(&weight, &two), "convolution_grad_weight", &[2], &[5]);
    let error = error(add(&weight, &images.narrow(0, 0, 1).unwrap()), &["shares memory"]);
    assert!(matches!(error, Error::Aliased { .. }), "{error:?}");
}

#[test]
fn element_types_that_do_not_fit() {
    let (x, y, bytes) = (zeros(&[2, 2]), of(DType::BF16, &[2, 2]), of(DType::U8, &[2, 2]));
    let differ = |result: Result<()>, op: &str| {
        let error = error(result, &[&format!("{op}: "), "f32", "bf16", "to_dtype"]);
        assert!(matches!(error, Error::DTypeMismatch { .. }), "{error:?}");
    };
    let none = Epilogue::default;
    differ(x.add(&y).map(drop), "add");
    differ(x.matmul(&y).map(drop), "matmul");
    differ(x.linear(&y, &none()).map(drop), "linear");
    differ(y.add_scaled_(&x, 1.0), "add_scaled_");
    differ(x.linear_grad_weight_(&x, &y, None), "linear_grad_weight");
    differ(x.softmax_grad(&y).map(drop), "softmax_grad");
    differ(Tensor::concat(&[&x, &y], 0).map(drop), "concat");
    differ(x.sgd_(&y, None, &SGD, &[]), "sgd_");
    let refused = |result: Result<()>, op: &str| {
        let error = error(result, &[&format!("{op}: "), "u8", "f32, f64 or bf16"]);
        assert!(matches!(error, Error::DType { .. }), "{error:?}");
    };
    refused(bytes.add(&bytes).map(drop), "add");
    refused(bytes.softmax().map(drop), "softmax");
    refused(bytes.activate(Activation::Relu).map(drop), "activate");
    refused(bytes.dropout(Dropout::new(0.5, KEY)).map(drop), "dropout");
    refused(bytes.sum_axis(0).map(drop), "sum_axis");
    refused(bytes.sum().map(drop), "sum");
    refused(bytes.sum_to(&[2]).map(drop), "sum_to");
    refused(bytes.scale(2.0).map(drop), "scale");
    refused(bytes.sum_squares().map(drop), "sum_squares");
    refused(bytes.clip_norm_(&zeros(&[]), 1.0), "clip_norm_");
    error(x.clip_norm_(&zeros(&[]), 1.0), &["clip_norm_", "f32", "f64"]);
    error(x.to_vec::<f64>(), &["to_vec", "f32", "f64"]);
    error(x.copy_from_slice_(&[0.0f64; 4]), &["copy_from_slice_", "f32", "f64"]);
}

const SGD: SgdStep =
    SgdStep { learning_rate: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };

#[test]
fn devices_that_differ() {
    let other = Device::new(CpuBackend::default());
    assert_ne!(other, Device::cpu());
    let (x, y) = (zeros(&[2, 2]), Tensor::zeros(&[2, 2], DType::F32, &other).unwrap());
    let differ = |result: Result<()>, op: &str| {
        let error = error(result, &[&format!("{op}: "), "on cpu", "to_device"]);
        assert!(matches!(error, Error::DeviceMismatch { .. }), "{error:?}");
    };
    differ(x.add(&y).map(drop), "add");
    differ(x.matmul(&y).map(drop), "matmul");
    differ(x.copy_(&y), "copy_");
    differ(x.add_scaled_(&y, 1.0), "add_scaled_");
    differ(Tensor::concat(&[&x, &y], 0).map(drop), "concat");
    differ(x.sgd_(&y, None, &SGD, &[]), "sgd_");
    let labels = Tensor::zeros(&[2], DType::I64, &other).unwrap();
    differ(x.cross_entropy(&labels, 0.0).map(drop), "cross_entropy");
    let (here, there) = (of(DType::I64, &[2]), Tensor::zeros(&[], DType::F32, &other).unwrap());
    differ(x.cross_entropy_grad(&here, 0.0, &there).map(drop), "cross_entropy_grad");
    differ(x.clip_norm_(&there, 1.0), "clip_norm_");
    let statistics = Tensor::zeros(&[2, 2], DType::F32, &other).unwrap();
    let d = zeros(&[2]);
    let grad = x.layer_norm_grad(&d, &statistics, &x, &zeros(&[2]), &zeros(&[2]));
    differ(grad.map(drop), "layer_norm_grad");
    assert_eq!(x.add(&y.to_device(&Device::cpu()).unwrap()).unwrap().shape(), [2, 2]);
}

#[test]
fn destinations_that_share_memory_with_an_input() {
    let buffer = zeros(&[8]);
    let (a, b) = (buffer.narrow(0, 0, 4).unwrap(), buffer.narrow(0, 4, 4).unwrap());
    let aliased = |result: Result<()>, op: &str| {
        let error = error(result, &[&format!("{op}: "), "shares memory"]);
        assert!(matches!(error, Error::Aliased { .. }), "{error:?}");
    };
    aliased(a.add_scaled_(&b, 1.0), "add_scaled_");
    aliased(a.copy_(&b), "copy_");
    aliased(a.sgd_(&b, None, &SGD, &[]), "sgd_");
    let step = AdamWStep {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        step: 1,
    };
    let (m, v) = (zeros(&[4]), zeros(&[4]));
    aliased(a.adamw_(&m, &v, &v, &step, &[]), "adamw_");
    let (dy, dw) = (zeros(&[1, 2]), zeros(&[2, 2]));
    let x = dw.narrow(0, 0, 1).unwrap();
    aliased(dy.linear_grad_weight_(&x, &dw, None), "linear_grad_weight");
    let (x, d) = (zeros(&[2, 2]), zeros(&[2]));
    let grad = x.layer_norm_grad(&d, &zeros(&[2, 2]), &x, &d, &zeros(&[2]));
    aliased(grad.map(drop), "layer_norm_grad");
    let norm = of(DType::F64, &[1]);
    aliased(norm.clip_norm_(&norm.reshape(&[]).unwrap(), 1.0), "clip_norm_");
}

#[test]
fn arguments_that_make_no_sense() {
    let x = zeros(&[2, 2]);
    for (p, shown) in [(1.0, "1"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
        let dropout = Dropout::new(p, KEY);
        argument(x.dropout(dropout), "dropout", "dropout probability", shown);
        let epilogue = Epilogue { dropout: Some(dropout), ..Default::default() };
        argument(x.linear(&x, &epilogue), "linear", "dropout probability", shown);
        let tokens = zeros(&[1, 2, 2]).embed_tokens(&[], None, Some(dropout));
        argument(tokens, "embed_tokens", "dropout probability", shown);
        let qkv = zeros(&[1, 1, 2]);
        let inputs = AttentionInputs { query: &qkv, key: &qkv, value: &qkv };
        let attention = Attention { heads: 1, valid_lens: None, dropout: Some(dropout) };
        argument(inputs.attend(&attention), "attention", "dropout probability", shown);
    }
    let no_probabilities =
        [(1.0, "1"), (1.5, "1.5"), (-0.1, "-0.1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")];
    for (smoothing, shown) in no_probabilities {
        let labels = of(DType::I64, &[2]);
        argument(x.cross_entropy(&labels, smoothing), "cross_entropy", "smoothing", shown);
    }
    argument(Tensor::concat(&[], 0), "concat", "number of tensors", "0");
    let step = SgdStep { momentum: 0.9, ..SGD };
    argument(x.sgd_(&zeros(&[2, 2]), None, &step, &[]), "sgd_", "velocity", "missing");
    let part = |start, end| ParameterGroup::plain(Range { start, end });
    let scaled = |rate_scale| ParameterGroup { rate_scale, ..part(0, 1) };
    for (wrong, shown) in [
        (vec![part(3, 2)], "3..2"),
        (vec![part(0, 2), part(1, 3)], "1..3"),
        (vec![part(2, 3), part(0, 1)], "0..1"),
        (vec![part(0, 5)], "0..5"),
        (vec![scaled(-0.5)], "-0.5"),
        (vec![scaled(f64::NAN)], "NaN"),
        (vec![scaled(f64::INFINITY)], "inf"),
    ] {
        argument(x.sgd_(&zeros(&[2, 2]), None, &SGD, &wrong), "sgd_", "parameter groups", shown);
    }
}

#[test]
fn labels_out_of_range() {
    let logits = zeros(&[3, 4]);
    let dloss = zeros(&[]);
    for wrong in [4, -1, i64::MIN, i64::MAX] {
        let labels = Tensor::from_slice(&[0, 3, wrong], &[3], &Device::cpu()).unwrap();
        let expected = Error::Label { sample: 2, label: wrong, classes: 4 };
        let shown = wrong.to_string();
        let parts = ["cross_entropy", &shown, "sample 2", "0..4"];
        assert_eq!(error(logits.cross_entropy(&labels, 0.0), &parts), expected);
        assert_eq!(error(logits.cross_entropy_grad(&labels, 0.0, &dloss), &parts), expected);
    }
    let labels = of(DType::I64, &[2]);
    mismatch(logits.cross_entropy(&labels, 0.0), "cross_entropy", &[2], &[3]);
    error(logits.cross_entropy(&zeros(&[3]), 0.0), &["cross_entropy", "f32", "i64 labels"]);
}

#[test]
fn shares_of_classes_that_do_not_fit() {
    let (logits, dloss) = (zeros(&[3, 4]), zeros(&[]));
    let (op, grad) = ("soft_target_cross_entropy", "soft_target_cross_entropy_grad");
    mismatch(logits.soft_target_cross_entropy(&zeros(&[3, 5])), op, &[3, 5], &[3, 4]);
    let targets = of(DType::BF16, &[3, 4]);
    error(targets.soft_target_cross_entropy(&targets), &[op, "bf16", "f32"]);
    error(logits.soft_target_cross_entropy_grad(&targets, &dloss), &[grad, "bf16", "f32"]);
    let none = zeros(&[0, 4]);
    error(none.soft_target_cross_entropy(&none), &[op, "[0, 4]", "not empty"]);
    mismatch(logits.soft_target_cross_entropy_grad(&logits, &none), grad, &[0, 4], &[]);
}

#[test]
fn memory_that_the_system_does_not_have() {
    let parts = ["on cpu", "no memory for"];
    let tensor = error(Tensor::zeros(&[1 << 46], DType::F64, &Device::cpu()), &parts);
    assert!(matches!(tensor, Error::Device { op: "allocate", .. }), "{tensor:?}");
    // The operands are one number each; packed for the product they are too much.
    let [left, right] =
        [[2, 1 << 42], [1 << 42, 3]].map(|shape| zeros(&[1]).broadcast_to(&shape).unwrap());
    let packed = error(left.matmul(&right), &parts);
    assert!(matches!(packed, Error::Device { op: "work space", .. }), "{packed:?}");
}
