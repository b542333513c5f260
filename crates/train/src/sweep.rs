//! A sweep: a recipe over values of some of its keys. Which runs it has, and the table and the picture of what came of
//! them. The runs are started by the program.

use std::fmt::Write as _;
use std::path::Path;

use toml::{Table, Value};
use vitrine_nn::settings::{Key, Kind, SettingError};

use crate::atomic::write_atomic;
use crate::chart::{Across, Chart, Curve, picture};
use crate::error::Result;
use crate::metrics::{best_epoch, read_metrics};
use crate::progress::duration_text;
use crate::recipe::{RecipeError, check_value, find_key, read_value, unknown_key};
use crate::trainer::{METRICS, TEST, is_finished};

/// The key over whose values figures are averaged.
const SEED: &str = "run.seed";
/// What a section `[sweep]` is called in errors.
const ORIGIN: &str = "the section [sweep]";
/// More runs are a slip of the finger.
const MOST_RUNS: usize = 10_000;

/// A recipe over all combinations of some keys' values.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    axes: Vec<Axis>,
}

#[derive(Clone, Debug)]
struct Axis {
    key: &'static Key,
    values: Vec<Value>,
}

/// One of the runs.
#[derive(Clone, Debug)]
pub struct Run {
    /// The name of its folder: the keys with their values.
    pub name: String,
    values: Vec<Value>,
}

/// What came of the runs that differ in their seed alone.
struct Row {
    values: Vec<Value>,
    runs: usize,
    done: Vec<Figures>,
}

struct Figures {
    val_accuracy: f64,
    val_loss: f64,
    test_accuracy: Option<f64>,
    seconds: f64,
}

impl Sweep {
    /// A recipe's section `[sweep]`: for each key a list of values, or a range, such as
    /// `{ from = 1e-4, to = 1e-2, steps = 3 }`, perhaps with `scale = "log"`.
    pub fn read(section: &Table) -> Result<Self, RecipeError> {
        let mut sweep = Self::default();
        for (name, values) in section {
            sweep.over(name, values.clone(), ORIGIN)?;
        }
        Ok(sweep)
    }

    /// Adds, or puts in place of what there is, a key with its values as they are typed: `key=[a, b]`, `key=a,b`, or
    /// `key={from=1, to=4, steps=4}`.
    pub fn set(&mut self, assignment: &str) -> Result<(), RecipeError> {
        let malformed = || RecipeError::Assignment { text: assignment.into() };
        let (name, text) = assignment.split_once('=').ok_or_else(malformed)?;
        let (name, text) = (name.trim(), text.trim());
        let whole = format!("values = {text}").parse::<Table>();
        let whole = whole.ok().and_then(|mut table| table.remove("values"));
        let values = match whole {
            Some(values @ (Value::Array(_) | Value::Table(_))) => values,
            _ => {
                let key = known(name, "--over")?;
                Value::Array(text.split(',').map(|text| read_value(key, text.trim())).collect())
            }
        };
        self.over(name, values, "--over")
    }

    /// Repeats each run with the seeds from 0 on.
    pub fn seeds(&mut self, count: usize) -> Result<(), RecipeError> {
        if count > MOST_RUNS {
            return Err(too_many(SEED, count));
        }
        let seeds = (0..count as i64).map(Value::Integer).collect();
        self.over(SEED, Value::Array(seeds), "--seeds")
    }

    fn over(&mut self, name: &str, values: Value, origin: &str) -> Result<(), RecipeError> {
        let key = known(name, origin)?;
        let refused = |values: &Value| {
            let allowed = "a list of values, or { from = …, to = …, steps = … }, perhaps with scale = \"log\"";
            SettingError::value(origin, key.name, values, allowed.to_owned())
        };
        let list = match &values {
            Value::Array(list) if !list.is_empty() => list.clone(),
            Value::Table(range) => range_of(key, range).ok_or_else(|| refused(&values))?,
            _ => return Err(refused(&values).into()),
        };
        let values = list.iter().map(|value| check_value(key, value, origin));
        let values = values.collect::<Result<Vec<Value>, _>>()?;
        match self.axes.iter_mut().find(|axis| axis.key.name == key.name) {
            Some(axis) => axis.values = values,
            None => self.axes.push(Axis { key, values }),
        }
        // Runs that differ in their seed alone lie side by side.
        self.axes.sort_by_key(|axis| axis.key.name == SEED);
        let runs = self.axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.values.len()));
        if runs.is_none_or(|runs| runs > MOST_RUNS) {
            return Err(too_many(key.name, list.len()));
        }
        let mut names: Vec<String> = self.runs().into_iter().map(|run| run.name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => {
                let reason = format!("two runs would have the folder {}", pair[0]);
                Err(SettingError::conflict(key.name, Value::Array(list), reason).into())
            }
        }
    }

    /// All runs; the last key's values change first.
    pub fn runs(&self) -> Vec<Run> {
        let mut all: Vec<Vec<Value>> = vec![Vec::new()];
        for axis in &self.axes {
            let longer = |values: &Vec<Value>| {
                let with =
                    |value: &Value| [values.as_slice(), std::slice::from_ref(value)].concat();
                axis.values.iter().map(with).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        let name = |values: &[Value]| {
            let parts = self.axes.iter().zip(values);
            let parts = parts.map(|(axis, value)| format!("{}={}", axis.key.leaf(), shown(value)));
            let kept =
                |c: char| if c.is_ascii_alphanumeric() || "=,.-_".contains(c) { c } else { '_' };
            parts.collect::<Vec<_>>().join(",").chars().map(kept).collect()
        };
        all.into_iter().map(|values| Run { name: name(&values), values }).collect()
    }

    /// A run's keys, and their values as TOML.
    pub fn assignments(&self, run: &Run) -> impl Iterator<Item = (&'static str, String)> {
        self.axes.iter().zip(&run.values).map(|(axis, value)| (axis.key.name, value.to_string()))
    }

    /// Writes `results.csv`, `results.md` and, where there is a curve to draw, `results.svg` from what the runs in a
    /// folder have come to. Gives the table of `results.md`.
    pub fn write_results(&self, folder: &Path) -> Result<String> {
        let rows = self.rows(folder);
        let table = self.markdown(&rows);
        write_atomic(&folder.join("results.csv"), self.csv(&rows).as_bytes())?;
        write_atomic(&folder.join("results.md"), table.as_bytes())?;
        if let Some(picture) = picture(&self.charts(&rows)) {
            write_atomic(&folder.join("results.svg"), picture.as_bytes())?;
        }
        Ok(table)
    }

    /// The axes that are no seeds.
    fn keys(&self) -> impl Iterator<Item = &Axis> {
        self.axes.iter().filter(|axis| axis.key.name != SEED)
    }

    fn rows(&self, folder: &Path) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for run in self.runs() {
            let values = run.values[..self.keys().count()].to_vec();
            if rows.last().is_none_or(|row| row.values != values) {
                rows.push(Row { values, runs: 0, done: Vec::new() });
            }
            let row = rows.last_mut().expect("just added");
            row.runs += 1;
            // One that is being written, or is damaged, is not done.
            row.done.extend(Figures::of(&folder.join(&run.name)).ok().flatten());
        }
        rows
    }

    fn csv(&self, rows: &[Row]) -> String {
        let mut text = String::new();
        for axis in self.keys() {
            let _ = write!(text, "{},", axis.key.name);
        }
        text +=
            "runs,val_accuracy,val_accuracy_std,val_loss,test_accuracy,test_accuracy_std,seconds\n";
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        for row in rows {
            for value in &row.values {
                let value = shown(value);
                let quoted = value.contains([',', '"']);
                text += &if quoted {
                    format!("\"{}\",", value.replace('"', "\"\""))
                } else {
                    value + ","
                };
            }
            let (accuracy, test) =
                (row.over(|f| Some(f.val_accuracy)), row.over(|f| f.test_accuracy));
            let cells = [
                accuracy.map(|a| a.0),
                accuracy.and_then(|a| a.1),
                row.over(|f| Some(f.val_loss)).map(|loss| loss.0),
                test.map(|a| a.0),
                test.and_then(|a| a.1),
                row.over(|f| Some(f.seconds)).map(|seconds| seconds.0),
            ];
            let _ = writeln!(text, "{},{}", row.done.len(), cells.map(number).join(","));
        }
        text
    }

    fn markdown(&self, rows: &[Row]) -> String {
        let judged = judged(rows);
        let test_head: &[&str] = if judged { &["test accuracy"] } else { &[] };
        let keys = self.keys().map(|axis| format!("`{}`", axis.key.name));
        let heads = ["runs", "validation accuracy", "validation loss"].iter().chain(test_head);
        let heads = keys.chain(heads.chain(&["time of a run"]).map(|head| (*head).to_owned()));
        let heads: Vec<String> = heads.collect();
        let mut text = format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
        for row in rows {
            let share = |figures: Option<(f64, Option<f64>)>| match figures {
                Some((mean, Some(spread))) => format!("{mean:.4} ± {spread:.4}"),
                Some((mean, None)) => format!("{mean:.4}"),
                None => "—".to_owned(),
            };
            let mut cells: Vec<String> = row.values.iter().map(shown).collect();
            cells.push(match row.done.len() {
                done if done == row.runs => done.to_string(),
                done => format!("{done} of {}", row.runs),
            });
            cells.push(share(row.over(|f| Some(f.val_accuracy))));
            cells.push(share(row.over(|f| Some(f.val_loss)).map(|loss| (loss.0, None))));
            if judged {
                cells.push(share(row.over(|f| f.test_accuracy)));
            }
            let seconds = row.over(|f| Some(f.seconds));
            cells.push(seconds.map_or("—".to_owned(), |seconds| duration_text(seconds.0)));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    /// Accuracy and time over the first key that has several values; a curve for each combination of the others.
    fn charts(&self, rows: &[Row]) -> [Chart; 2] {
        const CLASSES: [&str; 6] = ["val", "train", "rate", "fourth", "fifth", "sixth"];
        let across = self.keys().position(|axis| axis.values.len() > 1).unwrap_or(0);
        let (name, places) = self.keys().nth(across).map_or_else(Default::default, Axis::places);
        let rest = |row: &Row| {
            let named = self.keys().zip(&row.values).enumerate().filter(|(i, _)| *i != across);
            let named = named.filter(|(_, (axis, _))| axis.values.len() > 1);
            let texts =
                named.map(|(_, (axis, value))| format!("{} {}", axis.key.leaf(), shown(value)));
            texts.collect::<Vec<_>>().join(", ")
        };
        let of = |title: &str, figure: fn(&Figures) -> Option<f64>| {
            let mut curves: Vec<Curve> = Vec::new();
            for row in rows {
                let name = rest(row);
                let name = if name.is_empty() { "mean".to_owned() } else { name };
                let text = row.values.get(across).map(shown);
                let place = places.iter().find(|(_, label)| Some(label) == text.as_ref());
                let (Some((mean, spread)), Some((place, _))) = (row.over(figure), place) else {
                    continue;
                };
                let point = (*place, mean, spread.unwrap_or(0.0));
                match curves.iter_mut().find(|curve| curve.name == name) {
                    Some(curve) => curve.points.push(point),
                    None => {
                        let class = CLASSES[curves.len() % CLASSES.len()];
                        curves.push(Curve { name, class, points: vec![point] });
                    }
                }
            }
            for curve in &mut curves {
                curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
            let across = Across::Places(name.clone(), places.clone());
            Chart { title: title.into(), across, curves, from_zero: false, marked: None }
        };
        let accuracy = match judged(rows) {
            true => of("Test accuracy", |f| f.test_accuracy),
            false => of("Validation accuracy", |f| Some(f.val_accuracy)),
        };
        let time = of("Seconds of a run", |f| Some(f.seconds));
        [accuracy, Chart { from_zero: true, ..time }]
    }
}

impl Axis {
    /// The key's name, and its values as places on an axis: numbers where they are, or their logarithms where they
    /// reach far; all else side by side.
    fn places(&self) -> (String, Vec<(f64, String)>) {
        const FAR: f64 = 20.0;
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|n| n as f64));
        let numbers: Option<Vec<f64>> = self.values.iter().map(number).collect();
        let low = |numbers: &[f64]| numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = |numbers: &[f64]| numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let places: Vec<f64> = match numbers {
            Some(numbers) if low(&numbers) > 0.0 && high(&numbers) / low(&numbers) > FAR => {
                numbers.into_iter().map(f64::ln).collect()
            }
            Some(numbers) => numbers,
            None => (0..self.values.len()).map(|i| i as f64).collect(),
        };
        let mut places: Vec<_> = places.into_iter().zip(self.values.iter().map(shown)).collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        (self.key.name.to_owned(), places)
    }
}

impl Row {
    /// The mean over the runs, and the standard deviation where there are several.
    fn over(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<(f64, Option<f64>)> {
        let values: Vec<f64> = self.done.iter().filter_map(figure).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
        let spread = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some((mean, spread))
    }
}

impl Figures {
    /// Those of the best epoch of a run that is done; `None` if it is not.
    fn of(folder: &Path) -> Result<Option<Self>> {
        if !is_finished(folder)? {
            return Ok(None);
        }
        let epochs = read_metrics(&folder.join(METRICS))?;
        let test = std::fs::read_to_string(folder.join(TEST)).ok();
        let test = test.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        Ok(best_epoch(&epochs).map(|best| Self {
            val_accuracy: best.accuracy(),
            val_loss: best.loss(),
            test_accuracy: test.and_then(|test| test.get("top1")?.as_f64()),
            seconds: epochs.iter().map(|epoch| epoch.seconds).sum(),
        }))
    }
}

/// Whether any run was judged on a test part.
fn judged(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.done.iter().any(|figures| figures.test_accuracy.is_some()))
}

fn too_many(key: &'static str, count: usize) -> RecipeError {
    let reason = format!("the sweep would have more than {MOST_RUNS} runs");
    SettingError::conflict(key, count, reason).into()
}

fn known(name: &str, origin: &str) -> Result<&'static Key, RecipeError> {
    find_key(name).ok_or_else(|| unknown_key(origin, name))
}

/// A value without the quotes of a text.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The numbers of a range, whole ones where the key takes no others; `None` if it makes no sense.
fn range_of(key: &Key, range: &Table) -> Option<Vec<Value>> {
    let number = |key: &str| {
        let value = range.get(key)?;
        value.as_float().or(value.as_integer().map(|n| n as f64))
    };
    let (from, to) = (number("from")?, number("to")?);
    let steps = range.get("steps")?.as_integer().filter(|steps| (2..=1000).contains(steps))?;
    let log = match range.get("scale").map(Value::as_str) {
        None | Some(Some("linear")) => false,
        Some(Some("log")) if from > 0.0 && to > 0.0 => true,
        _ => return None,
    };
    if range.keys().any(|key| !["from", "to", "steps", "scale"].contains(&key.as_str())) {
        return None;
    }
    let whole = matches!(key.kind, Kind::Integer(..));
    let at = |i: i64| {
        let share = i as f64 / (steps - 1) as f64;
        let value = if log { from * (to / from).powf(share) } else { from + (to - from) * share };
        match whole {
            true => Value::Integer(value.round() as i64),
            // Seven digits, so that names stay short.
            false => Value::Float(format!("{value:.6e}").parse().unwrap_or(value)),
        }
    };
    let mut values: Vec<Value> = (0..steps).map(at).collect();
    values.dedup();
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sweep: &Sweep) -> Vec<String> {
        sweep.runs().into_iter().map(|run| run.name).collect()
    }

    #[test]
    fn a_sweep_has_all_combinations_and_seeds_change_first() {
        let section = "\"run.seed\" = [3, 4]\n\"model.pool\" = [\"class-token\", \"mean\"]";
        let mut sweep = Sweep::read(&section.parse().unwrap()).unwrap();
        assert_eq!(
            names(&sweep),
            [
                "pool=class-token,seed=3",
                "pool=class-token,seed=4",
                "pool=mean,seed=3",
                "pool=mean,seed=4"
            ]
        );
        sweep.seeds(1).unwrap();
        sweep.set("model.image_size=[96, [48, 96]]").unwrap();
        // A key that is given again stays where it was.
        sweep.set("model.pool=mean").unwrap();
        assert_eq!(
            names(&sweep),
            ["pool=mean,image_size=96,seed=0", "pool=mean,image_size=_48,_96_,seed=0"]
        );
        let assignments: Vec<_> = sweep.assignments(&sweep.runs()[1]).collect();
        let expected =
            [("model.pool", "\"mean\""), ("model.image_size", "[48, 96]"), ("run.seed", "0")];
        assert_eq!(assignments, expected.map(|(key, value)| (key, value.to_owned())));
        assert_eq!(names(&Sweep::default()), [""]);
    }

    #[test]
    fn ranges_are_even_or_grow_by_a_factor() {
        let values = |text: &str| {
            let mut sweep = Sweep::default();
            sweep.set(text).map(|()| sweep.axes[0].values.iter().map(shown).collect::<Vec<_>>())
        };
        let rate = "optimizer.learning_rate={from=1e-4, to=1e-2, steps=3, scale=\"log\"}";
        assert_eq!(values(rate).unwrap(), ["0.0001", "0.001", "0.01"]);
        assert_eq!(values("model.depth={from=1, to=4, steps=3}").unwrap(), ["1", "3", "4"]);
        assert_eq!(values("optimizer.kind=sgd,adamw").unwrap(), ["sgd", "adamw"]);
        for (text, says) in [
            ("model.depth={from=1, to=4}", "steps"),
            ("model.depth={from=0, to=4, steps=2, scale=\"log\"}", "scale"),
            ("model.depth={from=1, to=4, steps=2, step=1}", "a list of values"),
            ("model.depth=[]", "a list of values"),
            ("model.depth=[1, 0]", "a whole number from 1"),
            ("model.deph=1,2", "`model.depth`"),
            ("model.depth", "key=value"),
            ("run.seed=1,1", "two runs would have the folder seed=1"),
            ("optimizer.learning_rate=0.1,1e-1", "two runs would have the folder"),
            ("objective.teacher=runs/a,runs_a", "two runs would have the folder teacher=runs_a"),
        ] {
            let error = values(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let decay = "optimizer.weight_decay={from=0, to=1, steps=5}";
        assert_eq!(values(decay).unwrap(), ["0.0", "0.25", "0.5", "0.75", "1.0"]);
        let mut sweep = Sweep::default();
        sweep.set("run.seed={from=0, to=100000, steps=1000}").unwrap();
        let error = sweep.set("model.depth={from=1, to=1000, steps=11}").unwrap_err();
        assert!(error.to_string().contains("more than 10000 runs"), "{error}");
        assert!(sweep.seeds(usize::MAX).is_err());
    }
}
