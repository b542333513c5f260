//! The settings of the emulated device, and how the environment gives them.

use vitrine_ptx_emulator::Checks;

use crate::choice::DriverError;

const CHECKS: &str = "VITRINE_CUDA_EMULATED_CHECKS";
const STREAMS: &str = "VITRINE_CUDA_EMULATED_STREAMS";
const MEMORY: &str = "VITRINE_CUDA_EMULATED_MEMORY";

/// When the work in streams is done. All of these are schedules that a GPU may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// At the call that hands it over.
    Synchronous,
    /// As late as possible: when a call waits for it. Work that should have been waited for has
    /// not been done then, and memory that it reads has changed.
    Deferred,
    /// At times drawn with this seed, in an order that the streams and events allow.
    Shuffled(u64),
}

pub(super) struct Settings {
    pub checks: Checks,
    pub streams: StreamMode,
    /// Bytes of device memory; a change holds for contexts that are made after it.
    pub memory: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { checks: Checks::default(), streams: StreamMode::Synchronous, memory: 2 << 30 }
    }
}

impl Settings {
    /// The defaults, with what the environment sets.
    pub fn from_environment() -> Result<Self, DriverError> {
        let mut settings = Self::default();
        let expected = "a list, with commas, of none, all, uninitialised, shared-races, \
                        global-races, approximate=SEED, schedule=SEED";
        read(CHECKS, expected, parse_checks, &mut settings.checks)?;
        let expected = "synchronous, deferred, or shuffled=SEED";
        read(STREAMS, expected, parse_streams, &mut settings.streams)?;
        let parse_bytes = |text: &str| text.parse().ok().filter(|bytes| *bytes > 0);
        read(MEMORY, "a number of bytes", parse_bytes, &mut settings.memory)?;
        Ok(settings)
    }
}

fn read<T>(
    variable: &'static str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
    setting: &mut T,
) -> Result<(), DriverError> {
    let Some(value) = std::env::var_os(variable) else { return Ok(()) };
    let value = value.to_string_lossy().into_owned();
    *setting = parse(&value).ok_or(DriverError::Setting { variable, value, expected })?;
    Ok(())
}

fn parse_checks(text: &str) -> Option<Checks> {
    let mut checks = Checks::none();
    for word in text.split(',').map(str::trim) {
        match word.split_once('=') {
            None => match word {
                "none" => {}
                "all" => {
                    checks.uninitialised = true;
                    checks.shared_races = true;
                    checks.global_races = true;
                }
                "uninitialised" => checks.uninitialised = true,
                "shared-races" => checks.shared_races = true,
                "global-races" => checks.global_races = true,
                _ => return None,
            },
            Some(("approximate", seed)) => checks.approximate = Some(seed.parse().ok()?),
            Some(("schedule", seed)) => checks.schedule = Some(seed.parse().ok()?),
            Some(_) => return None,
        }
    }
    Some(checks)
}

fn parse_streams(text: &str) -> Option<StreamMode> {
    match text.split_once('=') {
        None if text == "synchronous" => Some(StreamMode::Synchronous),
        None if text == "deferred" => Some(StreamMode::Deferred),
        Some(("shuffled", seed)) => Some(StreamMode::Shuffled(seed.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read() {
        let none = parse_checks("none").expect("a list");
        assert!(!none.uninitialised && !none.shared_races && !none.global_races);
        assert_eq!((none.approximate, none.schedule), (None, None));
        let some = parse_checks("shared-races, approximate=7,schedule=9").expect("a list");
        assert!(!some.uninitialised && some.shared_races && !some.global_races);
        assert_eq!((some.approximate, some.schedule), (Some(7), Some(9)));
        let all = parse_checks("all").expect("a list");
        assert!(all.uninitialised && all.shared_races && all.global_races);
        for wrong in ["", "all,everything", "approximate", "schedule=often", "races=1"] {
            assert!(parse_checks(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn streams_are_read() {
        assert_eq!(parse_streams("synchronous"), Some(StreamMode::Synchronous));
        assert_eq!(parse_streams("deferred"), Some(StreamMode::Deferred));
        assert_eq!(parse_streams("shuffled=12"), Some(StreamMode::Shuffled(12)));
        for wrong in ["", "lazy", "shuffled", "shuffled=x", "deferred=1"] {
            assert_eq!(parse_streams(wrong), None, "{wrong}");
        }
    }
}
