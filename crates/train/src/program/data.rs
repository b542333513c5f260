//! `vitrine data`

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::Serialize;
use vitrine_data::{DatasetName, Image, Locator, MAX_PIXELS, Samples, Source};

use super::arguments::DataArguments;
use super::{print, print_json, tell};

/// What is printed: as a JSON object, or as TOML, which reads well.
#[derive(Serialize)]
struct Report {
    dataset: String,
    /// Files that are no pictures.
    passed_over: usize,
    /// The images that are the same, pixel by pixel: the names of each group.
    duplicates: Vec<Vec<String>>,
    /// Those of them that are in more than one part.
    shared: Vec<Vec<String>>,
    parts: Vec<Part>,
}

/// What a part of a data set has.
#[derive(Serialize)]
struct Part {
    name: &'static str,
    images: usize,
    /// The smallest, the median and the largest, `[height, width]`, by the number of pixels.
    sizes: Vec<[usize; 2]>,
    broken: Vec<String>,
    kinds: BTreeMap<String, usize>,
    classes: BTreeMap<String, usize>,
}

/// An image that was looked at.
struct Seen {
    name: String,
    kind: String,
    /// Or why it cannot be read.
    picture: Result<([usize; 2], [u8; 16]), String>,
}

/// Prints what images a folder has. Without one: the folder of a data set, after all its files were checked.
pub fn run(arguments: DataArguments) -> Result<()> {
    let Some(folder) = arguments.folder else {
        let Source::Known(name) =
            arguments.dataset.unwrap_or(Source::Known(DatasetName::FashionMnist))
        else {
            bail!("pictures of your own are in a folder of yours: `vitrine data DIR`");
        };
        let spec = name.spec();
        let mut locator = Locator::from_env(arguments.data).on_notice(tell);
        if arguments.check {
            locator.fetch.clear();
        }
        let folder = locator.locate(spec);
        let folder =
            if arguments.check { folder.context("--check fetches nothing")? } else { folder? };
        tell(&format!(
            "{}: {} training and {} test images, all files checked",
            spec.title, spec.train.samples, spec.test.samples
        ));
        return print(&format!("{}\n", folder.display()));
    };
    let detected = match arguments.dataset {
        None => Source::detect(&folder)?,
        named => named,
    };
    let source =
        detected.context("the files could be of several data sets: say which with --dataset")?;
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
        true => print_json(&report),
        false => print(&toml::to_string_pretty(&report).context("cannot write the report")?),
    }
}

fn look(samples: &dyn Samples, index: usize) -> Seen {
    let mut image = Image::default();
    let own_name = format!("{} {index}", samples.name());
    let (name, kind, read) = match samples.file(index) {
        Ok(Some((name, bytes))) => {
            let read = image.decode(&name, &bytes, MAX_PIXELS);
            (name, Image::kind(&bytes), read)
        }
        Ok(None) => (own_name, None, samples.read(index, &mut image)),
        Err(error) => (own_name, None, Err(error)),
    };
    let colors = if image.shape[0] == 1 { "grey" } else { "colour" };
    let kind = kind.unwrap_or_else(|| colors.to_owned());
    let picture = read.map(|()| ([image.shape[1], image.shape[2]], image.md5()));
    Seen { name, kind, picture: picture.map_err(|error| error.to_string()) }
}

impl Part {
    fn of(name: &'static str, samples: &dyn Samples, seen: &[Seen]) -> Self {
        let names = samples.class_names();
        let mut classes: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), 0)).collect();
        for index in 0..samples.len() {
            *classes.entry(names[samples.label(index) as usize].clone()).or_default() += 1;
        }
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
