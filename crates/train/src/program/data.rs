//! `vitrine data`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::Serialize;
use vitrine_data::{DatasetName, Image, Locator, MAX_PIXELS, Samples, Source};

use super::arguments::DataArguments;
use super::{print, tell};

/// The JSON object.
#[derive(Serialize)]
struct Report {
    dataset: String,
    passed_over: usize,
    parts: Vec<Part>,
    /// The images that are the same, pixel by pixel: the names of each group.
    duplicates: Vec<Vec<String>>,
    /// Those of them that are in more than one part.
    shared: Vec<Vec<String>>,
}

/// What a part of a data set has.
#[derive(Serialize)]
struct Part {
    name: &'static str,
    images: usize,
    classes: Vec<(String, usize)>,
    /// The smallest, the median and the largest, `[height, width]`, by the number of pixels.
    sizes: Vec<[usize; 2]>,
    kinds: BTreeMap<String, usize>,
    broken: Vec<String>,
}

/// An image that was looked at.
struct Seen {
    name: String,
    kind: String,
    /// Or why it cannot be read.
    picture: Result<([usize; 2], [u8; 16]), String>,
}

/// Prints what images a folder has. Without one: the folder of a data set, after all its files were checked.
pub fn run(arguments: DataArguments) -> Result<ExitCode> {
    let Some(folder) = arguments.folder else {
        let Source::Known(name) = arguments.dataset.unwrap_or(Source::Known(DatasetName::FashionMnist)) else {
            bail!("pictures of your own are in a folder of yours: `vitrine data DIR`");
        };
        let spec = name.spec();
        let mut locator = Locator::from_env(arguments.data).on_notice(tell);
        let folder = match arguments.check {
            true => {
                locator.fetch.clear();
                locator.locate(spec).context("--check fetches nothing")?
            }
            false => locator.locate(spec)?,
        };
        tell(&format!(
            "{}: {} training and {} test images, all files checked",
            spec.title, spec.train.samples, spec.test.samples
        ));
        print(&format!("{}\n", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    };
    let detected = match arguments.dataset {
        None => Source::detect(&folder)?,
        named => named,
    };
    let source = detected.unwrap_or(Source::Known(DatasetName::FashionMnist));
    let locator = Locator::from_env(Some(folder)).on_notice(tell);
    let parts = source.open(&locator, MAX_PIXELS, &Arc::default())?;
    let named = [("training", Some(parts.train)), ("validation", parts.val), ("test", parts.test)];
    let mut report = Report {
        dataset: source.name().to_owned(),
        passed_over: parts.passed_over,
        parts: Vec::new(),
        duplicates: Vec::new(),
        shared: Vec::new(),
    };
    let mut same: BTreeMap<[u8; 16], Vec<(usize, String)>> = BTreeMap::new();
    for (number, (name, samples)) in named.into_iter().enumerate() {
        let Some(samples) = samples else { continue };
        let seen: Vec<Seen> =
            (0..samples.len()).into_par_iter().map(|index| look(samples.as_ref(), index)).collect();
        report.parts.push(Part::of(name, samples.as_ref(), &seen));
        for Seen { name, picture, .. } in seen {
            if let Ok((_, sum)) = picture {
                same.entry(sum).or_default().push((number, name));
            }
        }
    }
    for group in same.into_values().filter(|group| group.len() > 1) {
        let apart = group.iter().any(|(part, _)| *part != group[0].0);
        let names: Vec<String> = group.into_iter().map(|(_, name)| name).collect();
        if apart {
            report.shared.push(names.clone());
        }
        report.duplicates.push(names);
    }
    match arguments.json {
        true => print(&(serde_json::to_string(&report).context("cannot write the report as JSON")? + "\n"))?,
        false => print(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn look(samples: &dyn Samples, index: usize) -> Seen {
    let mut image = Image::default();
    let read = samples.read(index, &mut image);
    let (name, kind) = match samples.file(index) {
        Ok(Some((name, bytes))) => (name, Image::kind(&bytes)),
        _ => (format!("{} {index}", samples.name()), None),
    };
    let colors = if image.shape[0] == 1 { "grey" } else { "colour" };
    let kind = kind.unwrap_or_else(|| colors.to_owned());
    let picture = read.map(|()| ([image.shape[1], image.shape[2]], image.md5()));
    Seen { name, kind, picture: picture.map_err(|error| error.to_string()) }
}

impl Part {
    fn of(name: &'static str, samples: &dyn Samples, seen: &[Seen]) -> Self {
        let mut classes: Vec<_> = samples.class_names().iter().map(|name| (name.clone(), 0)).collect();
        (0..samples.len()).for_each(|index| classes[samples.label(index) as usize].1 += 1);
        let (mut sizes, mut kinds, mut broken) = (Vec::new(), BTreeMap::new(), Vec::new());
        for Seen { kind, picture, .. } in seen {
            match picture {
                Ok((size, _)) => {
                    sizes.push(*size);
                    *kinds.entry(kind.clone()).or_default() += 1;
                }
                Err(reason) => broken.push(reason.clone()),
            }
        }
        sizes.sort_by_key(|[height, width]| (height * width, *height));
        let sizes = match sizes.len() {
            0 => Vec::new(),
            count => vec![sizes[0], sizes[count / 2], sizes[count - 1]],
        };
        Self { name, images: seen.len(), classes, sizes, kinds, broken }
    }
}

/// Longer lists are cut on a screen; the JSON object has all.
const SHOWN: usize = 10;

fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for part in &report.parts {
        let _ = writeln!(text, "{}: {} images, {} classes", part.name, part.images, part.classes.len());
        for (class, count) in &part.classes {
            let _ = writeln!(text, "  {count:>8}  {class}");
        }
        if let [small, median, large] = part.sizes[..] {
            let [small, median, large] = [small, median, large].map(|[height, width]| format!("{width}x{height}"));
            let _ = writeln!(text, "  sizes: {small} to {large}, median {median}");
        }
        let kinds: Vec<_> = part.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let _ = writeln!(text, "  kinds: {}", kinds.join(", "));
        list(&mut text, "  broken", part.broken.iter().cloned());
    }
    let _ = writeln!(text, "files that are no pictures: {}", report.passed_over);
    list(&mut text, "the same image more than once", report.duplicates.iter().map(|names| names.join(" = ")));
    list(&mut text, "the same image in two parts", report.shared.iter().map(|names| names.join(" = ")));
    text
}

fn list(text: &mut String, title: &str, lines: impl ExactSizeIterator<Item = String>) {
    let count = lines.len();
    let _ = writeln!(text, "{title}: {count}");
    for line in lines.take(SHOWN) {
        let _ = writeln!(text, "    {line}");
    }
    if count > SHOWN {
        let _ = writeln!(text, "    ... and {} more; --json lists all", count - SHOWN);
    }
}
