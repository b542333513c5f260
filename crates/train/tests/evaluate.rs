//! The figures of evaluation, counted by hand: a model whose logits are the pixels.

use std::ops::ControlFlow;
use std::sync::Arc;

use vitrine_autodiff::Var;
use vitrine_data::{Dataset, Loader, LoaderConfig, Preprocessing};
use vitrine_nn::{InputSpec, Model, Output, ParameterBuilder, Pass, Result, Table};
use vitrine_tensor::{DType, Device};
use vitrine_train::evaluate::{Evaluation, evaluate};

/// Logits that are the pixels: 255 is 1.
struct Pixels(usize);

impl Model for Pixels {
    fn input(&self) -> InputSpec {
        InputSpec {
            channels: 1,
            size: (1, self.0),
            mean: vec![0.0],
            std: vec![1.0],
            classes: self.0,
        }
    }
    fn settings(&self) -> Result<Table> {
        Ok(Table::new())
    }
    fn forward(&self, _: &Pass<'_>, images: &Var) -> Result<Output> {
        Ok(images.reshape(&[images.shape()[0], self.0])?.into())
    }
}

/// The figures of rows of logits, in batches of three.
fn figures<const K: usize>(rows: &[([u8; K], i64)]) -> Evaluation {
    let (images, labels): (Vec<[u8; K]>, Vec<i64>) = rows.iter().copied().unzip();
    let names = (0..K).map(|k| format!("class {k}")).collect();
    let data = Dataset::from_parts("rows", images.concat(), labels, [1, 1, K], names).unwrap();
    let config = LoaderConfig::new(3, Preprocessing::new(1, (1, K)));
    let loader = Loader::new(Arc::new(data), config).unwrap();
    let parameters = ParameterBuilder::new(0).build(DType::F32, &Device::cpu()).unwrap();
    evaluate(&Pixels(K), &parameters, &loader, |_| ControlFlow::Continue(())).unwrap().unwrap()
}

#[test]
fn figures_of_a_hand_counted_example() {
    let figures = figures(&[
        ([20, 10, 0], 0),  // taken for 0
        ([0, 30, 10], 0),  // taken for 1
        ([0, 30, 10], 1),  // taken for 1
        ([50, 50, 10], 1), // taken for 0: the first of equals
    ]);
    assert_eq!(figures.confusion, [[1, 1, 0], [1, 1, 0], [0, 0, 0]]);
    assert_eq!((figures.images, figures.top1, figures.top5), (4, 0.5, 1.0));
    assert_eq!(figures.classes[0].precision, Some(0.5));
    assert_eq!(figures.classes[1].recall, Some(0.5));
    // No image of class 2, and none taken for it.
    let last = &figures.classes[2];
    assert_eq!((last.name.as_str(), last.count), ("class 2", 0));
    assert_eq!((last.precision, last.recall), (None, None));
    // −log softmax of the label's logit, by hand.
    let loss = |row: [f64; 3], label: usize| {
        let sum: f64 = row.iter().map(|v| (v / 255.0).exp()).sum();
        sum.ln() - row[label] / 255.0
    };
    let rows = [
        loss([20., 10., 0.], 0),
        loss([0., 30., 10.], 0),
        loss([0., 30., 10.], 1),
        loss([50., 50., 10.], 1),
    ];
    assert!((figures.loss - rows.iter().sum::<f64>() / 4.0).abs() < 1e-6, "{}", figures.loss);
}

#[test]
fn precision_divides_by_column_and_recall_by_row() {
    let (zero, one) = ([9, 0], [0, 9]);
    let figures = figures(&[(zero, 0), (zero, 0), (zero, 0), (one, 0), (zero, 1)]);
    let pairs: Vec<_> = figures.classes.iter().map(|c| (c.precision, c.recall)).collect();
    assert_eq!(pairs, [(Some(0.75), Some(0.75)), (Some(0.0), Some(0.0))]);
    assert_eq!(figures.confusion, [[3, 1], [1, 0]]);
    assert_eq!(figures.classes.iter().map(|c| c.count).collect::<Vec<_>>(), [4, 1]);
}

#[test]
fn five_are_let_through_and_no_more() {
    for (label, expected) in [(0, 1.0), (4, 1.0), (5, 0.0), (6, 0.0)] {
        assert_eq!(figures(&[([70, 60, 50, 40, 40, 40, 10], label)]).top5, expected, "{label}");
    }
    // Of three classes all are among five.
    assert_eq!(figures(&[([9, 8, 7], 2)]).top5, 1.0);
}
