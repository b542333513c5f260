//! Where a model looked: the maps are those of timm's attention (`crates/testkit/golden/make_attention.py`), what has
//! no attention says so, and the program writes pictures.

mod vitrine_program;

use tempfile::tempdir;
use vitrine_models::ModelConfig;
use vitrine_nn::{Model, ParameterBuilder, Parameters, Table};
use vitrine_program::{picture, text, tiny_run, vitrine};
use vitrine_tensor::{DType, Device};
use vitrine_testkit::golden::GoldenFile;
use vitrine_train::explain::{Explanation, Map, Method, overlay};

/// The model of a golden file, its parameters, and its first image.
fn model(name: &str) -> (Box<dyn Model>, Parameters, Vec<f32>) {
    let golden = GoldenFile::open(name);
    let table: Table = Table::try_from(&golden.config["model"]).unwrap();
    let config = ModelConfig::read(table, "the golden file").unwrap();
    let mut builder = ParameterBuilder::new(0);
    let model = config.build(&mut builder).unwrap();
    let parameters = builder.build(DType::F32, &Device::cpu()).unwrap();
    for (name, value) in parameters.named_values() {
        value.unwrap().copy_(&golden.tensor(&format!("param.{name}"))).unwrap();
    }
    let image = golden.tensor("input").narrow(0, 0, 1).unwrap();
    let pixels = image.contiguous().unwrap().to_vec().unwrap();
    (model, parameters, pixels)
}

#[test]
fn maps_are_those_of_timms_attention() {
    let golden = GoldenFile::open("attention_maps");
    let models = golden.config["models"].as_object().unwrap();
    assert_eq!(models.len(), 4);
    for (name, class) in models {
        let (model, parameters, pixels) = model(name);
        let class = class.as_u64().unwrap() as usize;
        // Whatever a run computes in, and keeps for its gradients.
        let parameters = parameters.computing_in(DType::BF16).unwrap();
        let found = Explanation::of(model.as_ref(), &parameters, &pixels, Some(class)).unwrap();
        let compare = |what: &str, map: &Map| {
            let expected = golden.tensor(&format!("{name}.{what}")).to_f64_vec().unwrap();
            assert_eq!(map.values.len(), expected.len(), "{name}, {what}");
            let largest = expected.iter().fold(0.0, |top: f64, value| top.max(value.abs()));
            for (found, expected) in map.values.iter().zip(&expected) {
                let off = (found - expected).abs() / largest;
                assert!(off < 2e-5, "{name}, {what}: {found} for {expected}");
            }
        };
        compare("rollout", &found.maps(Method::Rollout).unwrap()[0]);
        compare("relevance", &found.maps(Method::GradientAttention).unwrap()[0]);
        compare("gradient", &found.maps(Method::Gradient).unwrap()[0]);
        let heads = found.maps(Method::Attention).unwrap();
        let count = GoldenFile::open(name).config["model"]["heads"].as_u64().unwrap();
        assert_eq!(heads.len() as u64, count);
        for (head, map) in heads.iter().enumerate() {
            compare(&format!("last.{head}"), map);
        }
        let likeliest = Explanation::of(model.as_ref(), &parameters, &pixels, None).unwrap();
        let top = likeliest.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(likeliest.logits[likeliest.class], top);
    }
}

#[test]
fn every_family_has_a_gradient_and_says_where_it_has_no_attention() {
    for (name, attends) in [("cct", true), ("cvt", true), ("swin", false), ("resnet_basic", false)]
    {
        let golden = GoldenFile::open(name);
        let table: Table = Table::try_from(&golden.config["model"]).unwrap();
        let config = ModelConfig::read(table, "the golden file").unwrap();
        let mut builder = ParameterBuilder::new(3);
        let model = config.build(&mut builder).unwrap();
        let parameters = builder.build(DType::F32, &Device::cpu()).unwrap();
        let image = golden.tensor("input").narrow(0, 0, 1).unwrap();
        let pixels: Vec<f32> = image.contiguous().unwrap().to_vec().unwrap();
        let found = Explanation::of(model.as_ref(), &parameters, &pixels, None).unwrap();
        let gradient = &found.maps(Method::Gradient).unwrap()[0];
        assert_eq!(gradient.size, model.input().size, "{name}");
        assert!(gradient.values.iter().any(|&value| value > 0.0), "{name}");
        match found.maps(Method::Rollout) {
            Ok(maps) => {
                assert!(attends, "{name}");
                let sum: f64 = maps[0].values.iter().sum();
                assert!((sum - 1.0).abs() < 1e-6, "{name}: shares add up to {sum}");
            }
            Err(error) => {
                assert!(!attends && error.to_string().contains("no attention over a whole image"));
            }
        }
        let class = Explanation::of(model.as_ref(), &parameters, &pixels, Some(1000));
        assert!(class.err().unwrap().to_string().contains("class 1000 of"), "{name}");
        let png =
            overlay(&pixels, &model.input(), &[gradient.clone(), gradient.clone()], 224).unwrap();
        let shown = image::load_from_memory(&png).unwrap();
        assert!(shown.width() >= 448 && shown.height() >= 224, "{name}: {shown:?}");
    }
}

#[test]
fn the_program_writes_a_picture_for_each_method() {
    let folder = tempdir().unwrap();
    let run = tiny_run(folder.path(), &[]);
    let shoe = picture(folder.path(), "shoe.png", |x, y| (x * 7 + y) as u8);
    let out = folder.path().join("explained");
    let command = ["explain", "--run", text(&run), "--out", text(&out)];
    let shown = vitrine(&[&command[..], &[text(&shoe)]].concat()).succeeded();
    for method in Method::ALL {
        let path = out.join(format!("shoe-{}.png", method.name()));
        assert!(shown.contains(text(&path)), "{shown}");
        image::open(&path).unwrap();
    }
    let missing = folder.path().join("none.png");
    let named = ["--class", "stripe 3", "--method", "rollout", text(&missing), text(&shoe)];
    let ended = vitrine(&[&command[..], &named].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.says(&["none.png"]);
    assert!(ended.stdout.contains("shoe.png: stripe 3"), "{ended:?}");
    vitrine(&[&command[..], &["--class", "Boat", text(&shoe)]].concat())
        .failed(&["no class is called \"Boat\"", "stripe 9"]);
}
