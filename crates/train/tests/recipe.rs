//! Recipes from their public side: built-in ones, files with a base, overrides, round trips.
//! Refusals are in `recipe_errors.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vitrine_models::{Gelu, Initialisation, ModelConfig, Pool, VitConfig, families, preset_names};
use vitrine_nn::settings::{Fallback, Key};
use vitrine_train::recipe::{
    Device, OptimizerKind, Overrides, Precision, Recipe, SECTIONS, ScheduleKind, builtin_names,
    builtin_text, find_key, keys,
};

fn with(source: &str, assignments: &[&str]) -> Recipe {
    let mut overrides = Overrides::new();
    for assignment in assignments {
        overrides.set(assignment).unwrap();
    }
    Recipe::load(source, &overrides).unwrap()
}

fn vit(recipe: &Recipe) -> VitConfig {
    recipe.model.vit().unwrap().clone()
}

#[test]
fn d2l_is_the_textbook() {
    let recipe = with("d2l", &[]);
    let model = vit(&recipe);
    assert_eq!((model.image_size, model.patch_size), ((96, 96), (16, 16)));
    assert_eq!((model.width, model.depth, model.heads, model.mlp_width), (512, 2, 8, 2048));
    assert_eq!((model.channels, model.classes), (1, 10));
    assert_eq!((model.dropout, model.attention_dropout, model.embedding_dropout), (0.1, 0.1, 0.1));
    assert!(!model.qkv_bias && !model.projection_bias && model.last_block_saving);
    assert_eq!(
        (model.pool, model.gelu, model.init),
        (Pool::ClassToken, Gelu::Erf, Initialisation::Torch)
    );
    assert_eq!(model.layer_norm_eps, 1e-5);
    assert_eq!(Some(model), VitConfig::preset("d2l"));
    assert_eq!(recipe.objective.label_smoothing, 0.0);
    let recipe = recipe.training;
    assert_eq!(recipe.data.dataset.as_deref(), Some("fashion-mnist"));
    assert_eq!((recipe.data.limit_train, recipe.data.limit_val), (0, 0));
    let optimizer = &recipe.optimizer;
    assert_eq!((optimizer.kind, optimizer.learning_rate), (OptimizerKind::Sgd, 0.1));
    assert_eq!((optimizer.momentum, optimizer.weight_decay, optimizer.clip_norm), (0.0, 0.0, 0.0));
    assert_eq!((optimizer.nesterov, optimizer.accumulation), (false, 1));
    assert_eq!((recipe.schedule.kind, recipe.schedule.warmup_steps), (ScheduleKind::Constant, 0));
    assert_eq!((recipe.run.epochs, recipe.run.batch_size), (10, 128));
    assert_eq!((recipe.run.precision, recipe.run.device), (Precision::F32, Device::Cpu));
}

#[test]
fn d2l_jax_differs_in_three_keys_only() {
    let (torch, jax) = (with("d2l", &[]), with("d2l-jax", &[]));
    assert_eq!((&jax.objective, &jax.training), (&torch.objective, &torch.training));
    let (torch, jax) = (vit(&torch), vit(&jax));
    assert_eq!((jax.gelu, jax.init), (Gelu::Tanh, Initialisation::Flax));
    assert_eq!(jax.layer_norm_eps, 1e-6);
    let VitConfig { preset, gelu, init, layer_norm_eps, .. } = torch.clone();
    assert_eq!(VitConfig { preset, gelu, init, layer_norm_eps, ..jax }, torch);
}

#[test]
fn built_in_files_say_how_they_are_run_and_where_the_figures_are() {
    assert_eq!(builtin_names(), ["d2l", "d2l-jax", "scratch-small", "finetune", "resnet18"]);
    for name in builtin_names() {
        let text = builtin_text(name).unwrap();
        assert!(text.starts_with('#') && text.contains("command:"), "{name}");
        assert!(text.contains("# published: ") && text.contains("# here: "), "{name}");
    }
    assert_eq!(builtin_text("d3l"), None);
}

#[test]
fn a_resolved_recipe_states_every_key_and_parses_to_an_equal_one() {
    let changed = [
        "model.image_size=[96, 64]",
        "optimizer.kind=adamw",
        "optimizer.eps=1e-8",
        "optimizer.learning_rate=3e-5",
        "schedule.kind=cosine",
        "schedule.final_learning_rate=1e-7",
        "run.seed=9223372036854775807",
        "run.device=cuda:1",
        "model.preset=vit-ti-16",
    ];
    for recipe in [with("d2l", &[]), with("d2l-jax", &[]), with("d2l", &changed)] {
        let text = recipe.to_toml().unwrap();
        assert_eq!(Recipe::parse(&text, "config.toml").unwrap(), recipe, "{text}");
        let table: toml::Table = text.parse().unwrap();
        let stated: BTreeSet<String> = table
            .iter()
            .flat_map(|(section, keys)| {
                keys.as_table().unwrap().keys().map(move |key| format!("{section}.{key}"))
            })
            .collect();
        let names =
            |keys: &mut dyn Iterator<Item = &Key>| keys.map(|key| key.name.to_owned()).collect();
        let others: Vec<&Key> = families().skip(1).flat_map(|(_, keys)| keys).collect();
        let ours = || keys().filter(|key| !others.iter().any(|other| std::ptr::eq(*other, *key)));
        let all: BTreeSet<String> = names(&mut ours());
        let closed = names(&mut ours().filter(|key| key.default != Fallback::Open));
        assert!(closed.is_subset(&stated) && stated.is_subset(&all), "{stated:?}");
        let order: Vec<&String> = table.keys().collect();
        assert_eq!(order, SECTIONS);
    }
}

/// What version 64f82f5 wrote into a run's folder: no family, no mean and std, and `[loss]`.
const BEFORE: &str = include_str!("golden/config-64f82f5.toml");

#[test]
fn a_recipe_of_before_is_read() {
    let recipe = Recipe::parse(BEFORE, "config.toml").unwrap();
    let now = with("d2l", &["run.epochs=2", "run.seed=3", "loss.label_smoothing=0.1"]);
    assert_eq!(recipe, now);
    assert_eq!(recipe.objective.label_smoothing, 0.1);
    assert_eq!(find_key("loss.label_smoothing").unwrap().name, "objective.label_smoothing");
}

#[test]
fn a_recipe_without_a_preset_is_written_without_one() {
    let mut recipe = with("d2l", &[]);
    recipe.model = ModelConfig::Vit(VitConfig { preset: None, ..vit(&recipe) });
    let text = recipe.to_toml().unwrap();
    assert!(!text.contains("preset"));
    assert_eq!(Recipe::parse(&text, "config.toml").unwrap(), recipe);
}

#[test]
fn flags_and_set_reach_the_same_keys() {
    let mut overrides = Overrides::new();
    let flags = [
        ("--dataset", "mnist"),
        ("--epochs", "3"),
        ("--batch-size", "64"),
        ("--precision", "bf16"),
        ("--device", "cuda:0"),
        ("--threads", "2"),
        ("--seed", "7"),
        ("--limit-train", "12800"),
        ("--limit-val", "2000"),
        ("--data", "/my/pictures"),
        ("--layer-decay", "0.75"),
        ("--freeze", "patch_embed,blocks.*.norm1"),
    ];
    for (flag, text) in flags {
        overrides.flag(flag, text).unwrap();
    }
    let recipe = Recipe::load("d2l", &overrides).unwrap();
    assert_eq!(
        recipe,
        with(
            "d2l",
            &[
                "data.dataset=mnist",
                "run.epochs=3",
                "run.batch_size=64",
                "run.precision=bf16",
                "run.device=\"cuda:0\"",
                "run.threads=2",
                " run.seed = 7 ",
                "data.limit_train=12800",
                "data.limit_val=2000",
                "data.dir=/my/pictures",
                "optimizer.layer_decay=0.75",
                "optimizer.freeze=[\"patch_embed\", \"blocks.*.norm1\"]",
            ],
        )
    );
    assert_eq!(recipe.training.run.device, Device::Cuda(0));
    assert_eq!(keys().filter(|key| key.flag.is_some()).count(), flags.len());
}

#[test]
fn a_later_override_wins_and_a_preset_never_undoes_a_key_beside_it() {
    assert_eq!(with("d2l", &["run.epochs=3", "run.epochs=4"]).training.run.epochs, 4);
    for order in
        [["model.depth=3", "model.preset=vit-s-16"], ["model.preset=vit-s-16", "model.depth=3"]]
    {
        let model = vit(&with("d2l", &order));
        assert_eq!((model.depth, model.width, model.preset.as_deref()), (3, 384, Some("vit-s-16")));
    }
}

#[test]
fn values_on_the_command_line_take_their_keys_type() {
    let recipe = with(
        "d2l",
        &[
            "optimizer.learning_rate=1",
            "model.pool=mean",
            "model.qkv_bias=true",
            "model.image_size=[32,64]",
            "data.limit_train=1_000",
        ],
    );
    let (model, training) = (vit(&recipe), recipe.training);
    assert_eq!((training.optimizer.learning_rate, model.pool), (1.0, Pool::Mean));
    assert_eq!(model.image_size, (32, 64));
    assert_eq!((model.qkv_bias, training.data.limit_train), (true, 1000));
    let mean =
        vit(&with("d2l", &["model.channels=3", "model.mean=[0.4, 0.5, 0]", "model.std=0.2"]));
    assert_eq!((mean.mean, mean.std), (vec![0.4, 0.5, 0.0], vec![0.2]));
}

#[test]
fn every_preset_makes_a_valid_recipe() {
    for preset in preset_names() {
        let recipe = with("d2l", &[&format!("model.preset={preset}")]);
        // A preset leaves classes to the data, and channels, if its mean is the same for all: Fashion-MNIST's here.
        let input = recipe.model.input();
        assert_eq!(input.classes, 10, "{preset}");
        if let Some(vit) = recipe.model.vit() {
            assert_eq!(input.channels, vit.mean.len(), "{preset}");
        }
        assert_eq!(Some(recipe.model), ModelConfig::preset(preset));
    }
    // One that is named over another leaves nothing of it, but keeps the channels.
    let over = vit(&with("finetune", &["model.preset=vit_base_patch16_224"]));
    assert_eq!(
        over,
        VitConfig { channels: 3, ..VitConfig::preset("vit_base_patch16_224").unwrap() }
    );
    let base = vit(&with("d2l", &["model.preset=vit-b-32"]));
    assert_eq!((base.width, base.depth, base.heads, base.mlp_width), (768, 12, 12, 3072));
    assert_eq!((base.patch_size, base.image_size), ((32, 32), (224, 224)));
    assert!(base.qkv_bias && base.projection_bias);
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_file_states_only_what_differs_from_its_base() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "shared/long.toml", "base = \"d2l\"\nrun.epochs = 50\nrun.seed = 1\n");
    let path = write(
        folder.path(),
        "mine.toml",
        "base = \"shared/long.toml\"\n[model]\nheads = 4\n[run]\nseed = 2\n",
    );
    let recipe = with(&path, &["run.threads=1"]);
    let same = ["run.epochs=50", "model.heads=4", "run.seed=2", "run.threads=1"];
    assert_eq!(recipe, with("d2l", &same));
}

#[test]
fn a_preset_in_a_file_replaces_the_bases_keys() {
    let text = "base = \"d2l\"\nmodel = { preset = \"vit-ti-16\", dropout = 0.2 }\n";
    let recipe = Recipe::parse(text, "text").unwrap();
    assert_eq!(recipe, with("d2l", &["model.preset=vit-ti-16", "model.dropout=0.2"]));
}

#[test]
fn a_family_that_is_named_leaves_no_preset_of_another() {
    let keys = ["model.family=resnet", "model.block=basic", "model.layers=[1]"];
    let recipe = with("finetune", &keys);
    let ModelConfig::Resnet(model) = &recipe.model else { panic!("{:?}", recipe.model) };
    assert_eq!((model.preset.as_deref(), &model.layers), (None, &vec![1]));
    // As a run's own file is read again.
    assert_eq!(Recipe::parse(&recipe.to_toml().unwrap(), "config.toml").unwrap(), recipe);
}

#[test]
fn a_file_stands_alone_with_the_keys_that_have_no_default() {
    let text = "model.preset = \"d2l\"\ndata.dataset = \"mnist\"\n\
                optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n\
                run = { epochs = 10, batch_size = 128 }\n";
    assert_eq!(Recipe::parse(text, "text").unwrap(), with("d2l", &["data.dataset=mnist"]));
}

#[test]
fn devices_are_read_and_written() {
    for (name, device) in [
        ("cpu", Some(Device::Cpu)),
        ("cuda:0", Some(Device::Cuda(0))),
        ("cuda:12", Some(Device::Cuda(12))),
    ] {
        assert_eq!(Device::from_name(name), device);
        assert_eq!(device.unwrap().to_string(), name);
    }
    for name in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:99999999999", "CPU"] {
        assert_eq!(Device::from_name(name), None, "{name}");
    }
}

#[test]
fn keys_say_what_they_mean() {
    let heads = find_key("model.heads").unwrap();
    assert_eq!((heads.section(), heads.leaf()), ("model", "heads"));
    for key in keys() {
        assert!(!key.about.is_empty() && !key.kind.allowed().is_empty(), "{}", key.name);
        assert!(SECTIONS.contains(&key.section()), "{}", key.name);
        // Each family of models has its own.
        let same = keys().filter(|other| other.name == key.name).count();
        assert!(same == 1 || key.section() == "model", "{}", key.name);
    }
}
