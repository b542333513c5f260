//! `report.html` in a run's folder: one page with curves, a table of epochs, the recipe and the machine. It needs no
//! network and no script. Curves are drawn in `crate::chart`.

use std::path::PathBuf;

use crate::atomic::write_atomic;
use crate::chart::{self, Across, Chart, Curve, escape, short_number};
use crate::error::Result;
use crate::metrics::{EpochMetrics, Judgement, best_epoch};
use crate::progress::{duration_text, speed_text};
use crate::sink::{Event, Sink};

const TEMPLATE: &str = include_str!("page.html");
/// Longer tables are folded away at first.
const OPEN_ROWS: usize = 30;

/// A run's page, which is written anew after each epoch.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// The heading, such as the recipe's name.
    pub title: String,
    /// The epochs so far.
    pub epochs: Vec<EpochMetrics>,
    /// How many epochs the run is meant to have.
    pub total_epochs: u64,
    /// The run's `config.toml`.
    pub config: String,
    /// The machine, in one line.
    pub machine: String,
    /// Which images the figures are of.
    pub about: String,
    /// The figures on the test part, once it was read.
    pub judgement: Option<Judgement>,
}

impl Sink for Report {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::EpochEnds(metrics) => self.epochs.push(*metrics),
            Event::Judged(judgement) => self.judgement = Some(judgement.clone()),
            _ => return Ok(()),
        }
        Ok(write_atomic(&self.path, self.html().as_bytes())?)
    }
}

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        fill(TEMPLATE, &self.values())
    }

    /// What stands in the page, by its name in the template.
    fn values(&self) -> [(&'static str, String); 11] {
        let done = self.epochs.last().map_or(0, |last| last.epoch);
        // The attribute that shows the table of epochs, folds it away or leaves it out.
        let table_state = match self.epochs.len() {
            0 => " hidden",
            1..=OPEN_ROWS => " open",
            _ => "",
        };
        [
            ("chart_style", chart::STYLE.into()),
            ("title", escape(&self.title)),
            ("progress", format!("{done} of {} epochs", self.total_epochs)),
            ("about", escape(&self.about)),
            ("cards", self.cards()),
            ("charts", self.charts()),
            ("table_state", table_state.into()),
            ("rows", self.rows()),
            ("recipe", escape(self.config.trim_end())),
            ("machine", escape(&self.machine)),
            ("version", env!("CARGO_PKG_VERSION").into()),
        ]
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
        if let Some(Judgement { epoch, figures, .. }) = &self.judgement {
            let (balanced, f1) = (figures.balanced_accuracy, figures.macro_f1);
            let note = format!("test, epoch {epoch}; balanced {balanced:.4}, macro F1 {f1:.4}");
            share("Test accuracy", figures.top1, note);
        }
        let averaged = if best.averaged_is_better() { ", averaged weights" } else { "" };
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
            let point = |e: &EpochMetrics| Some((e.epoch as f64, figure(e)?, 0.0));
            let points = self.epochs.iter().filter_map(point).collect();
            Curve { name: name.into(), class, points }
        };
        let chart = |title: &str, curves| Chart {
            title: title.into(),
            across: Across::Epochs,
            curves,
            from_zero: false,
            marked: None,
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
        let at_the_end = curve("at the end of the epoch", "rate", |e| Some(e.learning_rate));
        let rate = Chart { from_zero: true, ..chart("Learning rate", vec![at_the_end]) };
        [loss, Chart { marked, ..accuracy }, rate].iter().map(Chart::figure).collect()
    }

    fn rows(&self) -> String {
        let best = best_epoch(&self.epochs).map(|best| best.epoch);
        let row = |m: &EpochMetrics| {
            let class = if best == Some(m.epoch) { " class=\"best\"" } else { "" };
            format!(
                "<tr{class}><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td>\
                 <td>{:.4}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                m.epoch,
                m.step,
                m.train_loss,
                m.train_accuracy,
                m.val_loss,
                m.val_accuracy,
                short_number(m.learning_rate),
                speed_text(m.images_per_second),
                duration_text(m.seconds),
            )
        };
        self.epochs.iter().map(row).collect()
    }
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_are_put_in_once_and_not_searched() {
        let html = fill("a{{x}}b{{y}}c{{z}}", &[("x", "{{y}}".into()), ("y", "Y".into())]);
        assert_eq!(html, "a{{y}}bYc");
    }

    #[test]
    fn the_template_asks_for_what_is_given_and_nothing_else() {
        let report = Report {
            path: PathBuf::new(),
            title: "t".into(),
            epochs: Vec::new(),
            total_epochs: 1,
            config: String::new(),
            machine: "m".into(),
            about: "a".into(),
            judgement: None,
        };
        let mut given = report.values().map(|(name, _)| name);
        given.sort_unstable();
        let asked = TEMPLATE.split("{{").skip(1).filter_map(|part| part.split("}}").next());
        assert_eq!(given[..], Vec::from_iter(BTreeSet::from_iter(asked)));
        assert!(!report.html().contains("{{"));
    }
}
