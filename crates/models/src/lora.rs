//! A model as others know it: what LoRA added is merged into the weights, and biases that they all have are there.

use vitrine_nn::{ParameterBuilder, Parameters, Result};
use vitrine_tensor::{DType, Tensor};

use crate::config::VitConfig;
use crate::registry::ModelConfig;

impl ModelConfig {
    /// The same function of pictures without LoRA, and with a bias of the attention's projection, all zeros where there
    /// was none; if `qkv_bias`, with those of queries, keys and values as well.
    pub fn plain(&self, parameters: &Parameters, qkv_bias: bool) -> Result<(Self, Parameters)> {
        let Self::Vit(config) = self else {
            return Ok((self.clone(), parameters.clone()));
        };
        let plain = VitConfig {
            lora_rank: 0,
            projection_bias: true,
            qkv_bias: config.qkv_bias || qkv_bias,
            ..config.clone()
        };
        let mut builder = ParameterBuilder::new(0);
        let plain = Self::Vit(plain);
        plain.build(&mut builder)?;
        let merged = builder.allocate(DType::F32, parameters.values().device())?;
        let value = |name: &str| parameters.value(parameters.find(name)?);
        for (name, target) in merged.named_values() {
            if let Ok(value) = value(name) {
                target?.copy_(&value)?;
            }
        }
        if config.lora_rank > 0 {
            let (rank, width) = (config.lora_rank, config.width);
            for block in 0..config.depth {
                let of = |name: &str| value(&format!("blocks.{block}.attn.lora.{name}.weight"));
                let a = of("a")?;
                let weight =
                    merged.value(merged.find(&format!("blocks.{block}.attn.qkv.weight"))?)?;
                for (i, part, b) in [(0, 0, "q"), (1, 2, "v")] {
                    let added: Tensor = of(b)?.matmul(&a.narrow(0, i * rank, rank)?)?;
                    let rows = weight.narrow(0, part * width, width)?;
                    rows.add_scaled_(&added, config.lora_alpha / rank as f64)?;
                }
            }
        }
        Ok((plain, merged))
    }
}
