//! What is compared: the works, the programs that do them, and the targets.

use clap::ValueEnum;

/// Threads of every program that is no exception.
pub const THREADS: u32 = 2;

/// One thing to do, the same in every framework.
#[derive(Debug, PartialEq)]
pub struct Workload {
    pub task: WorkloadKind,
    pub model: Model,
    pub batch_size: u32,
    pub precision: &'static str,
    /// Timed steps of one process, and those before them that are not timed.
    pub steps: u32,
    pub warmup: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WorkloadKind {
    TrainStep,
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Model {
    /// The textbook recipe's.
    D2l,
    /// ViT-S/16 at 224x224 with 3 channels and 1000 classes, without dropout.
    VitS16,
}

const fn work(
    task: WorkloadKind,
    model: Model,
    batch_size: u32,
    precision: &'static str,
) -> Workload {
    Workload { task, model, batch_size, precision, steps: 6, warmup: 2 }
}

/// All works, in the order of the page.
pub static WORKS: [Workload; 7] = [
    work(WorkloadKind::TrainStep, Model::D2l, 128, "f32"),
    work(WorkloadKind::TrainStep, Model::D2l, 128, "bf16"),
    work(WorkloadKind::Forward, Model::D2l, 128, "f32"),
    work(WorkloadKind::Forward, Model::D2l, 128, "bf16"),
    Workload { steps: 300, warmup: 50, ..work(WorkloadKind::Forward, Model::D2l, 1, "f32") },
    work(WorkloadKind::TrainStep, Model::VitS16, 8, "f32"),
    work(WorkloadKind::TrainStep, Model::VitS16, 8, "bf16"),
];

impl Workload {
    /// What is done, as the heading of a table.
    pub fn title(&self) -> String {
        let task = match self.task {
            WorkloadKind::TrainStep => "Train step",
            WorkloadKind::Forward => "Forward",
        };
        let model = match self.model {
            Model::D2l => "d2l",
            Model::VitS16 => "ViT-S/16 at 224×224",
        };
        format!("{task}, {model}, batch {}, {}", self.batch_size, self.precision)
    }

    /// Whether it is measured without the last-block saving and with one thread as well.
    fn has_variants(&self) -> bool {
        self.task == WorkloadKind::TrainStep && self.model == Model::D2l
    }
}

impl WorkloadKind {
    /// The name that the programs print.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainStep => "train-step",
            Self::Forward => "forward",
        }
    }
}

/// A program with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Contender {
    #[value(skip)]
    Vitrine,
    #[value(skip)]
    VitrineWithoutSaving,
    #[value(skip)]
    VitrineOneThread,
    Torch,
    TorchCompile,
    Jax,
    Onnxruntime,
    Candle,
    Burn,
}

/// The programs of Vitrine, in the order of the tables.
pub const OURS: [Contender; 3] =
    [Contender::Vitrine, Contender::VitrineWithoutSaving, Contender::VitrineOneThread];

impl Contender {
    /// Whose figures these are, as the tables say it.
    pub fn title(self, work: &Workload) -> &'static str {
        match self {
            Self::Vitrine => "Vitrine",
            Self::VitrineWithoutSaving => "Vitrine, last-block saving off",
            Self::VitrineOneThread => "Vitrine, 1 thread",
            Self::Torch if work.precision == "bf16" => "PyTorch, autocast",
            Self::Torch => "PyTorch",
            Self::TorchCompile => "PyTorch, torch.compile",
            Self::Jax => "JAX, jit",
            Self::Onnxruntime => "ONNX Runtime",
            Self::Candle => "candle",
            Self::Burn => "burn, flex backend",
        }
    }

    pub fn is_ours(self) -> bool {
        OURS.contains(&self)
    }

    pub fn threads(self) -> u32 {
        if self == Self::VitrineOneThread { 1 } else { THREADS }
    }
}

/// The programs that do `work`, Vitrine's spread among the peers: a slow minute of the machine then hits both.
pub fn in_turn(work: &Workload, peers: &[Contender]) -> Vec<Contender> {
    let ours = if work.has_variants() { &OURS[..] } else { &OURS[..1] };
    let mut ours = ours.iter().copied();
    let mut peers = peers.iter().copied();
    let mut turns = Vec::new();
    loop {
        let (next, peer) = (ours.next(), peers.next());
        if next.is_none() && peer.is_none() {
            return turns;
        }
        turns.extend(next.into_iter().chain(peer));
    }
}

/// What is compared with a target, against Vitrine on the same work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// How many times as long the program's shortest step is; at least so much.
    Time,
    /// The same, against Vitrine with the last-block saving off.
    TimeWithoutSaving,
    /// Vitrine's peak of memory as a share of the program's; at most so much.
    Memory,
}

/// A figure to reach.
pub struct Target {
    task: WorkloadKind,
    model: Model,
    batch_size: u32,
    /// `None`: in both.
    precision: Option<&'static str>,
    program: Contender,
    pub measure: Measure,
    pub value: f64,
}

const fn target(
    (task, model, batch_size): (WorkloadKind, Model, u32),
    precision: Option<&'static str>,
    program: Contender,
    measure: Measure,
    value: f64,
) -> Target {
    Target { task, model, batch_size, precision, program, measure, value }
}

const TRAIN: (WorkloadKind, Model, u32) = (WorkloadKind::TrainStep, Model::D2l, 128);
const FORWARD: (WorkloadKind, Model, u32) = (WorkloadKind::Forward, Model::D2l, 128);
const LATENCY: (WorkloadKind, Model, u32) = (WorkloadKind::Forward, Model::D2l, 1);
const SMALL: (WorkloadKind, Model, u32) = (WorkloadKind::TrainStep, Model::VitS16, 8);

static TARGETS: [Target; 13] = [
    target(TRAIN, Some("f32"), Contender::Torch, Measure::Time, 4.5),
    target(TRAIN, Some("f32"), Contender::Torch, Measure::TimeWithoutSaving, 2.8),
    target(TRAIN, Some("bf16"), Contender::Torch, Measure::Time, 3.0),
    target(TRAIN, Some("bf16"), Contender::Torch, Measure::TimeWithoutSaving, 1.9),
    target(TRAIN, None, Contender::Torch, Measure::Memory, 1.0 / 3.0),
    target(TRAIN, None, Contender::VitrineOneThread, Measure::Time, 1.85),
    target(TRAIN, Some("f32"), Contender::Candle, Measure::Time, 3.0),
    target(FORWARD, Some("f32"), Contender::Torch, Measure::Time, 3.5),
    target(FORWARD, Some("f32"), Contender::Onnxruntime, Measure::Time, 1.8),
    target(FORWARD, Some("bf16"), Contender::Torch, Measure::Time, 2.0),
    target(LATENCY, Some("f32"), Contender::Onnxruntime, Measure::Time, 1.3),
    target(SMALL, Some("f32"), Contender::Torch, Measure::Time, 2.0),
    target(SMALL, Some("bf16"), Contender::Torch, Measure::Time, 1.3),
];

/// The targets that `program` sets for `work`.
pub fn targets(work: &Workload, program: Contender) -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().filter(move |target| {
        (target.task, target.model, target.batch_size) == (work.task, work.model, work.batch_size)
            && target.precision.is_none_or(|precision| precision == work.precision)
            && target.program == program
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_spread_among_the_peers_and_all_have_one_turn() {
        use Contender::*;
        let turns = in_turn(&WORKS[0], &[Torch, Jax, Candle, Burn]);
        let expected = [Vitrine, Torch, VitrineWithoutSaving, Jax, VitrineOneThread, Candle, Burn];
        assert_eq!(turns, expected);
        assert_eq!(in_turn(&WORKS[2], &[Torch]), [Vitrine, Torch]);
        assert_eq!(in_turn(&WORKS[0], &[]), OURS);
    }

    #[test]
    fn every_target_belongs_to_a_work_that_is_measured() {
        let peers = <Contender as ValueEnum>::value_variants();
        let mut met = 0;
        for work in &WORKS {
            met += in_turn(work, peers).iter().flat_map(|&it| targets(work, it)).count();
        }
        let in_both = TARGETS.iter().filter(|target| target.precision.is_none()).count();
        assert_eq!(met, TARGETS.len() + in_both);
    }

    #[test]
    fn works_are_told_apart_by_their_titles() {
        let mut titles: Vec<String> = WORKS.iter().map(Workload::title).collect();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), WORKS.len());
        assert_eq!(WORKS[0].title(), "Train step, d2l, batch 128, f32");
    }
}
