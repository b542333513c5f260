//! `report.html` in a run's folder: one page with curves, a table of epochs, the recipe and the
//! machine. It needs no network and no script. Curves are drawn in `chart`.

mod chart;

use std::borrow::Cow;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::atomic::{AtomicWriteError, write_atomic};
use crate::error::Result;
use crate::machine;
use crate::metrics::{EpochMetrics, Judgement, best_epoch, read_metrics};
use crate::progress::{duration_text, speed_text};
use crate::sink::{Event, Sink};
use crate::trainer::METRICS;
use chart::{Chart, Curve, Floor};

const TEMPLATE: &str = include_str!("page.html");
/// Longer tables are folded away at first.
const OPEN_ROWS: usize = 30;

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The heading, such as the recipe's name.
    pub title: &'a str,
    /// The epochs so far.
    pub metrics: &'a [EpochMetrics],
    /// How many epochs the run is meant to have.
    pub total_epochs: u64,
    /// The resolved recipe.
    pub recipe_toml: &'a str,
    /// The machine, in one line.
    pub machine: &'a str,
    /// Which images the figures are of.
    pub about: &'a str,
    /// The figures on the test part, once it was read.
    pub judgement: Option<&'a Judgement>,
}

/// Writes a run's page anew after each epoch, from what its folder holds.
pub struct ReportPage {
    /// The run's folder.
    pub folder: PathBuf,
    /// The heading.
    pub title: String,
    /// The run's `config.toml`.
    pub config: String,
    /// Which images the figures are of.
    pub about: String,
}

impl Sink for ReportPage {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        let (total_epochs, judgement) = match event {
            Event::EpochEnds { total_epochs, .. } => (total_epochs, None),
            Event::Judged { total_epochs, judgement } => (total_epochs, Some(judgement)),
            _ => return Ok(()),
        };
        let report = Report {
            title: &self.title,
            metrics: &read_metrics(&self.folder.join(METRICS))?,
            total_epochs,
            recipe_toml: &self.config,
            machine: &machine::describe(),
            about: &self.about,
            judgement,
        };
        Ok(report.write(&self.folder.join("report.html"))?)
    }
}

impl Report<'_> {
    /// Writes the page to a file, in one atomic step.
    pub fn write(&self, path: &Path) -> Result<(), AtomicWriteError> {
        write_atomic(path, self.html().as_bytes())
    }

    /// The page.
    pub fn html(&self) -> String {
        fill(
            TEMPLATE,
            &[
                ("title", &escape(self.title)),
                ("progress", &self.progress()),
                ("about", &escape(self.about)),
                ("cards", &self.cards()),
                ("charts", &self.charts()),
                ("table_state", self.table_state()),
                ("rows", &self.rows()),
                ("recipe", &escape(self.recipe_toml.trim_end())),
                ("machine", &escape(self.machine)),
                ("version", env!("CARGO_PKG_VERSION")),
            ],
        )
    }

    /// The attribute that shows the table of epochs, folds it away or leaves it out.
    fn table_state(&self) -> &'static str {
        match self.metrics.len() {
            0 => " hidden",
            1..=OPEN_ROWS => " open",
            _ => "",
        }
    }

    fn progress(&self) -> String {
        let done = self.metrics.last().map_or(0, |last| last.epoch);
        format!("{done} of {} epochs", self.total_epochs)
    }

    fn cards(&self) -> String {
        let Some(last) = self.metrics.last() else {
            return "<p>No epoch is complete yet.</p>".into();
        };
        let mut html = String::from("<dl class=\"cards\">");
        let mut card = |name: &str, value: &str, note: &str| {
            // Writing to a string cannot fail.
            let _ = write!(
                html,
                "<div><dt>{name}</dt><dd>{value}</dd><dd class=\"note\">{note}</dd></div>"
            );
        };
        if let Some(Judgement { epoch, figures }) = self.judgement {
            let note = format!(
                "test, epoch {epoch}; balanced {:.4}, macro F1 {:.4}",
                figures.balanced_accuracy, figures.macro_f1
            );
            card("Test accuracy", &format!("{:.4}", figures.top1), &note);
        }
        if let Some(best) = best_epoch(self.metrics) {
            let note = format!("validation, epoch {}", best.epoch);
            card("Best accuracy", &format!("{:.4}", best.val_accuracy), &note);
        }
        let note = format!("validation, loss {:.4}", last.val_loss);
        card("Last accuracy", &format!("{:.4}", last.val_accuracy), &note);
        let note = format!("last epoch, accuracy {:.4}", last.train_accuracy);
        card("Training loss", &format!("{:.4}", last.train_loss), &note);
        let total: f64 = self.metrics.iter().map(|epoch| epoch.seconds).sum();
        let mean = duration_text(total / self.metrics.len() as f64);
        card("Total time", &duration_text(total), &format!("{mean} an epoch"));
        let mut speeds: Vec<f64> = self.metrics.iter().map(|e| e.images_per_second).collect();
        speeds.sort_by(f64::total_cmp);
        let median = speed_text(speeds[speeds.len() / 2]);
        card("Training speed", &format!("{median} images/s"), "median of the epochs");
        html.push_str("</dl>");
        html
    }

    fn charts(&self) -> String {
        let points = |figure: fn(&EpochMetrics) -> f64| -> Vec<(u64, f64)> {
            self.metrics.iter().map(|epoch| (epoch.epoch, figure(epoch))).collect()
        };
        let best = best_epoch(self.metrics).map(|best| (best.epoch, best.val_accuracy));
        let charts = [
            Chart {
                title: "Cross-entropy loss",
                curves: vec![
                    Curve { name: "training", class: "train", points: points(|e| e.train_loss) },
                    Curve { name: "validation", class: "val", points: points(|e| e.val_loss) },
                ],
                floor: Floor::Data,
                marked: None,
            },
            Chart {
                title: "Accuracy (share correct)",
                curves: vec![
                    Curve {
                        name: "training",
                        class: "train",
                        points: points(|e| e.train_accuracy),
                    },
                    Curve { name: "validation", class: "val", points: points(|e| e.val_accuracy) },
                ],
                floor: Floor::Data,
                marked: best,
            },
            Chart {
                title: "Learning rate",
                curves: vec![Curve {
                    name: "at the end of the epoch",
                    class: "rate",
                    points: points(|e| e.learning_rate),
                }],
                floor: Floor::Zero,
                marked: None,
            },
        ];
        charts.iter().map(Chart::svg).collect()
    }

    fn rows(&self) -> String {
        let best = best_epoch(self.metrics).map(|best| best.epoch);
        let mut html = String::new();
        for m in self.metrics {
            let class = if best == Some(m.epoch) { " class=\"best\"" } else { "" };
            let _ = writeln!(
                html,
                "<tr{class}><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td>\
                 <td>{:.4}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                m.epoch,
                m.step,
                m.train_loss,
                m.train_accuracy,
                m.val_loss,
                m.val_accuracy,
                chart::short_number(m.learning_rate),
                speed_text(m.images_per_second),
                duration_text(m.seconds),
            );
        }
        html
    }
}

/// Text as HTML shows it.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut html = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html.into()
}

/// Puts values where the template has `{{name}}`, in one pass: a value is never searched itself.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut html = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        html.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        html.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    html.push_str(rest);
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_once_and_not_searched() {
        let html = fill("a{{x}}b{{y}}c{{z}}", &[("x", "{{y}}"), ("y", "Y")]);
        assert_eq!(html, "a{{y}}bYc");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(escape("plain"), "plain");
    }

    #[test]
    fn the_template_asks_for_nothing_that_is_not_given() {
        let report = Report {
            title: "t",
            metrics: &[],
            total_epochs: 1,
            recipe_toml: "",
            machine: "m",
            about: "a",
            judgement: None,
        };
        let given = [
            "title",
            "progress",
            "about",
            "cards",
            "charts",
            "table_state",
            "rows",
            "recipe",
            "machine",
            "version",
        ];
        let mut asked: Vec<&str> =
            TEMPLATE.split("{{").skip(1).filter_map(|part| part.split("}}").next()).collect();
        asked.sort_unstable();
        asked.dedup();
        assert!(asked.iter().all(|name| given.contains(name)), "{asked:?}");
        assert_eq!(asked.len(), given.len());
        assert!(!report.html().contains("{{"));
    }
}
