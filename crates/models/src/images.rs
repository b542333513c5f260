//! What the configurations of all families say of images.

use vitrine_nn::InputSpec;
use vitrine_nn::settings::SettingError;

/// Whether mean and standard deviation are one number, or one for each channel.
pub fn check(channels: usize, mean: &[f64], std: &[f64]) -> Result<(), SettingError> {
    for (key, numbers) in [("model.mean", mean), ("model.std", std)] {
        if numbers.len() != 1 && numbers.len() != channels {
            let reason =
                format!("it must be one number, or one for each of `model.channels = {channels}`");
            return Err(SettingError::conflict(key, format!("{numbers:?}"), reason));
        }
    }
    Ok(())
}

/// What a model takes: one number of mean or standard deviation stands for all channels.
pub fn spec(
    size: (usize, usize),
    channels: usize,
    mean: &[f64],
    std: &[f64],
    classes: usize,
) -> InputSpec {
    let each = |numbers: &[f64]| numbers.iter().copied().cycle().take(channels).collect();
    InputSpec { channels, size, mean: each(mean), std: each(std), classes }
}
