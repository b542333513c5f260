//! [`Parameters`]: all values of a model in one flat buffer and all gradients in another, with a named view for each.

use std::ops::Range;

use vitrine_tensor::{DType, Device, ParameterGroup, StreamKey, Tensor};

use crate::error::{Error, Result};
use crate::init::Init;

/// The number of a parameter: its place in declaration order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterId(usize);

impl ParameterId {
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// What is known of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterInfo {
    /// The dotted name, such as `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// The extents.
    pub shape: Vec<usize>,
    /// Whether weight decay applies: to weight matrices, not to biases, norms, tokens and positions, as in timm.
    pub decays: bool,
    range: Range<usize>,
}

struct Declared {
    info: ParameterInfo,
    init: Init,
    fan_in: usize,
}

/// Collects the parameters of a model in declaration order, and draws their first values.
pub struct ParameterBuilder {
    seed: u64,
    declared: Vec<Declared>,
    streams: u32,
}

impl ParameterBuilder {
    /// A builder whose initialisers draw from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, declared: Vec::new(), streams: 0 }
    }

    /// Where a layer of this name declares its parameters.
    pub fn scope(&mut self, name: &str) -> Scope<'_> {
        Scope { builder: self, prefix: name.to_owned() }
    }

    /// Allocates the buffers and draws the values. An error if two parameters have one name.
    pub fn build(self, dtype: DType, device: &Device) -> Result<Parameters> {
        let mut values = Vec::new();
        for (index, declared) in self.declared.iter().enumerate() {
            let info = &declared.info;
            if self.declared[..index].iter().any(|other| other.info.name == info.name) {
                return Err(Error::DuplicateParameter { name: info.name.clone() });
            }
            // Streams of parameters are apart from those of dropout by their highest bit.
            let key = StreamKey { seed: self.seed, step: 0, stream: 1 << 31 | index as u32 };
            values.extend(declared.init.draw(&info.shape, declared.fan_in, key)?);
        }
        let count = values.len();
        let flat = Tensor::from_slice(&values, &[count], device)?.to_dtype(dtype)?;
        let grads = Tensor::zeros(&[count], dtype, device)?;
        let infos = self.declared.into_iter().map(|declared| declared.info).collect();
        Ok(Parameters { infos, values: flat, grads, compute_dtype: dtype, seed: self.seed })
    }
}

/// The part of a [`ParameterBuilder`] that belongs to one layer: names get its prefix.
pub struct Scope<'a> {
    builder: &'a mut ParameterBuilder,
    prefix: String,
}

impl Scope<'_> {
    /// A part within this part.
    pub fn scope(&mut self, name: &str) -> Scope<'_> {
        Scope { prefix: self.name(name), builder: self.builder }
    }

    fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Declares a weight matrix `[out, in]`, which decays.
    pub fn weight(&mut self, name: &str, shape: &[usize], init: &Init) -> ParameterId {
        let fan_in = shape.iter().skip(1).product();
        self.declare(name, shape, init, fan_in, true)
    }

    /// Declares a bias, a norm's scale or shift, a token or positions, which do not decay.
    pub fn vector(
        &mut self,
        name: &str,
        shape: &[usize],
        init: &Init,
        fan_in: usize,
    ) -> ParameterId {
        self.declare(name, shape, init, fan_in, false)
    }

    fn declare(
        &mut self,
        name: &str,
        shape: &[usize],
        init: &Init,
        fan_in: usize,
        decays: bool,
    ) -> ParameterId {
        let declared = &mut self.builder.declared;
        let start = declared.last().map_or(0, |last| last.info.range.end);
        let range = start..start + shape.iter().product::<usize>();
        let (name, shape) = (self.name(name), shape.to_vec());
        let declared = &mut self.builder.declared;
        let info = ParameterInfo { name, shape, decays, range };
        declared.push(Declared { info, init: init.clone(), fan_in });
        ParameterId(declared.len() - 1)
    }

    /// The next stream for a dropout layer's masks.
    pub fn dropout_stream(&mut self) -> u32 {
        self.builder.streams += 1;
        self.builder.streams - 1
    }
}

/// The parameters of a model and their gradients.
#[derive(Clone)]
pub struct Parameters {
    infos: Vec<ParameterInfo>,
    values: Tensor,
    grads: Tensor,
    compute_dtype: DType,
    seed: u64,
}

impl Parameters {
    /// The same parameters, for models that compute in `dtype`: with `bf16` for values of `f32`, a [`crate::Pass`]
    /// works with rounded copies, and gradients, moments and updates stay in `f32` (Micikevicius et al. 2018, "Mixed
    /// precision training", section 3.1).
    pub fn computing_in(self, dtype: DType) -> Result<Self> {
        if dtype.accumulator() != self.values.dtype() && dtype != self.values.dtype() {
            return Err(Error::Config {
                layer: "parameters",
                what: "number type of forward and backward",
                value: dtype.to_string(),
                rule: "it must be that of the values, or bf16 for values of f32",
            });
        }
        Ok(Self { compute_dtype: dtype, ..self })
    }

    /// The type that forward and backward are computed in.
    pub fn compute_dtype(&self) -> DType {
        self.compute_dtype
    }

    /// All values, flat, in declaration order.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// All gradients, flat, in declaration order.
    pub fn grads(&self) -> &Tensor {
        &self.grads
    }

    /// The number of values.
    pub fn count(&self) -> usize {
        self.values.elements()
    }

    /// The seed that the values were drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What is known of each parameter, in declaration order.
    pub fn infos(&self) -> &[ParameterInfo] {
        &self.infos
    }

    /// The names in declaration order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.infos.iter().map(|info| info.name.as_str())
    }

    /// The id of a name.
    pub fn find(&self, name: &str) -> Result<ParameterId> {
        self.names().position(|n| n == name).map(ParameterId).ok_or_else(|| {
            let nearest = self.names().max_by(|a, b| {
                strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name))
            });
            let nearest = nearest.unwrap_or_default().to_owned();
            Error::UnknownParameter { name: name.to_owned(), nearest }
        })
    }

    /// A parameter's values: a view of the flat buffer.
    pub fn value(&self, id: ParameterId) -> Result<Tensor> {
        self.view(&self.values, id)
    }

    /// A parameter's gradient: a view of the flat buffer.
    pub fn grad(&self, id: ParameterId) -> Result<Tensor> {
        self.view(&self.grads, id)
    }

    /// Names and values, in declaration order.
    pub fn named_values(&self) -> impl Iterator<Item = (&str, Result<Tensor>)> {
        self.infos
            .iter()
            .enumerate()
            .map(|(i, info)| (info.name.as_str(), self.value(ParameterId(i))))
    }

    /// A parameter's part of a tensor that is laid out as [`Parameters::values`].
    pub(crate) fn view(&self, flat: &Tensor, id: ParameterId) -> Result<Tensor> {
        let info = self.infos.get(id.0).ok_or(Error::ForeignParameter { index: id.0 })?;
        Ok(flat.narrow(0, info.range.start, info.range.len())?.reshape(&info.shape)?)
    }

    /// Sets all gradients to 0.
    pub fn zero_grads(&self) -> Result<()> {
        Ok(self.grads.fill_(0.0)?)
    }

    /// The sum of squares of all gradients, a scalar tensor.
    pub fn grad_sum_squares(&self) -> Result<Tensor> {
        Ok(self.grads.sum_squares()?)
    }

    /// The parts of the flat buffers that weight decay leaves out, for the optimizers.
    pub(crate) fn groups(&self) -> Vec<ParameterGroup> {
        let undecayed = self.infos.iter().filter(|info| !info.decays);
        let group = |info: &ParameterInfo| ParameterGroup {
            decay: false,
            ..ParameterGroup::plain(info.range.clone())
        };
        undecayed.map(group).collect()
    }
}
