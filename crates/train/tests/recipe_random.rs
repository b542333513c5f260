//! Random input: no text makes the reading of a recipe panic, and every recipe that is accepted
//! survives being written and read.

use proptest::prelude::*;
use vitrine_train::recipe::{Overrides, Recipe, SECTIONS, keys};

/// A TOML value of any type, often near the edges of what keys allow.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-3i64..300).prop_map(|number| number.to_string()),
        (-0.5f64..1.5).prop_map(|number| format!("{number:?}")),
        any::<f64>()
            .prop_filter("TOML writes these otherwise", |x| x.is_finite())
            .prop_map(|number| { format!("{number:e}") }),
        Just("nan".to_owned()),
        Just("-inf".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "[a-z0-9:-]{0,12}".prop_map(|text| format!("\"{text}\"")),
        prop::sample::select(vec![
            "\"sgd\"",
            "\"adamw\"",
            "\"cosine\"",
            "\"step\"",
            "\"mean\"",
            "\"bf16\"",
            "\"cuda:1\"",
            "\"vit-ti-16\"",
            "\"vit-b-32\"",
            "\"tanh\"",
            "\"mnist\"",
            "1979-05-27",
        ])
        .prop_map(String::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", ")))
    })
}

fn key() -> impl Strategy<Value = String> {
    let known: Vec<&str> = keys().map(|key| key.name).collect();
    prop_oneof![
        8 => prop::sample::select(known).prop_map(String::from),
        1 => (prop::sample::select(SECTIONS.to_vec()), "[a-zA-Z_-]{1,12}")
            .prop_map(|(section, leaf)| format!("{section}.{leaf}")),
        1 => "[a-z]{1,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = Recipe::parse(&text, "text");
    }

    #[test]
    fn any_recipe_is_read_or_refused_and_what_is_read_survives_a_round_trip(
        entries in prop::collection::vec((key(), value()), 0..6)
    ) {
        let mut text = String::from("base = \"d2l\"\n");
        for (key, value) in entries {
            text.push_str(&format!("{key} = {value}\n"));
        }
        if let Ok(recipe) = Recipe::parse(&text, "text") {
            let written = recipe.to_toml().unwrap();
            prop_assert_eq!(Recipe::parse(&written, "written").unwrap(), recipe.clone());
            prop_assert!(recipe.validate().is_ok());
        }
    }

    #[test]
    fn accepted_figures_survive_a_round_trip_to_the_bit(
        learning_rate in 1e-300f64..1000.0,
        dropout in 0.0f64..1.0,
        eps in 1e-320f64..1.0,
        seed in 0..=i64::MAX,
    ) {
        let mut overrides = Overrides::new();
        overrides.set(&format!("optimizer.learning_rate={learning_rate:e}")).unwrap();
        overrides.set(&format!("model.dropout={dropout:?}")).unwrap();
        overrides.set(&format!("model.layer_norm_eps={eps:?}")).unwrap();
        overrides.set(&format!("run.seed={seed}")).unwrap();
        let recipe = Recipe::load("d2l", &overrides).unwrap();
        prop_assert_eq!(recipe.training.optimizer.learning_rate.to_bits(), learning_rate.to_bits());
        let read = Recipe::parse(&recipe.to_toml().unwrap(), "written").unwrap();
        let model = read.model.vit().unwrap();
        prop_assert_eq!(model.dropout.to_bits(), dropout.to_bits());
        prop_assert_eq!(model.layer_norm_eps.to_bits(), eps.to_bits());
        prop_assert_eq!(read, recipe);
    }

    #[test]
    fn any_assignment_is_taken_or_refused(text in "\\PC{0,40}", key in key(), value in "\\PC{0,20}") {
        let _ = Overrides::new().set(&text);
        let _ = Overrides::new().set(&format!("{key}={value}"));
        let _ = Overrides::new().flag("--epochs", &value);
    }
}
