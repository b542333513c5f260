//! The recipes' presets are the models of the same names in `vitrine-models`.

use vitrine_models::VitConfig;
use vitrine_train::build::vit_config;
use vitrine_train::recipe::{Overrides, Recipe, preset_names};

#[test]
fn both_tables_have_the_same_names() {
    assert_eq!(VitConfig::preset_names(), preset_names());
}

#[test]
fn a_recipes_preset_is_the_model_of_that_name() {
    for name in preset_names() {
        let mut overrides = Overrides::new();
        overrides.set(&format!("model.preset={name}")).unwrap();
        let found = vit_config(&Recipe::load("d2l", &overrides).unwrap());
        let expected = VitConfig::preset(name).unwrap();
        // A recipe's preset leaves channels and classes to the data: Fashion-MNIST's here.
        assert_eq!((found.channels, found.classes), (1, 10));
        let (channels, classes) = (expected.channels, expected.classes);
        assert_eq!(VitConfig { channels, classes, ..found }, expected, "{name}");
    }
}

#[test]
fn a_built_in_recipe_is_the_preset_of_its_name() {
    for name in ["d2l", "d2l-jax"] {
        let recipe = Recipe::load(name, &Overrides::new()).unwrap();
        assert_eq!(vit_config(&recipe), VitConfig::preset(name).unwrap());
    }
}
