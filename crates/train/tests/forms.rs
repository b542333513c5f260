//! Folders of weights as timm, transformers and torchvision write them (`crates/models/tests/golden/make_forms.py` and
//! `make_family_forms.py` made them): each is read without a recipe, and gives what its library gives.

use std::path::{Path, PathBuf};

use vitrine_data::Preprocessing;
use vitrine_nn::{Model, ParameterBuilder, Parameters, Pass};
use vitrine_tensor::{DType, Device, Tensor};
use vitrine_train::description::Description;
use vitrine_train::export::{self, Dtype, Form};
use vitrine_train::recipe::{Overrides, Recipe};
use vitrine_train::{build, weights};

fn forms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/forms")
}

/// What the library computed: inputs, outputs, and what the outputs are.
fn expected(folder: &Path) -> (Tensor, Vec<f64>, String) {
    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, head) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let config = &head.metadata().as_ref().unwrap()["config"];
    let config: serde_json::Value = serde_json::from_str(config).unwrap();
    let numbers = |name: &str| -> Vec<f32> {
        let view = file.tensor(name).unwrap();
        view.data().as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let shape = file.tensor("input").unwrap().shape().to_vec();
    let input = Tensor::from_slice(&numbers("input"), &shape, &Device::cpu()).unwrap();
    let logits = numbers("logits").into_iter().map(f64::from).collect();
    (input, logits, config["output"].as_str().unwrap().to_owned())
}

/// torchvision writes no configuration.
const TORCHVISION_SWIN: [&str; 9] = [
    "model.preset=swin_tiny_patch4_window7_224",
    "model.patch_size=2",
    "model.window_size=4",
    "model.width=8",
    "model.depths=[2, 2]",
    "model.heads=[1, 2]",
    "model.mlp_ratio=2",
    "model.classes=5",
    "model.channels=3",
];
const TORCHVISION: [&str; 9] = [
    "model.preset=vit-ti-16",
    "model.image_size=16",
    "model.patch_size=4",
    "model.width=16",
    "model.depth=2",
    "model.heads=2",
    "model.mlp_width=24",
    "model.classes=5",
    "model.channels=3",
];

fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |top, v| top.max(v.abs()));
    found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max) / largest
}

fn folders() -> Vec<(String, PathBuf)> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let entries = forms().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.map(|path| (name(&path), path)).collect();
    folders.sort();
    assert!(folders.len() >= 30);
    folders
}

/// The recipe that the files beside the weights stand for, at the size of these images; `classes` where they have none.
fn described(name: &str, folder: &Path, input: &Tensor, classes: usize) -> Recipe {
    let mut overrides = Overrides::new();
    let mut source = "d2l";
    match Description::beside(folder).unwrap_or_else(|error| panic!("{name}: {error}")) {
        Some(mut about) => {
            if about.num_classes == 0 {
                about.num_classes = classes;
            }
            overrides.describe(&about, true).unwrap();
        }
        None => {
            // It names no data set, which would have other classes.
            source = "finetune";
            let swin = name.contains("swin");
            for key in if swin { TORCHVISION_SWIN } else { TORCHVISION } {
                overrides.set(key).unwrap();
            }
        }
    }
    // Published processors cut out another size than the positions are for.
    let size = &input.shape()[2..];
    overrides.set(&format!("model.image_size={size:?}")).unwrap();
    Recipe::load(source, &overrides).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn logits(model: &dyn Model, parameters: &Parameters, input: &Tensor) -> Vec<f64> {
    let pass = Pass::inference(parameters);
    let output = model.forward(&pass, &pass.constant(input.clone())).unwrap();
    output.prediction().unwrap().value().to_f64_vec().unwrap()
}

#[test]
fn every_form_gives_what_its_library_gives() {
    for (name, folder) in folders() {
        let (input, expected, output) = expected(&folder);
        let recipe = described(&name, &folder, &input, 2);
        let found = match output.as_str() {
            "logits" => {
                let (model, parameters) = build::model_with_weights(&recipe, &folder, |_| {})
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                logits(model.as_ref(), &parameters, &input)
            }
            _ => {
                let mut builder = ParameterBuilder::new(0);
                let model = recipe.model.build(&mut builder).unwrap();
                let parameters = builder.build(DType::F32, &Device::cpu()).unwrap();
                let notices = weights::load(&folder, Some(&recipe.model), &parameters, true);
                let notices = notices.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(notices, ["the weights have no head: the head begins anew"]);
                let pass = Pass::inference(&parameters);
                let headed = model.headed().unwrap();
                let features = headed.features(&pass, &pass.constant(input)).unwrap();
                features.value().to_f64_vec().unwrap()
            }
        };
        let off = difference(&found, &expected);
        // PyTorch's own f32 is off by up to 7e-6.
        assert!(off < 2e-5, "{name}: {output} is off by {off:.1e}");
    }
}

/// Each model in each form, and back. What a form cannot say is an error, and these are all.
#[test]
fn what_is_written_reads_back_to_the_same_logits() {
    let refused: Vec<String> = [
        // Other heads, and borders, that are not there.
        // And a residual network whose stem is narrower than 64.
        ("Timm", &["hf_dinov2*", "hf_resnet"][..]),
        (
            "HuggingFace",
            &["timm_dinov3", "timm_vit_eps5", "timm_vit_qk_norm", "timm_vit_rectangle"],
        ),
        (
            "Torchvision",
            &[
                "hf_deit*",
                "hf_dinov2*",
                "hf_resnet",
                "hf_siglip*",
                "timm_deit*",
                "timm_dinov*",
                "timm_siglip",
                "timm_vit_eps5",
                "timm_vit_qk_norm",
                "timm_vit_rectangle",
            ],
        ),
    ]
    .into_iter()
    .flat_map(|(form, names)| names.iter().map(move |name| format!("{name} as {form}")))
    .collect();
    let is_refused = |what: &str| {
        refused.iter().any(|pattern| match pattern.split_once('*') {
            Some((start, end)) => what.starts_with(start) && what.ends_with(end),
            None => what == pattern,
        })
    };
    for (name, folder) in folders() {
        let (input, _, output) = expected(&folder);
        if output != "logits" {
            continue;
        }
        let recipe = described(&name, &folder, &input, 2);
        let (model, parameters) = build::model_with_weights(&recipe, &folder, |_| {}).unwrap();
        let before = logits(model.as_ref(), &parameters, &input);
        let about = Description::of(&recipe, &folder).unwrap();
        for form in [Form::Timm, Form::HuggingFace, Form::Torchvision] {
            for (dtype, tolerance) in [(Dtype::F32, 2e-6), (Dtype::F16, 4e-3), (Dtype::BF16, 3e-2)]
            {
                let out = tempfile::tempdir().unwrap();
                let what = format!("{name} as {form:?} in {dtype:?}");
                let written =
                    export::write(out.path(), form, &recipe.model, &parameters, &about, dtype);
                let refused = is_refused(&format!("{name} as {form:?}"));
                assert_eq!(written.is_err(), refused, "{what}: {written:?}");
                if refused {
                    continue;
                }
                let again = described(&what, out.path(), &input, 0);
                let (model, parameters) = build::model_with_weights(&again, out.path(), |_| {})
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let off = difference(&logits(model.as_ref(), &parameters, &input), &before);
                assert!(off < tolerance, "{what}: off by {off:.1e}");
                let beside = Description::beside(out.path()).unwrap().unwrap();
                assert_eq!(beside.label_names, about.label_names, "{what}");
                // transformers has whole sides for a share.
                let resized = |p: &Preprocessing| (p.size().0 as f64 / p.crop_pct) as usize;
                let (found, expected) = (beside.pretrained_cfg, about.pretrained_cfg.clone());
                assert_eq!(resized(&found), resized(&expected), "{what}");
                let crop_pct = expected.crop_pct;
                assert_eq!(Preprocessing { crop_pct, ..found }, expected, "{what}");
            }
        }
    }
}
