//! `report.html` in a run's folder: one page with curves, tables, pictures, the recipe and the machine, made from the
//! other files there; and a page that compares runs. It needs no network. Curves are drawn in `crate::chart`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;

use crate::atomic::write_atomic;
use crate::chart::{self, Across, Chart, Curve, escape, short_number};
use crate::checkpoint::{CheckpointError, io_error};
use crate::error::{Result, TrainError};
use crate::evaluate::{Answer, ClassFigures, Evaluation};
use crate::metrics::{EpochMetrics, Judgement, best_epoch, read_metrics};
use crate::progress::{duration_text, speed_text};
use crate::sink::TRAIN_LOSS;
use crate::trainer::{CONFIG, EXAMPLES, METRICS, STEPS, TEST, VALIDATION};

/// The page in a run's folder.
pub const REPORT: &str = "report.html";
/// What the page says of a run that stands in no other file.
pub const ABOUT: &str = "about.json";

const TEMPLATE: &str = include_str!("page.html");
/// Longer tables are folded away at first.
const OPEN_ROWS: usize = 30;
/// More classes make a matrix that nobody reads.
const MOST_CLASSES: usize = 40;
/// Points of a curve over steps; each is a mean of as many steps as it takes.
const MOST_POINTS: usize = 200;

/// What the page says of a run that stands in no other file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct About {
    /// The heading, such as the model and the data set.
    pub(crate) title: String,
    /// The machine, in one line.
    pub(crate) machine: String,
    /// Which images the figures are of.
    pub(crate) images: String,
    /// The command that began the run.
    pub(crate) command: String,
    /// The program's version.
    pub(crate) version: String,
    /// Whether all is done, up to the judgement on the test part.
    pub(crate) finished: bool,
}

/// What a run's folder says of it, if it does.
pub(crate) fn about(folder: &Path) -> Result<Option<About>> {
    json(&folder.join(ABOUT))
}

/// The best epoch's figures on the validation part, and pictures of its answers: PNG files in base64, by the sample's
/// index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Judged {
    #[serde(flatten)]
    pub(crate) figures: Evaluation,
    #[serde(default)]
    pub(crate) pictures: BTreeMap<usize, String>,
    /// The same with where the model looked, once the run is done.
    #[serde(default)]
    pub(crate) maps: BTreeMap<usize, String>,
}

/// The best epoch's figures in a run's folder, if there are any.
pub(crate) fn validation(folder: &Path) -> Result<Option<Judged>> {
    json(&folder.join(VALIDATION))
}

/// A run, as its files tell.
struct Run {
    folder: PathBuf,
    about: About,
    config: String,
    sections: Table,
    epochs: Vec<EpochMetrics>,
    steps: Vec<(f64, f64)>,
    validation: Option<Judged>,
    judgement: Option<Judgement>,
}

/// Writes the page of the run in a folder.
pub fn write(folder: &Path) -> Result<()> {
    let run = Run::open(folder)?;
    Ok(write_atomic(&folder.join(REPORT), run.page().as_bytes())?)
}

/// Writes a page that compares runs.
pub fn compare(folders: &[PathBuf], path: &Path) -> Result<()> {
    let runs: Vec<Run> = folders.iter().map(|folder| Run::open(folder)).collect::<Result<_>>()?;
    Ok(write_atomic(path, comparison(&runs).as_bytes())?)
}

/// A line for each run among folders, as a table: model and data, epochs, best accuracy, time.
pub fn list(folders: &[PathBuf]) -> Result<String> {
    let mut rows = vec![["run", "what", "epochs", "best accuracy", "time"].map(str::to_owned)];
    for folder in folders.iter().filter(|folder| folder.join(CONFIG).exists()) {
        let run = Run::open(folder)?;
        let done = run.epochs.last().map_or(0, |last| last.epoch);
        let total = run.key("run", "epochs").unwrap_or(0);
        let best = best_epoch(&run.epochs).map(|best| format!("{:.4}", best.accuracy()));
        rows.push([
            folder.display().to_string(),
            run.about.title.clone(),
            if run.about.finished { done.to_string() } else { format!("{done} of {total}") },
            best.unwrap_or_default(),
            duration_text(run.epochs.iter().map(|epoch| epoch.seconds).sum()),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
    let line = |[run, what, epochs, best, time]: &[String; 5]| {
        let [a, b, c, d] = widths;
        format!("{run:<a$}  {what:<b$}  {epochs:>c$}  {best:>d$}  {time}\n")
    };
    Ok(rows.iter().map(line).collect())
}

/// A file of the run, or `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => Ok(Some(bytes.map_err(io_error("read", path))?)),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let parsed = read(path)?.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    Ok(parsed.map_err(|source| CheckpointError::Position { path: path.to_owned(), source })?)
}

impl Run {
    fn open(folder: &Path) -> Result<Self> {
        let Some(config) = read(&folder.join(CONFIG))? else {
            return Err(TrainError::NoRun { path: folder.to_owned() });
        };
        let config = String::from_utf8_lossy(&config).into_owned();
        let metrics = folder.join(METRICS);
        let steps = read(&folder.join(STEPS))?.unwrap_or_default();
        let point = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some((line.get("step")?.as_f64()?, line.get(TRAIN_LOSS)?.as_f64()?))
        };
        Ok(Self {
            folder: folder.to_owned(),
            about: about(folder)?.unwrap_or_default(),
            sections: config.parse().unwrap_or_default(),
            config,
            epochs: if metrics.exists() { read_metrics(&metrics)? } else { Vec::new() },
            steps: String::from_utf8_lossy(&steps).lines().filter_map(point).collect(),
            validation: validation(folder)?,
            judgement: json(&folder.join(TEST))?,
        })
    }

    fn key(&self, section: &str, leaf: &str) -> Option<i64> {
        self.sections.get(section)?.get(leaf)?.as_integer()
    }

    /// The page.
    fn page(&self) -> String {
        let done = self.epochs.last().map_or(0, |last| last.epoch);
        let total = self.key("run", "epochs").unwrap_or(0);
        // The attribute that shows the table of epochs, folds it away or leaves it out.
        let table_state = match self.epochs.len() {
            0 => " hidden",
            1..=OPEN_ROWS => OPEN,
            _ => "",
        };
        let About { title, machine, images, command, version, .. } = &self.about;
        let refresh = if self.about.finished { "" } else { REFRESH };
        let [head, rows] = self.rows();
        let begun = match command.as_str() {
            "" => String::new(),
            command => format!("<p>Begun by <code>{}</code>.</p>\n", escape(command)),
        };
        let recipe = format!("<pre>{}</pre>\n{begun}", escape(self.config.trim_end()));
        let page = Page {
            title: escape(title),
            refresh,
            head: format!(
                "<p>{done} of {total} epochs · {}</p>\n<p>{}</p>",
                escape(machine),
                escape(images)
            ),
            main: format!(
                "{}\n<section class=\"charts\" aria-label=\"Curves\">\n{}</section>\n{}{}{}{}{}",
                self.cards(),
                self.charts(),
                self.classes(),
                self.answers(),
                self.examples(),
                section("Epochs", table_state, &table("", &head, &rows)),
                section("Recipe, resolved", OPEN, &recipe),
            ),
            version: escape(version),
        };
        page.html()
    }

    fn cards(&self) -> String {
        let (Some(last), Some(best)) = (self.epochs.last(), best_epoch(&self.epochs)) else {
            return "<p>No epoch is complete yet.</p>".into();
        };
        let mut html = String::from("<dl class=\"cards\">");
        let mut card = |name: &str, value: &str, note: &str| {
            html += &format!(
                "<div><dt>{name}</dt><dd>{value}</dd><dd class=\"note\">{note}</dd></div>"
            );
        };
        let mut share = |name: &str, value: f64, note: String| {
            card(name, &format!("{value:.4}"), &note);
        };
        let averaged = |are| if are { ", averaged weights" } else { "" };
        if let Some(Judgement { epoch, averaged: are, figures }) = &self.judgement {
            let (balanced, f1) = (figures.balanced_accuracy, figures.macro_f1);
            let which = averaged(*are);
            let note =
                format!("test, epoch {epoch}{which}; balanced {balanced:.4}, macro F1 {f1:.4}");
            share("Test accuracy", figures.top1, note);
        }
        let averaged = averaged(best.averaged_is_better());
        let note = format!("validation, epoch {}{averaged}", best.epoch);
        share("Best accuracy", best.accuracy(), note);
        share("Last accuracy", last.val_accuracy, format!("validation, loss {:.4}", last.val_loss));
        let note = format!("last epoch, accuracy {:.4}", last.train_accuracy);
        share("Training loss", last.train_loss, note);
        let total: f64 = self.epochs.iter().map(|epoch| epoch.seconds).sum();
        let mean = duration_text(total / self.epochs.len() as f64);
        card("Total time", &duration_text(total), &format!("{mean} an epoch"));
        let mut speeds: Vec<f64> = self.epochs.iter().map(|e| e.images_per_second).collect();
        speeds.sort_by(f64::total_cmp);
        let median = speed_text(speeds[speeds.len() / 2]);
        card("Training speed", &format!("{median} images/s"), "median of the epochs");
        html + "</dl>"
    }

    fn charts(&self) -> String {
        let curve = |name: &str, class, figure: fn(&EpochMetrics) -> Option<f64>| {
            over_epochs(&self.epochs, name, class, figure)
        };
        let loss = chart(
            "Cross-entropy loss",
            vec![
                curve("training", "train", |e| Some(e.train_loss)),
                curve("validation", "val", |e| Some(e.val_loss)),
                curve("averaged", "rate", |e| e.averaged_val_loss),
            ],
        );
        let accuracy = chart(
            "Accuracy (share correct)",
            vec![
                curve("training", "train", |e| Some(e.train_accuracy)),
                curve("validation", "val", |e| Some(e.val_accuracy)),
                curve("averaged", "rate", |e| e.averaged_val_accuracy),
            ],
        );
        let best = best_epoch(&self.epochs);
        let marked = best.map(|best| (best.epoch as f64, best.accuracy()));
        let steps = Curve { name: "training".into(), class: "train", points: thinned(&self.steps) };
        let steps =
            Chart { across: Across::Whole("step"), ..chart("Loss of each step", vec![steps]) };
        let at_the_end = curve("at the end of the epoch", "rate", |e| Some(e.learning_rate));
        let rate = Chart { from_zero: true, ..chart("Learning rate", vec![at_the_end]) };
        let seconds = curve("an epoch", "val", |e| Some(e.seconds));
        let time = Chart { from_zero: true, ..chart("Seconds", vec![seconds]) };
        let charts = [loss, Chart { marked, ..accuracy }, steps, rate, time];
        charts.iter().map(Chart::figure).collect()
    }

    /// The figures of each class and the confusion matrix, of the best epoch on the validation part.
    fn classes(&self) -> String {
        let Some(Judged { figures, .. }) = &self.validation else { return String::new() };
        let share =
            |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{share:.4}"));
        let row = |(label, class): (usize, &ClassFigures)| {
            let [precision, recall, f1] = [class.precision, class.recall, class.f1].map(share);
            let (name, count) = (escape(&class.name), class.count);
            format!(
                "<tr><td>{label}</td><td class=\"name\">{name}</td><td>{precision}</td><td>{recall}</td><td>{f1}</td>\
                 <td>{count}</td></tr>\n"
            )
        };
        let rows: String = figures.classes.iter().enumerate().map(row).collect();
        let head = "<tr><th>label</th><th class=\"name\">class</th><th>precision</th><th>recall</th><th>F1</th>\
                    <th>images</th></tr>";
        let classes =
            section("Classes, validation", OPEN, &table(" class=\"sortable\"", head, &rows));
        if figures.classes.len() > MOST_CLASSES {
            return classes;
        }
        let heads: String =
            (0..figures.classes.len()).map(|label| format!("<th>{label}</th>")).collect();
        let cells = |row: &[u64]| -> String {
            let total = row.iter().sum::<u64>().max(1) as f64;
            let cell = |&count: &u64| {
                format!("<td style=\"--share:{:.3}\">{count}</td>", count as f64 / total)
            };
            row.iter().map(cell).collect()
        };
        let row = |(label, (class, row)): (usize, (&ClassFigures, &Vec<u64>))| {
            let name = escape(&class.name);
            format!("<tr><td>{label}</td><td class=\"name\">{name}</td>{}</tr>\n", cells(row))
        };
        let rows: String =
            figures.classes.iter().zip(&figures.confusion).enumerate().map(row).collect();
        let head = format!("<tr><th></th><th></th>{heads}</tr>");
        let matrix = format!(
            "<p>A row for each class, a column for what its images were taken for.</p>\n{}",
            table(" class=\"confusion\"", &head, &rows)
        );
        classes + &section("Confusion, validation", OPEN, &matrix)
    }

    /// Mistakes and doubtful answers, as far as there are pictures of them.
    fn answers(&self) -> String {
        let Some(Judged { figures, pictures, maps }) = &self.validation else {
            return String::new();
        };
        let name = |label: usize| {
            let class = figures.classes.get(label);
            escape(class.map_or("?", |class| class.name.as_str()))
        };
        let shown = |answer: &Answer| {
            let picture = escape(pictures.get(&answer.sample)?);
            let words = match answer.label == answer.predicted {
                true => format!("{} {:.2}", name(answer.label), answer.probability),
                false => format!(
                    "{}, taken for {} {:.2}",
                    name(answer.label),
                    name(answer.predicted),
                    answer.probability
                ),
            };
            Some(format!(
                "<figure><img alt=\"\" src=\"{PNG}{picture}\">{}<figcaption>{words}</figcaption></figure>\n",
                maps.get(&answer.sample).map_or(String::new(), |map| format!(
                    "<img alt=\"where the model looked\" src=\"{PNG}{}\">",
                    escape(map)
                ))
            ))
        };
        let shown_under = |title: &str, answers: &[Answer]| {
            let pictures: String = answers.iter().filter_map(shown).collect();
            if pictures.is_empty() {
                return String::new();
            }
            section(title, OPEN, &format!("<div class=\"pictures\">\n{pictures}</div>\n"))
        };
        shown_under("Most certain mistakes", &figures.mistakes)
            + &shown_under("Least certain right answers", &figures.doubtful)
    }

    fn examples(&self) -> String {
        let Ok(picture) = fs::read(self.folder.join(EXAMPLES)) else { return String::new() };
        let image = format!(
            "<img class=\"examples\" alt=\"Images of the first batch\" src=\"{PNG}{}\">\n",
            STANDARD.encode(picture)
        );
        section("Training images, as the model sees them", OPEN, &image)
    }

    /// The head of the table of epochs, and its rows.
    fn rows(&self) -> [String; 2] {
        let averages = self.epochs.iter().any(|m| m.averaged_val_accuracy.is_some());
        let mut names = vec!["epoch", "step", "train<br>loss", "train<br>accuracy"];
        names.extend(["validation<br>loss", "validation<br>accuracy"]);
        names.extend(averages.then_some("averaged<br>accuracy"));
        names.extend(["learning<br>rate", "images/s", "time"]);
        let head: String = names.iter().map(|name| format!("<th>{name}</th>")).collect();
        let best = best_epoch(&self.epochs).map(|best| best.epoch);
        let row = |m: &EpochMetrics| {
            let class = if best == Some(m.epoch) { " class=\"best\"" } else { "" };
            format!(
                "<tr{class}><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td>\
                 <td>{:.4}</td>{}<td>{}</td><td>{}</td><td>{}</td></tr>\n",
                m.epoch,
                m.step,
                m.train_loss,
                m.train_accuracy,
                m.val_loss,
                m.val_accuracy,
                m.averaged_val_accuracy.map_or(String::new(), |a| format!("<td>{a:.4}</td>")),
                short_number(m.learning_rate),
                speed_text(m.images_per_second),
                duration_text(m.seconds),
            )
        };
        [format!("<tr>{head}</tr>"), self.epochs.iter().map(row).collect()]
    }
}

/// The attribute of a part that is not folded away.
const OPEN: &str = " open";

/// A part of the page that can be folded away; `state` is its attribute.
fn section(title: &str, state: &str, inner: &str) -> String {
    format!("<details{state}>\n<summary>{title}</summary>\n{inner}</details>\n")
}

/// A table, with its attributes.
fn table(attributes: &str, head: &str, rows: &str) -> String {
    format!(
        "<div class=\"scroll\">\n<table{attributes}>\n<thead>{head}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )
}

/// Before a PNG file in base64, within the page.
const PNG: &str = "data:image/png;base64,";

/// What makes a browser read the page again.
const REFRESH: &str = "<meta http-equiv=\"refresh\" content=\"30\">\n";

/// The parts of a page, as HTML.
struct Page {
    title: String,
    refresh: &'static str,
    head: String,
    main: String,
    version: String,
}

impl Page {
    fn html(self) -> String {
        let values = [
            ("title", self.title),
            ("refresh", self.refresh.to_owned()),
            ("chart_style", chart::STYLE.to_owned()),
            ("head", self.head),
            ("main", self.main),
            ("version", self.version),
        ];
        fill(TEMPLATE, &values)
    }
}

/// The curves of several runs over each other, and the keys in which their recipes differ.
fn comparison(runs: &[Run]) -> String {
    const CLASSES: [&str; 6] = ["val", "train", "rate", "fourth", "fifth", "sixth"];
    let name = |run: &Run| {
        let name = run.folder.file_name().unwrap_or(run.folder.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let curves = |figure: fn(&EpochMetrics) -> Option<f64>| {
        let curve = |(i, run): (usize, &Run)| {
            over_epochs(&run.epochs, &name(run), CLASSES[i % CLASSES.len()], figure)
        };
        runs.iter().enumerate().map(curve).collect::<Vec<_>>()
    };
    let charts = [
        chart("Validation accuracy", curves(|e| Some(e.accuracy()))),
        chart("Validation loss", curves(|e| Some(e.loss()))),
        chart("Training loss", curves(|e| Some(e.train_loss))),
    ];
    let charts: String = charts.iter().map(Chart::figure).collect();

    let value = |run: &Run, section: &str, leaf: &str| {
        let value = run.sections.get(section).and_then(|section| section.get(leaf));
        value.map_or("–".to_owned(), |value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        })
    };
    let mut keys: Vec<(String, String)> = Vec::new();
    for (section, table) in runs.iter().flat_map(|run| &run.sections) {
        for leaf in table.as_table().into_iter().flat_map(Table::keys) {
            let key = (section.clone(), leaf.clone());
            let first = value(&runs[0], section, leaf);
            if !keys.contains(&key) && runs.iter().any(|run| value(run, section, leaf) != first) {
                keys.push(key);
            }
        }
    }
    let row = |title: &str, cell: &dyn Fn(&Run) -> String| {
        let cells = runs.iter().map(|run| format!("<td>{}</td>", escape(&cell(run))));
        format!("<tr><td class=\"name\">{}</td>{}</tr>\n", escape(title), cells.collect::<String>())
    };
    let best = |run: &Run| best_epoch(&run.epochs).copied();
    let share = |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{share:.4}"));
    let mut rows = row("best validation accuracy", &|run| share(best(run).map(|e| e.accuracy())));
    rows += &row("its epoch", &|run| best(run).map_or("–".to_owned(), |e| e.epoch.to_string()));
    rows += &row("test accuracy", &|run| share(run.judgement.as_ref().map(|j| j.figures.top1)));
    rows += &row("time", &|run| duration_text(run.epochs.iter().map(|e| e.seconds).sum()));
    rows += &row("machine", &|run| run.about.machine.clone());
    for (section, leaf) in &keys {
        rows += &row(&format!("{section}.{leaf}"), &|run| value(run, section, leaf));
    }
    let heads = runs.iter().map(|run| format!("<th>{}</th>", escape(&name(run))));
    let head = format!("<tr><th></th>{}</tr>", heads.collect::<String>());
    let page = Page {
        title: format!("{} runs", runs.len()),
        refresh: "",
        head: "<p>Curves over each other, and what differs.</p>".to_owned(),
        main: format!(
            "<section class=\"charts\" aria-label=\"Curves\">\n{charts}</section>\n{}",
            section("What differs", OPEN, &table(" class=\"wide\"", &head, &rows))
        ),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    page.html()
}

fn chart(title: &str, curves: Vec<Curve>) -> Chart {
    let across = Across::Whole("epoch");
    Chart { title: title.into(), across, curves, from_zero: false, marked: None }
}

/// A figure of each epoch.
fn over_epochs(
    epochs: &[EpochMetrics],
    name: &str,
    class: &'static str,
    figure: fn(&EpochMetrics) -> Option<f64>,
) -> Curve {
    let point = |e: &EpochMetrics| Some((e.epoch as f64, figure(e)?, 0.0));
    Curve { name: name.into(), class, points: epochs.iter().filter_map(point).collect() }
}

/// Means of as many neighbours as it takes for a curve that can be drawn.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64, f64)> {
    let each = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let sum: f64 = points.iter().map(|(_, value)| value).sum();
        (points[points.len() - 1].0, sum / points.len() as f64, 0.0)
    };
    points.chunks(each).map(mean).collect()
}

/// Puts values where the template has `{{name}}`, in one pass: a value is never searched itself.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut parts = template.split("{{");
    let mut html = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, after) = part.split_once("}}").unwrap_or((part, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        html += value.map_or("", |(_, value)| value);
        html += after;
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_once_and_not_searched() {
        let html = fill("a{{x}}b{{y}}c{{z}}", &[("x", "{{y}}".into()), ("y", "Y".into())]);
        assert_eq!(html, "a{{y}}bYc");
    }

    #[test]
    fn long_curves_are_thinned_to_means() {
        let points: Vec<(f64, f64)> = (1..=1001).map(|i| (f64::from(i), f64::from(i))).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0], thin[166].0), (167, (6.0, 3.5, 0.0), 1001.0));
        assert_eq!(thinned(&points[..2]).len(), 2);
        assert!(thinned(&[]).is_empty());
    }
}
