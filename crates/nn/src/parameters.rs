//! [`Parameters`]: all values of a model in one flat buffer and all gradients in another, with a named view for each;
//! beside them the buffers that no optimizer touches.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use vitrine_tensor::{DType, Device, Element, ParameterGroup, StreamKey, Tensor, bf16};

use crate::error::{Error, Result};
use crate::init::Init;

/// A parameter of one model: its place in declaration order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterId {
    model: u64,
    index: usize,
}

impl ParameterId {
    pub(crate) fn index(self) -> usize {
        self.index
    }
}

/// A buffer of one model, such as batch norm's running mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(ParameterId);

/// What is known of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterInfo {
    /// The dotted name, such as `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// The extents.
    pub shape: Vec<usize>,
    /// Where its values are in the flat buffers, and what the optimizer does with them. At first weight decay applies
    /// to weight matrices, not to biases, norms, tokens and positions, as in timm.
    pub group: ParameterGroup,
}

/// What is known of a buffer.
#[derive(Clone, Debug, PartialEq)]
struct BufferInfo {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
    first: f64,
}

/// How a parameter's first values are drawn.
struct Draw {
    init: Init,
    fan_in: usize,
}

/// Collects the parameters and buffers of a model in declaration order, and draws their first values.
pub struct ParameterBuilder {
    /// Tells the ids of one model from those of another.
    model: u64,
    seed: u64,
    infos: Vec<ParameterInfo>,
    draws: Vec<Draw>,
    buffers: Vec<BufferInfo>,
    streams: u32,
}

impl ParameterBuilder {
    /// A builder whose initialisers draw from `seed`.
    pub fn new(seed: u64) -> Self {
        static MODELS: AtomicU64 = AtomicU64::new(0);
        Self {
            model: MODELS.fetch_add(1, Ordering::Relaxed),
            seed,
            infos: Vec::new(),
            draws: Vec::new(),
            buffers: Vec::new(),
            streams: 0,
        }
    }

    /// Where a layer of this name declares its parameters.
    pub fn scope(&mut self, name: &str) -> Scope<'_> {
        Scope { builder: self, prefix: name.to_owned() }
    }

    /// Names and shapes of what was declared, parameters first, then buffers.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let parameters = self.infos.iter().map(|info| (info.name.as_str(), info.shape.as_slice()));
        parameters
            .chain(self.buffers.iter().map(|info| (info.name.as_str(), info.shape.as_slice())))
    }

    /// Allocates the buffers and draws the values. An error if two parameters have one name.
    pub fn build(mut self, dtype: DType, device: &Device) -> Result<Parameters> {
        let (seed, draws) = (self.seed, std::mem::take(&mut self.draws));
        let parameters = self.allocate(dtype, device)?;
        for (index, (info, draw)) in parameters.infos.iter().zip(draws).enumerate() {
            // Streams of parameters are apart from those of dropout by their highest bit.
            let key = StreamKey { seed, step: 0, stream: 1 << 31 | index as u32 };
            let mut values = draw.init.draw(&info.shape, draw.fan_in, key)?;
            // By runs: a whole parameter in `f64` would be the largest thing in memory.
            for start in info.group.range.clone().step_by(RUN) {
                let run: Vec<f64> =
                    values.by_ref().take(RUN.min(info.group.range.end - start)).collect();
                store(&parameters.values.narrow(0, start, run.len())?, &run)?;
            }
        }
        Ok(parameters)
    }

    /// Allocates the buffers and draws nothing, all values being 0: for those that are read from a file.
    pub fn allocate(self, dtype: DType, device: &Device) -> Result<Parameters> {
        let parameters = self.infos.iter().map(|info| &info.name);
        let mut names: Vec<&String> =
            parameters.chain(self.buffers.iter().map(|b| &b.name)).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::DuplicateParameter { name: pair[0].clone() });
        }
        let zeros = |count| Tensor::zeros(&[count], dtype, device);
        let buffers = zeros(self.buffers.last().map_or(0, |last| last.range.end))?;
        for info in &self.buffers {
            buffers.narrow(0, info.range.start, info.range.len())?.fill_(info.first)?;
        }
        Ok(Parameters {
            model: self.model,
            values: zeros(self.infos.last().map_or(0, |last| last.group.range.end))?,
            grads: Arc::default(),
            buffers,
            infos: self.infos,
            buffer_infos: self.buffers,
            compute_dtype: dtype,
            rounded: Arc::default(),
            seed: self.seed,
        })
    }
}

/// Values that are drawn at a time.
const RUN: usize = 16 * 1024;

/// Copies values over a tensor's own, rounded to its type.
fn store(to: &Tensor, values: &[f64]) -> Result<()> {
    fn rounded<T: Element>(values: &[f64]) -> Vec<T> {
        values.iter().map(|&value| T::from_f64(value)).collect()
    }
    match to.dtype() {
        DType::F32 => to.copy_from_slice_(&rounded::<f32>(values))?,
        DType::BF16 => to.copy_from_slice_(&rounded::<bf16>(values))?,
        _ => to.copy_from_slice_(values)?,
    }
    Ok(())
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
        decay: bool,
    ) -> ParameterId {
        let name = self.name(name);
        let ParameterBuilder { model, infos, draws, .. } = &mut *self.builder;
        let start = infos.last().map_or(0, |last| last.group.range.end);
        let range = start..start + shape.iter().product::<usize>();
        let group = ParameterGroup { decay, ..ParameterGroup::plain(range) };
        infos.push(ParameterInfo { name, shape: shape.to_vec(), group });
        draws.push(Draw { init: init.clone(), fan_in });
        ParameterId { model: *model, index: infos.len() - 1 }
    }

    /// Declares a buffer: values that no optimizer touches and every checkpoint has, such as running statistics. They
    /// are `first` at first.
    pub fn buffer(&mut self, name: &str, shape: &[usize], first: f64) -> BufferId {
        let name = self.name(name);
        let ParameterBuilder { model, buffers, .. } = &mut *self.builder;
        let start = buffers.last().map_or(0, |last| last.range.end);
        let range = start..start + shape.iter().product::<usize>();
        buffers.push(BufferInfo { name, shape: shape.to_vec(), range, first });
        BufferId(ParameterId { model: *model, index: buffers.len() - 1 })
    }

    /// The next stream for a dropout layer's masks.
    pub fn dropout_stream(&mut self) -> u32 {
        self.builder.streams += 1;
        self.builder.streams - 1
    }
}

/// The parameters of a model, their gradients, and its buffers. A clone is a handle to the same memory.
#[derive(Clone)]
pub struct Parameters {
    model: u64,
    infos: Vec<ParameterInfo>,
    values: Tensor,
    grads: Arc<OnceLock<Tensor>>,
    buffer_infos: Vec<BufferInfo>,
    buffers: Tensor,
    compute_dtype: DType,
    rounded: Arc<Mutex<Option<Rounded>>>,
    seed: u64,
}

/// The values in the type that is computed in, for as long as nobody writes to them.
struct Rounded {
    values: Tensor,
    /// The writes to the values before.
    writes: u64,
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

    /// The same model with values and buffers of its own, all 0, and no gradients yet.
    pub(crate) fn zeros_like(&self) -> Result<Self> {
        let zeros = |of: &Tensor| Tensor::zeros(of.shape(), of.dtype(), of.device());
        let (values, buffers) = (zeros(&self.values)?, zeros(&self.buffers)?);
        Ok(Self { buffers, ..self.with_values(values) })
    }

    /// The same model with other values, and no gradients yet. Its buffers are the same.
    pub(crate) fn with_values(&self, values: Tensor) -> Self {
        Self { values, grads: Arc::default(), rounded: Arc::default(), ..self.clone() }
    }

    /// All buffers, flat, in declaration order.
    pub(crate) fn buffers(&self) -> &Tensor {
        &self.buffers
    }

    /// The type that forward and backward are computed in.
    pub fn compute_dtype(&self) -> DType {
        self.compute_dtype
    }

    /// All values, flat, in declaration order.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// All values in the type that forward and backward are computed in. Copies are kept until the values change: a
    /// model that only classifies rounds them once.
    pub(crate) fn computed_values(&self) -> Result<Tensor> {
        if self.compute_dtype == self.values.dtype() {
            return Ok(self.values.clone());
        }
        let (dtype, writes) = (self.compute_dtype, self.values.writes());
        let mut kept = self.rounded.lock().unwrap_or_else(PoisonError::into_inner);
        let current = |kept: &&Rounded| kept.writes == writes && kept.values.dtype() == dtype;
        if let Some(kept) = kept.as_ref().filter(current) {
            return Ok(kept.values.clone());
        }
        // First, so that the new copies can take its memory.
        *kept = None;
        let values = self.values.to_dtype(dtype)?;
        *kept = Some(Rounded { values: values.clone(), writes });
        Ok(values)
    }

    /// All gradients, flat, in declaration order. They take memory from the first use on: inference has none.
    pub fn grads(&self) -> Result<&Tensor> {
        if self.grads.get().is_none() {
            let zeros = Tensor::zeros(&[self.count()], self.values.dtype(), self.values.device())?;
            // Where two threads come here at once, both use the first one's.
            let _ = self.grads.set(zeros);
        }
        Ok(self.grads.get().expect("just set"))
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
        let found = self.names().position(|n| n == name);
        found.map(|index| self.id(index)).ok_or_else(|| {
            let nearest = self.names().max_by(|a, b| {
                strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name))
            });
            let nearest = nearest.unwrap_or_default().to_owned();
            Error::UnknownParameter { name: name.to_owned(), nearest }
        })
    }

    fn id(&self, index: usize) -> ParameterId {
        ParameterId { model: self.model, index }
    }

    /// A parameter's values: a view of the flat buffer.
    pub fn value(&self, id: ParameterId) -> Result<Tensor> {
        self.view(&self.values, id)
    }

    /// A parameter's gradient: a view of the flat buffer.
    pub fn grad(&self, id: ParameterId) -> Result<Tensor> {
        self.view(self.grads()?, id)
    }

    /// A buffer's values.
    pub fn buffer(&self, BufferId(id): BufferId) -> Result<Tensor> {
        self.check(id)?;
        let info = &self.buffer_infos[id.index];
        Ok(self.buffers.narrow(0, info.range.start, info.range.len())?.reshape(&info.shape)?)
    }

    /// Names and values in declaration order, parameters first, then buffers: what a file of weights holds.
    pub fn named_values(&self) -> impl Iterator<Item = (&str, Result<Tensor>)> {
        let buffers = self
            .buffer_infos
            .iter()
            .enumerate()
            .map(|(i, info)| (info.name.as_str(), self.buffer(BufferId(self.id(i)))));
        self.names().enumerate().map(|(i, name)| (name, self.value(self.id(i)))).chain(buffers)
    }

    /// What is known of a parameter; an error if it is another model's.
    pub(crate) fn info(&self, id: ParameterId) -> Result<&ParameterInfo> {
        self.check(id)?;
        Ok(&self.infos[id.index])
    }

    fn check(&self, id: ParameterId) -> Result<()> {
        match id.model == self.model {
            true => Ok(()),
            false => Err(Error::ForeignParameter { index: id.index }),
        }
    }

    /// A parameter's part of a tensor that is laid out as [`Parameters::values`].
    pub(crate) fn view(&self, flat: &Tensor, id: ParameterId) -> Result<Tensor> {
        let ParameterInfo { shape, group, .. } = self.info(id)?;
        Ok(flat.narrow(0, group.range.start, group.range.len())?.reshape(shape)?)
    }

    /// Sets all gradients to 0.
    pub fn zero_grads(&self) -> Result<()> {
        Ok(self.grads()?.fill_(0.0)?)
    }

    /// The sum of squares of all gradients, a scalar tensor.
    pub fn grad_sum_squares(&self) -> Result<Tensor> {
        Ok(self.grads()?.sum_squares()?)
    }

    /// Changes what the optimizer does with parameters: `change` gets each one's name and group, whose range stays.
    /// A frozen parameter gets no gradient.
    pub fn regroup(&mut self, change: impl Fn(&str, &mut ParameterGroup)) {
        for info in &mut self.infos {
            let range = info.group.range.clone();
            change(&info.name, &mut info.group);
            info.group.range = range;
        }
    }

    /// What the optimizer does with each parameter, in ascending order.
    pub fn groups(&self) -> Vec<ParameterGroup> {
        self.infos.iter().map(|info| info.group.clone()).collect()
    }
}
