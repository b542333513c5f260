//! What a recipe refuses, and that each refusal names the key, the value and what is allowed.

use std::fs;

use vitrine_models::ModelConfig;
use vitrine_nn::settings::SettingError;
use vitrine_train::recipe::{Overrides, Recipe, RecipeError};

/// The error of setting these keys on top of `d2l`.
fn refusal(assignments: &[&str]) -> String {
    let mut overrides = Overrides::new();
    for assignment in assignments {
        if let Err(error) = overrides.set(assignment) {
            return error.to_string();
        }
    }
    match Recipe::load("d2l", &overrides) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{assignments:?} was accepted"),
    }
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn senseless_values_are_named_with_what_is_allowed() {
    for (assignment, allowed) in [
        ("model.heads=0", "a whole number from 1 to 65536"),
        ("model.heads=-8", "a whole number from 1"),
        ("model.heads=4.0", "a whole number from 1"),
        ("model.heads=four", "a whole number from 1"),
        ("model.depth=[4]", "a whole number from 1"),
        ("model.heads=99999999999999999999", "a whole number"),
        ("model.width=0", "a whole number from 1"),
        ("model.depth=0", "a whole number from 1"),
        ("model.mlp_width=0", "a whole number from 1"),
        ("model.channels=0", "a whole number from 1"),
        ("model.classes=1", "a whole number from 2"),
        ("model.image_size=0", "or a pair [height, width]"),
        ("model.image_size=[96]", "or a pair [height, width]"),
        ("model.image_size=[96,96,1]", "or a pair [height, width]"),
        ("model.image_size=[96,-96]", "or a pair [height, width]"),
        ("model.patch_size=1.5", "or a pair [height, width]"),
        ("model.dropout=1", "a number from 0 to below 1"),
        ("model.dropout=-0.1", "a number from 0 to below 1"),
        ("model.dropout=nan", "a number from 0 to below 1"),
        ("model.attention_dropout=1.0", "a number from 0 to below 1"),
        ("model.embedding_dropout=2", "a number from 0 to below 1"),
        ("model.qkv_bias=1", "true or false"),
        ("model.qkv_bias=yes", "true or false"),
        ("model.pool=max", "\"class-token\", \"mean\""),
        ("model.gelu=relu", "\"erf\" or \"tanh\""),
        ("model.layer_norm_eps=0", "a number over 0"),
        ("model.init=random", "\"torch\" or \"flax\""),
        ("model.preset=vit-xxl", "\"vit-b-16\""),
        ("data.dataset=cifar", "\"folder\" or \"shards\""),
        ("data.dataset=3", "\"folder\" or \"shards\""),
        ("data.limit_train=-1", "a whole number from 0"),
        ("data.workers=-1", "a whole number from 0"),
        ("data.prefetch=0", "a whole number from 1"),
        ("optimizer.kind=adam", "\"adamw\", \"schedule-free-adamw\", \"muon\" or \"soap\""),
        ("optimizer.learning_rate=-0.1", "a number over 0"),
        ("optimizer.learning_rate=0", "a number over 0"),
        ("optimizer.learning_rate=nan", "a number over 0"),
        ("optimizer.learning_rate=inf", "a number over 0, up to 1000"),
        ("optimizer.learning_rate=fast", "a number over 0"),
        ("optimizer.momentum=1.0", "a number from 0 to below 1"),
        ("optimizer.weight_decay=-1", "a number from 0"),
        ("optimizer.beta1=1", "a number from 0 to below 1"),
        ("optimizer.eps=0", "a number over 0"),
        ("optimizer.eps=1e-46", "a number over 0 and below 1; in f32 this one is 0"),
        ("optimizer.learning_rate=1e-60", "in f32 this one is 0"),
        ("model.layer_norm_eps=1e-46", "in f32 this one is 0"),
        ("data.max_pixels=0", "a whole number from 1"),
        ("optimizer.clip_norm=-1", "a number from 0"),
        ("optimizer.accumulation=0", "a whole number from 1"),
        ("schedule.kind=poly", "\"constant\", \"step\", \"cosine\" or \"linear\""),
        ("schedule.gamma=0", "a number over 0, up to 1"),
        ("schedule.gamma=1.1", "a number over 0, up to 1"),
        ("schedule.warmup_steps=-1", "a whole number from 0"),
        ("schedule.final_learning_rate=-1", "a number from 0"),
        ("objective.label_smoothing=1", "a number from 0 to below 1"),
        ("model.family=unet", "\"vit\""),
        ("model.mean=[]", "or a list of such, one a channel"),
        ("model.std=[0.5, 0]", "a number over 0"),
        ("run.epochs=0", "a whole number from 1"),
        ("run.batch_size=0", "a whole number from 1"),
        ("run.seed=-1", "a whole number from 0"),
        ("run.precision=f16", "\"f32\" or \"bf16\""),
        ("run.device=tpu", "\"cpu\", or \"cuda:0\""),
        ("run.threads=-2", "a whole number from 0"),
        ("run.log_every=0", "a whole number from 1"),
    ] {
        let (key, value) = assignment.split_once('=').unwrap();
        let message = refusal(&[assignment]);
        assert_says(&message, &["--set", &format!("`{key} = {value}`"), allowed]);
    }
}

#[test]
fn keys_that_contradict_each_other_are_named_together() {
    let cases: [(&[&str], &[&str]); 24] = [
        (&["model.heads=7"], &["`model.heads = 7`", "must divide `model.width = 512`"]),
        (&["model.patch_size=15"], &["`model.patch_size = 15`", "`model.image_size = 96`"]),
        (&["model.image_size=[96,100]"], &["`model.patch_size = 16`", "[96, 100]"]),
        (&["model.image_size=4096", "model.patch_size=1"], &["16777216 patches", "at most 65536"]),
        (&["model.classes=11"], &["`model.classes = 11`", "\"fashion-mnist\"` has 10 classes"]),
        (
            &["data.classes=[\"Coat\", \"Bag\"]", "model.classes=10"],
            &["`model.classes = 10`", "`data.classes` names 2 classes"],
        ),
        (
            &["optimizer.kind=adamw", "optimizer.momentum=0.9"],
            &["`optimizer.momentum = 0.9`", "\"adamw\"", "leave it at 0", "\"sgd\""],
        ),
        (
            &["optimizer.kind=adamw", "optimizer.nesterov=true"],
            &["`optimizer.nesterov = true`", "\"adamw\""],
        ),
        (&["optimizer.nesterov=true"], &["`optimizer.nesterov = true`", "`optimizer.momentum`"]),
        (&["optimizer.kind=muon"], &["`optimizer.momentum = 0", "muon needs one, such as 0.95"]),
        (
            &["optimizer.kind=schedule-free-adamw", "optimizer.model_ema_decay=0.9"],
            &["`optimizer.model_ema_decay = 0.9`", "averages the weights itself"],
        ),
        (
            &["optimizer.model_ema_warmup=true"],
            &["`optimizer.model_ema_warmup = true`", "`optimizer.model_ema_decay`"],
        ),
        (
            &["optimizer.precondition_frequency=5"],
            &["`optimizer.precondition_frequency = 5`", "leave it at 10", "\"soap\""],
        ),
        (&["optimizer.beta1=0.8"], &["`optimizer.beta1 = 0.8`", "\"sgd\"", "leave it at 0.9"]),
        (&["optimizer.beta2=0.95"], &["`optimizer.beta2 = 0.95`", "leave it at 0.999"]),
        (&["optimizer.eps=1e-6"], &["`optimizer.eps = 0.000001`", "leave it at 1e-8"]),
        (
            &["schedule.warmup_steps=10", "schedule.warmup_epochs=1"],
            &["`schedule.warmup_steps = 10`", "`schedule.warmup_epochs = 1` is set too"],
        ),
        (&["schedule.warmup_epochs=10"], &["`schedule.warmup_epochs = 10`", "`run.epochs = 10`"]),
        (
            &["schedule.warmup_learning_rate=0.01"],
            &["`schedule.warmup_learning_rate = 0.01`", "no warm-up"],
        ),
        (
            &["schedule.kind=linear", "schedule.warmup_epochs=4", "schedule.cooldown_epochs=6"],
            &["`schedule.cooldown_epochs = 6`", "`run.epochs = 10`"],
        ),
        (&["schedule.kind=step"], &["`schedule.step_epochs = 0`", "1 or more"]),
        (&["schedule.step_epochs=3"], &["`schedule.step_epochs = 3`", "\"constant\"", "\"step\""]),
        (&["schedule.gamma=0.5"], &["`schedule.gamma = 0.5`", "leave it at 0.1"]),
        (
            &["schedule.kind=cosine", "schedule.final_learning_rate=0.2"],
            &["`schedule.final_learning_rate = 0.2`", "over `optimizer.learning_rate = 0.1`"],
        ),
    ];
    for (assignments, parts) in cases {
        assert_says(&refusal(assignments), parts);
    }
    let final_rate = refusal(&["schedule.final_learning_rate=0.01"]);
    assert_says(&final_rate, &["\"constant\"", "\"cosine\""]);
}

#[test]
fn unknown_keys_suggest_the_nearest_in_files_and_on_the_command_line() {
    let cases = [
        ("[model]\nhead = 4", "model.head", Some("model.heads")),
        ("[optimizer]\nlr = 0.1", "optimizer.lr", Some("optimizer.learning_rate")),
        ("[run]\nlearning_rate = 0.1", "run.learning_rate", Some("optimizer.learning_rate")),
        ("[optimiser]\nmomentum = 0.1", "optimiser", Some("optimizer")),
        ("epochs = 4", "epochs", Some("run.epochs")),
        ("bas = \"d2l\"", "bas", Some("base")),
        ("[model]\nquaternions = true", "model.quaternions", None),
        ("[zoo]\n", "zoo", None),
    ];
    for (text, key, suggestion) in cases {
        let text =
            if text.starts_with('[') { format!("base = \"d2l\"\n{text}") } else { text.into() };
        let error = Recipe::parse(&text, "mine.toml").unwrap_err();
        let RecipeError::Setting(SettingError::UnknownKey { suggestion: found, .. }) = &error
        else {
            panic!("{text}: {error}")
        };
        assert_eq!(found.as_deref(), suggestion, "{text}");
        assert_says(&error.to_string(), &["mine.toml: unknown key", &format!("`{key}`")]);
    }
    let error = Overrides::new().set("model.embed_dim=4").unwrap_err().to_string();
    assert_says(&error, &["--set: unknown key `model.embed_dim`; did you mean `model.width`?"]);
    let error = Overrides::new().set("=4").unwrap_err().to_string();
    assert_says(&error, &["`--set =4` is not of the form key=value"]);
    for malformed in ["model.heads", "model.heads=", ""] {
        let error = Overrides::new().set(malformed).unwrap_err();
        assert!(matches!(error, RecipeError::Assignment { .. }), "{malformed}");
    }
    let error = Overrides::new().flag("--epoch", "3").unwrap_err();
    assert!(matches!(error, RecipeError::UnknownFlag { .. }));
    let error = Overrides::new().flag("--epochs", "none").unwrap_err().to_string();
    assert_says(&error, &["--epochs: `run.epochs = none` is not allowed"]);
}

#[test]
fn unknown_recipes_suggest_the_nearest() {
    let error = Recipe::load("d2l_jax", &Overrides::new()).unwrap_err().to_string();
    assert_says(&error, &["\"d2l_jax\"", "did you mean `d2l-jax`?", "d2l, d2l-jax", ".toml"]);
    let error = Recipe::parse("base = \"imagenet\"", "mine.toml").unwrap_err();
    assert!(matches!(error, RecipeError::UnknownRecipe { suggestion: None, .. }));
}

#[test]
fn keys_without_a_default_are_asked_for() {
    for (text, parts) in [
        ("", ["`model.image_size`", "`base = \"d2l\"`, or name a `model.preset`"]),
        (
            "model.preset = \"d2l\"\ndata.dataset = \"mnist\"\noptimizer.kind = \"sgd\"",
            ["`optimizer.learning_rate`", "`base = \"d2l\"`"],
        ),
    ] {
        assert_says(&Recipe::parse(text, "mine.toml").unwrap_err().to_string(), &parts);
    }
}

#[test]
fn values_in_files_name_the_file() {
    let error = Recipe::parse("[model]\nheads = 0", "mine.toml").unwrap_err().to_string();
    assert_says(&error, &["mine.toml: `model.heads = 0`", "a whole number from 1"]);
    let error = Recipe::parse("model = 3", "mine.toml").unwrap_err().to_string();
    assert_says(&error, &["mine.toml: `model = 3`", "a section, [model]"]);
    let error = Recipe::parse("base = 3", "mine.toml").unwrap_err().to_string();
    assert_says(&error, &["mine.toml: `base = 3`", "built-in recipe"]);
    let long = format!("[model]\nheads = \"{}\"", "x".repeat(5000));
    assert!(Recipe::parse(&long, "mine.toml").unwrap_err().to_string().len() < 250);
}

#[test]
fn broken_toml_is_shown_with_its_line() {
    let error = Recipe::parse("[model]\nheads = = 3\n", "mine.toml").unwrap_err().to_string();
    assert_says(&error, &["mine.toml is not valid TOML", "line 2"]);
    let twice = Recipe::parse("[model]\nheads = 3\nheads = 4\n", "mine.toml").unwrap_err();
    assert!(matches!(twice, RecipeError::Syntax { .. }));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml").display().to_string();
    let error = Recipe::load(&missing, &Overrides::new()).unwrap_err().to_string();
    assert_says(&error, &["cannot read the recipe", "none.toml"]);
    let error = Recipe::load_file(folder.path(), &Overrides::new()).unwrap_err();
    assert!(matches!(error, RecipeError::Read { .. }), "{error}");
    let binary = folder.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    let error = Recipe::load_file(&binary, &Overrides::new()).unwrap_err().to_string();
    assert_says(&error, &["binary.toml"]);
}

#[test]
fn a_recipe_cannot_be_its_own_base() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.toml"), "base = \"b.toml\"").unwrap();
    fs::write(folder.path().join("b.toml"), "base = \"./a.toml\"").unwrap();
    let error = Recipe::load_file(&folder.path().join("a.toml"), &Overrides::new()).unwrap_err();
    assert!(matches!(error, RecipeError::BaseCycle { .. }), "{error}");
    assert_says(&error.to_string(), &["a.toml → ", "b.toml → "]);
}

#[test]
fn a_recipe_changed_in_code_is_checked_too() {
    let good = Recipe::load("d2l", &Overrides::new()).unwrap();
    let mut bad = good.clone();
    bad.training.optimizer.learning_rate = f64::NAN;
    assert_says(&bad.validate().unwrap_err().to_string(), &["optimizer.learning_rate = nan"]);
    let mut bad = good.clone();
    let ModelConfig::Vit(model) = &mut bad.model else { unreachable!() };
    model.image_size = (0, 96);
    assert_says(&bad.validate().unwrap_err().to_string(), &["model.image_size = [0, 96]"]);
    let mut bad = good.clone();
    bad.model = bad.model.with_classes(3);
    let conflict = bad.validate().unwrap_err().to_string();
    assert_says(&conflict, &["`model.classes = 3`", "`data.dataset = \"fashion-mnist\"` has 10"]);
    let mut bad = good;
    bad.training.run.seed = u64::MAX;
    assert!(bad.validate().is_err());
}

#[test]
fn slips_aliases_and_wrong_sections_lead_to_the_key() {
    let suggested = |given: &str| {
        let error = Overrides::new().set(&format!("{given}=1")).err();
        let Some(RecipeError::Setting(SettingError::UnknownKey { suggestion, .. })) = error else {
            panic!("{given}")
        };
        suggestion
    };
    for (given, key) in [
        ("model.head", "model.heads"),
        ("model.haeds", "model.heads"),
        ("model.mlp-width", "model.mlp_width"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("run.learning_rate", "optimizer.learning_rate"),
        ("epoch", "run.epochs"),
        ("Run.Epochs", "run.epochs"),
        ("data.name", "data.dataset"),
        ("model.num_layers", "model.depth"),
        ("optimiser.momentum", "optimizer.momentum"),
        ("schedule.warmup_epoch", "schedule.warmup_epochs"),
    ] {
        assert_eq!(suggested(given).as_deref(), Some(key), "{given}");
    }
    assert_eq!(suggested("model.quaternion"), None);
    assert_eq!(suggested(&"x".repeat(100_000)), None);
}
