//! The results as a picture: a group of bars for each work, as an SVG file that is readable in light and dark mode.

use std::fmt::Write;

use super::figures::Results;
use super::plan::{Contender, WORKS, Workload};
use super::table::milliseconds;

const WIDTH: f64 = 720.0;
/// Where the bars begin, right of the names.
const LEFT: f64 = 210.0;
/// Room right of the longest bar for its figure.
const RIGHT: f64 = 150.0;
const ROW: f64 = 20.0;
const BAR: f64 = 13.0;
const HEADING: f64 = 30.0;
const MARGIN: f64 = 12.0;
/// A bar is cut at so many times Vitrine's, so that the others stay readable.
const LONGEST: f64 = 8.0;

/// GitHub shows the file as a picture of its own, so it brings its colours for both modes along.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.heading { font-weight: 600 }
.figure { fill: #57606a }
.ours { fill: #0969da }
.peer { fill: #afb8c1 }
.cut { stroke: #ffffff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.figure { fill: #9198a1 }
.ours { fill: #4493f8 }
.peer { fill: #57606a }
.cut { stroke: #0d1117 }
}
";

/// One bar.
struct Bar {
    name: &'static str,
    ours: bool,
    ms: f64,
    /// How many times Vitrine's it is.
    ratio: Option<f64>,
}

/// The whole picture.
pub fn svg(results: &Results) -> String {
    let groups: Vec<(String, Vec<Bar>)> = WORKS
        .iter()
        .map(|work| (work.title(), bars(results, work)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let rows: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let height = 2.0 * MARGIN + HEADING * groups.len() as f64 + ROW * rows as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Shortest time of a step in each framework\">\n\
         <style>\n{STYLE}</style>\n"
    );
    let mut y = MARGIN;
    for (title, bars) in &groups {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            svg,
            "<text class=\"heading\" x=\"{MARGIN}\" y=\"{:.1}\">{title}: shortest step, ms</text>",
            y + HEADING - 9.0
        );
        y += HEADING;
        svg.push_str(&group(bars, y));
        y += ROW * bars.len() as f64;
    }
    svg.push_str("</svg>\n");
    svg
}

fn bars(results: &Results, work: &Workload) -> Vec<Bar> {
    let base = results.of(work, Contender::Vitrine).ok().map(|ours| ours.min_ms);
    let measured = results.programs(work).filter_map(|program| {
        let ms = results.of(work, program).ok()?.min_ms;
        let ratio = base.filter(|_| program != Contender::Vitrine).map(|base| ms / base);
        Some(Bar { name: program.title(work), ours: program.is_ours(), ms, ratio })
    });
    measured.collect()
}

fn group(bars: &[Bar], top: f64) -> String {
    let shortest =
        bars.iter().map(|bar| bar.ms / bar.ratio.unwrap_or(1.0)).fold(f64::MAX, f64::min);
    let limit = LONGEST * shortest;
    let longest = bars.iter().map(|bar| bar.ms.min(limit)).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = String::new();
    for (index, bar) in bars.iter().enumerate() {
        let y = top + ROW * index as f64;
        let width = (WIDTH - LEFT - RIGHT) * bar.ms.min(limit) / longest;
        let baseline = y + BAR - 2.0;
        let class = if bar.ours { "ours" } else { "peer" };
        let ratio = bar.ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2}×)"));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"figure\" x=\"{:.1}\" y=\"{baseline:.1}\">{}{ratio}</text>",
            LEFT - 8.0,
            bar.name,
            LEFT + width + 8.0,
            milliseconds(bar.ms),
        );
        if bar.ms > limit {
            let x = LEFT + 0.9 * width;
            let _ = writeln!(
                svg,
                "<line class=\"cut\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                x - 4.0,
                x + 4.0,
                y + BAR + 1.0,
                y - 1.0,
            );
        }
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::super::figures::sample;
    use super::*;

    fn picture() -> String {
        svg(&sample(&[
            (0, Contender::Vitrine, 300.0, 400.0),
            (0, Contender::Torch, 1374.0, 1300.0),
            (0, Contender::Burn, 9596.0, 3000.0),
            (4, Contender::Onnxruntime, 2.5, 200.0),
        ]))
    }

    /// The values of an attribute, in order.
    fn values(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        let opening = format!("<{element} ");
        let elements = svg.split(&opening).skip(1);
        let value = |text: &str| {
            text.split(&format!(" {attribute}=\"")).nth(1)?.split('"').next()?.parse().ok()
        };
        elements.map(|text| value(text).unwrap()).collect()
    }

    #[test]
    fn every_element_is_closed_in_turn() {
        let svg = picture();
        let mut open: Vec<&str> = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("a tag ends");
            assert!(!text.contains('&') && tag.matches('"').count() % 2 == 0, "{tag}");
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name)),
                (false, false) => open.push(name),
                (false, true) => {}
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(svg.contains("prefers-color-scheme: dark") && !svg.contains("NaN"));
    }

    #[test]
    fn bars_are_in_proportion_and_the_longest_is_cut() {
        let svg = picture();
        let widths = values(&svg, "rect", "width");
        assert_eq!(widths.len(), 4);
        assert!((widths[1] / widths[0] - 1374.0 / 300.0).abs() < 0.02, "{widths:?}");
        assert!((widths[2] / widths[0] - LONGEST).abs() < 0.02, "{widths:?}");
        assert_eq!(svg.matches("class=\"cut\"").count(), 1);
        assert!(svg.contains(">9596 (31.99×)</text>"));
    }

    #[test]
    fn everything_lies_inside() {
        let svg = picture();
        let height = values(&svg, "svg", "height")[0];
        assert!(values(&svg, "rect", "y").iter().all(|y| (0.0..height - BAR).contains(y)));
        let ends = values(&svg, "rect", "width").into_iter().map(|width| LEFT + width);
        assert!(ends.into_iter().all(|end| end <= WIDTH - RIGHT + 0.1));
    }
}
