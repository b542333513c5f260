//! The presets: their sizes by the published parameter counts, and the names and shapes of their parameters.

use vitrine_models::{
    Gelu, Initialisation, ModelConfig, Pool, VisionTransformer, VitConfig, preset_names,
};
use vitrine_nn::{Init, ParameterBuilder};
use vitrine_tensor::{DType, Device};

/// The number of parameters, by the sizes alone. Building ViT-L would need 4 GB.
fn count(config: &VitConfig) -> usize {
    let (d, m) = (config.width, config.mlp_width);
    let embedding =
        config.channels * config.patch_size.0 * config.patch_size.1 * d + d + config.tokens() * d;
    let class = if config.pool == Pool::ClassToken { d } else { 0 };
    let biases = usize::from(config.qkv_bias) * 3 * d + usize::from(config.projection_bias) * d;
    let block = 4 * d * d + biases + 2 * d * m + d + m + 4 * d;
    embedding + class + config.depth * block + 2 * d + d * config.classes + config.classes
}

fn preset(name: &str) -> VitConfig {
    VitConfig::preset(name).unwrap_or_else(|| panic!("there is no preset {name}"))
}

/// As published: for photographs in 1000 classes.
fn imagenet(name: &str) -> VitConfig {
    VitConfig { channels: 3, classes: 1000, ..preset(name) }
}

#[test]
fn the_names_of_presets() {
    let ours = [
        "d2l",
        "d2l-jax",
        "vit-ti-16",
        "vit-ti-32",
        "vit-s-16",
        "vit-s-32",
        "vit-b-16",
        "vit-b-32",
        "vit-l-16",
        "vit-l-32",
        "vit-h-14",
        "vit-so400m-14",
    ];
    let names = preset_names();
    // The others are timm's, and a test compares them with timm.
    assert_eq!(names[..ours.len()], ours);
    let vits = &names[ours.len()..names.iter().position(|name| *name == "resnet18").unwrap()];
    assert!(vits.iter().all(|name| name.contains('_')));
    for name in names {
        let config = ModelConfig::preset(name).unwrap();
        config.validate().unwrap();
        // What a model says of itself reads back as the configuration that built it.
        let table = config.build(&mut ParameterBuilder::new(0)).unwrap().settings().unwrap();
        assert_eq!(table["preset"].as_str(), Some(name));
        assert_eq!(ModelConfig::read(table, name).unwrap(), config);
    }
    for unknown in
        ["", "D2L", "d2l ", "vit", "vit-b", "vit-b-8", "vit-x-16", "vit-b-16-", "vit-b16"]
    {
        assert_eq!(VitConfig::preset(unknown), None, "{unknown:?}");
    }
}

/// timm's and torchvision's, for 1000 classes.
#[test]
fn other_families_have_the_published_numbers_of_parameters() {
    for (name, expected) in [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("swin_tiny_patch4_window7_224", 28_288_354),
        ("swin_small_patch4_window7_224", 49_606_258),
        ("swin_base_patch4_window7_224", 87_768_224),
    ] {
        let config = ModelConfig::preset(name).unwrap().with_classes(1000);
        let mut builder = ParameterBuilder::new(0);
        config.build(&mut builder).unwrap();
        let parameters = builder.shapes().filter(|(name, _)| !name.contains("running_"));
        let count: usize = parameters.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(count, expected, "{name}");
    }
}

#[test]
fn parameter_counts_are_those_published() {
    // timm's `vit_{tiny,small,base,large}_patch{16,32}_224`, 1000 classes.
    for name in ["d2l", "d2l-jax"] {
        assert_eq!(count(&preset(name)), 6_457_866, "{name}");
    }
    for (name, expected) in [
        ("vit-ti-16", 5_717_416),
        ("vit-s-16", 22_050_664),
        ("vit-s-32", 22_878_952),
        ("vit-b-16", 86_567_656),
        ("vit-b-32", 88_224_232),
        ("vit-l-16", 304_326_632),
        ("vit-l-32", 306_535_400),
    ] {
        assert_eq!(count(&imagenet(name)), expected, "{name}");
    }
}

#[test]
fn the_count_by_sizes_is_that_of_the_model() {
    let small = VitConfig { depth: 1, ..preset("vit-ti-32") };
    let rectangular = VitConfig {
        image_size: (8, 12),
        patch_size: (4, 2),
        channels: 2,
        classes: 3,
        width: 6,
        heads: 2,
        mlp_width: 5,
        ..preset("vit-b-16")
    };
    for config in [
        preset("d2l"),
        small.clone(),
        rectangular.clone(),
        VitConfig { pool: Pool::Mean, ..rectangular.clone() },
        VitConfig { qkv_bias: false, ..rectangular.clone() },
        VitConfig { projection_bias: false, ..rectangular },
    ] {
        let mut builder = ParameterBuilder::new(0);
        VisionTransformer::new(&mut builder.scope(""), &config).unwrap();
        let parameters = builder.build(DType::F32, &Device::cpu()).unwrap();
        assert_eq!(parameters.count(), count(&config), "{config:?}");
    }
}

#[test]
fn sizes_of_the_published_models() {
    for (name, width, depth, heads) in
        [("ti", 192, 12, 3), ("s", 384, 12, 6), ("b", 768, 12, 12), ("l", 1024, 24, 16)]
    {
        for patch in [16, 32] {
            let config = preset(&format!("vit-{name}-{patch}"));
            assert_eq!((config.width, config.depth, config.heads), (width, depth, heads));
            assert_eq!(config.mlp_width, 4 * width);
            assert_eq!((config.image_size, config.patch_size), ((224, 224), (patch, patch)));
            assert!(config.qkv_bias && config.projection_bias);
            assert_eq!(config.layer_norm_eps, 1e-6);
            assert_eq!(config.tokens(), (224 / patch).pow(2) + 1);
            // timm's name for the same model, with timm's pixels.
            let size = ["tiny", "small", "base", "large"]
                .into_iter()
                .find(|s| s.starts_with(name))
                .unwrap();
            let timm = format!("vit_{size}_patch{patch}_224");
            if let Some(timm) = VitConfig::preset(&timm) {
                assert_eq!((&timm.mean[..], &timm.std[..]), (&[0.5][..], &[0.5][..]));
                let (preset, mean, std) = (config.preset.clone(), vec![0.0], vec![1.0]);
                assert_eq!(VitConfig { preset, mean, std, ..timm }, config);
            }
        }
    }
    let (torch, jax) = (preset("d2l"), preset("d2l-jax"));
    assert_eq!((torch.gelu, jax.gelu), (Gelu::Erf, Gelu::Tanh));
    assert_eq!((torch.layer_norm_eps, jax.layer_norm_eps), (1e-5, 1e-6));
    assert_eq!((torch.dropout, torch.attention_dropout, torch.embedding_dropout), (0.1, 0.1, 0.1));
    assert_eq!((torch.patches(), torch.tokens()), (36, 37));
}

fn names_and_shapes(config: &VitConfig) -> Vec<(String, Vec<usize>)> {
    let mut builder = ParameterBuilder::new(0);
    VisionTransformer::new(&mut builder.scope(""), config).unwrap();
    let parameters = builder.build(DType::F32, &Device::cpu()).unwrap();
    parameters.infos().iter().map(|info| (info.name.clone(), info.shape.clone())).collect()
}

#[test]
fn names_and_shapes_are_timms() {
    let config = VitConfig {
        image_size: (8, 12),
        patch_size: (4, 2),
        channels: 3,
        classes: 7,
        width: 6,
        depth: 2,
        heads: 2,
        mlp_width: 10,
        ..preset("vit-b-16")
    };
    let block: [(&str, &[usize]); 12] = [
        ("norm1.weight", &[6]),
        ("norm1.bias", &[6]),
        ("attn.qkv.weight", &[18, 6]),
        ("attn.qkv.bias", &[18]),
        ("attn.proj.weight", &[6, 6]),
        ("attn.proj.bias", &[6]),
        ("norm2.weight", &[6]),
        ("norm2.bias", &[6]),
        ("mlp.fc1.weight", &[10, 6]),
        ("mlp.fc1.bias", &[10]),
        ("mlp.fc2.weight", &[6, 10]),
        ("mlp.fc2.bias", &[6]),
    ];
    let whole = |class: bool, norm: &str| {
        let mut whole = Vec::new();
        let mut push = |name: String, shape: &[usize]| whole.push((name, shape.to_vec()));
        if class {
            push("cls_token".into(), &[1, 1, 6]);
        }
        push("pos_embed".into(), &[1, 12 + usize::from(class), 6]);
        push("patch_embed.proj.weight".into(), &[6, 3, 4, 2]);
        push("patch_embed.proj.bias".into(), &[6]);
        for i in 0..2 {
            for (name, shape) in block {
                push(format!("blocks.{i}.{name}"), shape);
            }
        }
        push(format!("{norm}.weight"), &[6]);
        push(format!("{norm}.bias"), &[6]);
        push("head.weight".into(), &[7, 6]);
        push("head.bias".into(), &[7]);
        whole
    };
    assert_eq!(names_and_shapes(&config), whole(true, "norm"));
    let mean = VitConfig { pool: Pool::Mean, ..config.clone() };
    assert_eq!(names_and_shapes(&mean), whole(false, "fc_norm"));
    let without = VitConfig { qkv_bias: false, projection_bias: false, ..config };
    let mut expected = whole(true, "norm");
    expected.retain(|(name, _)| !name.ends_with("qkv.bias") && !name.ends_with("attn.proj.bias"));
    assert_eq!(names_and_shapes(&without), expected);
}

/// Mean and standard deviation of a parameter's first values.
fn first_values(config: &VitConfig, name: &str) -> (f64, f64) {
    let mut builder = ParameterBuilder::new(0);
    VisionTransformer::new(&mut builder.scope(""), config).unwrap();
    let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    let values = parameters.value(parameters.find(name).unwrap()).unwrap().to_vec::<f64>().unwrap();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

#[test]
fn first_values_are_those_of_each_framework() {
    // Expected deviations: U(±b) has b/√3 and PyTorch's b is 1/√in; Flax's lecun-normal 1/√in. No weight of the model
    // has fewer than 18,944 values: 2 % is more than 3.9 standard errors of a deviation.
    let (width, hidden, patch) = (512f64.sqrt(), 2048f64.sqrt(), 256f64.sqrt());
    let weights = [
        ("patch_embed.proj.weight", patch),
        ("blocks.1.attn.qkv.weight", width),
        ("blocks.1.mlp.fc2.weight", hidden),
    ];
    for (name, root3, position) in [("d2l", 3f64.sqrt(), 1.0), ("d2l-jax", 1.0, 0.01)] {
        let config = preset(name);
        for (weight, root_in) in weights {
            let (_, std) = first_values(&config, weight);
            let expected = 1.0 / (root_in * root3);
            assert!((std / expected - 1.0).abs() < 0.02, "{name}, {weight}: {std}, {expected}");
        }
        let (_, std) = first_values(&config, "pos_embed");
        assert!((std / position - 1.0).abs() < 0.02, "{name}, positions: {std}");
        assert_eq!(first_values(&config, "cls_token"), (0.0, 0.0));
        assert_eq!(first_values(&config, "norm.weight"), (1.0, 0.0));
        let (_, bias) = first_values(&config, "blocks.0.mlp.fc1.bias");
        assert_eq!(bias == 0.0, config.init == Initialisation::Flax, "{name}: {bias}");
    }
    assert_eq!(Init::TORCH, Init::FanInUniform { scale: 1.0 });
}
