//! Learning rates that can be worked out by hand, and schedules that make no sense.

use vitrine_nn::schedule::*;

fn cosine(first: f64, last: f64, total_steps: u64) -> Result<Schedule, ScheduleError> {
    Schedule::falling(Form::Cosine, first, last, total_steps)
}

fn close(value: f64, expected: f64) {
    assert!((value - expected).abs() <= 1e-15 * expected.abs().max(1e-3), "{value} {expected}");
}

#[test]
fn constant_is_constant() {
    let schedule = Schedule::constant(0.1).unwrap();
    for step in [0, 1, 469, u64::MAX] {
        assert_eq!(schedule.learning_rate(step), 0.1);
    }
}

#[test]
fn warmup_climbs_to_the_base_at_its_last_step() {
    let schedule = Schedule::constant(0.8).unwrap().with_warmup(4, None).unwrap();
    for (step, rate) in [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (4, 0.8), (1000, 0.8)] {
        close(schedule.learning_rate(step), rate);
    }
}

#[test]
fn step_multiplies_at_each_multiple_counted_from_the_end_of_warmup() {
    let schedule = Schedule::step(1.0, 10, 0.5).unwrap();
    for (step, rate) in [(0, 1.0), (9, 1.0), (10, 0.5), (19, 0.5), (20, 0.25), (30, 0.125)] {
        close(schedule.learning_rate(step), rate);
    }
    let warm = schedule.with_warmup(5, None).unwrap();
    for (step, rate) in [(4, 1.0), (5, 1.0), (14, 1.0), (15, 0.5), (25, 0.25)] {
        close(warm.learning_rate(step), rate);
    }
    // So many reductions that nothing is left must not turn into NaN.
    assert_eq!(schedule.learning_rate(u64::MAX), 0.0);
}

#[test]
fn cosine_passes_the_points_that_can_be_worked_out_by_hand() {
    // cos(0), cos(π/3), cos(π/2), cos(2π/3), cos(π).
    let schedule = cosine(1.0, 0.0, 12).unwrap();
    for (step, rate) in [(0, 1.0), (4, 0.75), (6, 0.5), (8, 0.25), (12, 0.0), (99, 0.0)] {
        close(schedule.learning_rate(step), rate);
    }
    let schedule = cosine(0.5, 0.1, 12).unwrap();
    for (step, rate) in [(0, 0.5), (4, 0.4), (6, 0.3), (8, 0.2), (12, 0.1), (u64::MAX, 0.1)] {
        close(schedule.learning_rate(step), rate);
    }
}

#[test]
fn cosine_after_warmup_spans_the_remaining_steps() {
    let schedule = cosine(1.0, 0.0, 16).unwrap().with_warmup(4, None).unwrap();
    for (step, rate) in [(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.75), (10, 0.5), (12, 0.25), (16, 0.0)]
    {
        close(schedule.learning_rate(step), rate);
    }
    let falls = (4..16).all(|t| schedule.learning_rate(t + 1) < schedule.learning_rate(t));
    assert!(falls);
}

#[test]
fn every_step_has_timms_learning_rate() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden/schedules.json");
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let count = |key: &str| case[key].as_u64().unwrap();
        let falling =
            |form| Schedule::falling(form, number("base"), number("last"), count("total"));
        let schedule = match case["kind"].as_str().unwrap() {
            "cosine" => falling(Form::Cosine),
            "linear" => falling(Form::Linear),
            "step" => Schedule::step(number("base"), count("every"), number("gamma")),
            other => panic!("{other}"),
        };
        let from = case["warmup_from"].as_f64();
        let schedule = schedule.unwrap().with_warmup(count("warmup"), from).unwrap();
        let rates = case["rates"].as_array().unwrap();
        assert!(rates.len() as u64 > count("total"), "past the end, too");
        for (step, rate) in rates.iter().enumerate() {
            // timm's arithmetic has another order: some roundings of the largest rate.
            let (found, rate) = (schedule.learning_rate(step as u64), rate.as_f64().unwrap());
            let off = (found - rate).abs();
            assert!(off <= 4.0 * f64::EPSILON * number("base"), "{case}, step {step}: {found}");
        }
    }
}

#[test]
fn senseless_schedules_are_refused() {
    for rate in [-0.1, f64::NAN, f64::INFINITY] {
        let error = Schedule::constant(rate).unwrap_err();
        assert!(matches!(error, ScheduleError::LearningRate { which: "first", .. }));
        assert!(Schedule::step(rate, 1, 0.1).is_err());
        assert!(cosine(rate, 0.0, 10).is_err());
        assert!(cosine(0.1, 0.0, 10).unwrap().with_warmup(2, Some(rate)).is_err());
        let error = cosine(0.1, rate, 10).unwrap_err();
        assert!(matches!(error, ScheduleError::LearningRate { which: "final", .. }));
    }
    assert_eq!(Schedule::step(0.1, 0, 0.1), Err(ScheduleError::NoSteps));
    for gamma in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(matches!(Schedule::step(0.1, 1, gamma), Err(ScheduleError::Gamma(_))));
    }
    let too_long = ScheduleError::WarmupTooLong { warmup_steps: 10, total_steps: 10 };
    let short = cosine(0.1, 0.0, 10).unwrap();
    assert_eq!(short.with_warmup(10, None), Err(too_long.clone()));
    assert!(short.with_warmup(9, None).is_ok());
    assert!(too_long.to_string().contains("10 warm-up steps leave nothing of 10 to fall"));
    assert!(cosine(0.1, 0.0, 0).is_err());
}
