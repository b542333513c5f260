//! Line charts as SVG, for pages and as pictures of their own: the one place that draws them. Colours come from
//! `chart.css`, which follows light and dark mode. What is drawn is in `report` and `sweep`.

/// Units of the drawing. They are few, so that text stays readable where the page is narrow.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// With more points than this, dots would run into each other.
const MOST_DOTS: usize = 40;
/// Names in the legend that lie side by side are no longer, and there are no more of them.
const SHORT: usize = 11;
const BESIDE: usize = 3;

/// The style of charts, for the page that they stand in.
pub(crate) const STYLE: &str = include_str!("chart.css");

/// A chart with one or more curves.
pub(crate) struct Chart {
    /// The title, which names the vertical axis.
    pub title: String,
    /// What the horizontal axis shows.
    pub across: Across,
    /// The curves.
    pub curves: Vec<Curve>,
    /// Whether the vertical axis begins at zero, not below the smallest value.
    pub from_zero: bool,
    /// A point to draw a ring around: the best epoch.
    pub marked: Option<(f64, f64)>,
}

/// A horizontal axis.
pub(crate) enum Across {
    /// Whole numbers of this, such as epochs.
    Whole(&'static str),
    /// Places, each with what stands below it, in ascending order; and what the axis is called.
    Places(String, Vec<(f64, String)>),
}

/// One curve.
pub(crate) struct Curve {
    /// The name in the legend.
    pub name: String,
    /// The class that the style gives a colour.
    pub class: &'static str,
    /// Place and value of each point, and how far the value spreads to both sides.
    pub points: Vec<(f64, f64, f64)>,
}

/// Charts beside each other as a picture of its own; `None` if there is nothing to draw.
pub(crate) fn picture(charts: &[Chart]) -> Option<String> {
    let drawn: Vec<_> = charts.iter().filter_map(|c| Some((&c.title, c.drawing()?))).collect();
    let height = drawn.iter().map(|(_, (height, _))| *height).reduce(f64::max)? + 38.0;
    let width = WIDTH * drawn.len() as f64;
    let one = |(i, (title, (height, drawing))): (usize, &(&String, (f64, String)))| {
        let at = WIDTH * i as f64;
        format!(
            "<text class=\"title\" x=\"{:.0}\" y=\"22\">{}</text>\n<svg x=\"{at:.0}\" y=\"30\" width=\"{WIDTH}\" \
             height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n{drawing}</svg>\n",
            at + 8.0,
            escape(title)
        )
    };
    let inner: String = drawn.iter().enumerate().map(one).collect();
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\">\n<style>\n{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n{inner}</svg>\n"
    ))
}

impl Chart {
    /// The chart as a `figure` element; nothing if there is no finite point.
    pub(crate) fn figure(&self) -> String {
        let title = escape(&self.title);
        self.drawing().map_or(String::new(), |(height, drawing)| {
            format!(
                "<figure><figcaption>{title}</figcaption>\
                 <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n{drawing}</svg></figure>\n"
            )
        })
    }

    /// What is in the drawing, and its height.
    fn drawing(&self) -> Option<(f64, String)> {
        let finite = || self.curves.iter().flat_map(Curve::finite);
        let over = |of: fn((f64, f64, f64)) -> f64| {
            let values = || finite().map(of);
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
        };
        let (first, last) = over(|(x, _, _)| x);
        finite().next()?;
        let (low, high) =
            (over(|(_, y, spread)| y - spread).0, over(|(_, y, spread)| y + spread).1);
        let (x_axis, x_name) = match &self.across {
            Across::Whole(name) => (Axis::whole(first as u64, last as u64), *name),
            Across::Places(name, places) => (Axis::places(places), name.as_str()),
        };
        let y_axis =
            if self.from_zero { Axis::values(0.0, high * 1.05) } else { Axis::values(low, high) };
        let drawn = || self.curves.iter().filter(|curve| curve.finite().next().is_some());
        let beside = drawn().count() <= BESIDE && drawn().all(|curve| curve.name.len() <= SHORT);
        let added = if beside { 0.0 } else { 16.0 * (drawn().count() as f64 - 1.0) };
        let (top, height) = (TOP + added, HEIGHT + added);
        let (right, bottom) = (WIDTH - RIGHT, height - BOTTOM);
        let x = |place: f64| LEFT + x_axis.share(place) * (right - LEFT);
        let y = |value: f64| bottom - y_axis.share(value) * (bottom - top);
        let label = |class: &str, x: f64, y: f64, anchor: &str, text: &str| {
            let text = escape(text);
            format!(
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"
            )
        };

        let mut svg = String::new();
        for &tick in &y_axis.ticks {
            let at = y(tick);
            svg += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
            );
            svg += &label("tick", LEFT - 6.0, at + 4.0, "end", &y_axis.label(tick));
        }
        match &self.across {
            Across::Whole(_) => x_axis.ticks.iter().for_each(|tick| {
                svg += &label("tick", x(*tick), bottom + 18.0, "middle", &tick.to_string());
            }),
            Across::Places(_, places) => places.iter().for_each(|(place, text)| {
                svg += &label("tick", x(*place), bottom + 18.0, "middle", text);
            }),
        }
        svg += &label("axis", (LEFT + right) / 2.0, height - 6.0, "middle", x_name);
        for (index, curve) in drawn().enumerate() {
            let (across, down) = if beside { (100.0, 0.0) } else { (0.0, 16.0) };
            let at = LEFT + across * index as f64;
            let line = 14.0 + down * index as f64;
            svg += &format!(
                "<g class=\"{}\"><line class=\"curve\" x1=\"{at}\" x2=\"{}\" y1=\"{line}\" y2=\"{line}\"/>\
                 <text class=\"legend\" x=\"{}\" y=\"{}\">{}</text></g>\n",
                curve.class,
                at + 20.0,
                at + 26.0,
                line + 4.0,
                escape(&curve.name),
            );
            svg += &curve.svg(&x, &y, |place| self.across.text(place));
        }
        if let Some((place, value)) = self.marked.filter(|marked| marked.1.is_finite()) {
            svg += &format!(
                "<circle class=\"marked\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"7\">\
                 <title>best: {}, {value:.4}</title></circle>\n",
                x(place),
                y(value),
                self.across.text(place),
            );
        }
        Some((height, svg))
    }
}

impl Across {
    /// A place in words.
    fn text(&self, place: f64) -> String {
        match self {
            Self::Whole(name) => format!("{name} {place}"),
            Self::Places(name, places) => {
                let text = places.iter().find(|(at, _)| *at == place).map(|(_, text)| text);
                escape(&format!("{name} {}", text.map_or("", String::as_str)))
            }
        }
    }
}

impl Curve {
    fn finite(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        self.points.iter().copied().filter(|(_, value, _)| value.is_finite())
    }

    fn svg(
        &self,
        x: &dyn Fn(f64) -> f64,
        y: &dyn Fn(f64) -> f64,
        words: impl Fn(f64) -> String,
    ) -> String {
        let (mut line, mut dots, mut bars) = (String::new(), String::new(), String::new());
        let name = escape(&self.name);
        for (place, value, spread) in self.finite() {
            let (at, up, number) = (x(place), y(value), short_number(value));
            line += &format!("{at:.1},{up:.1} ");
            dots += &format!(
                "<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"3\">\
                 <title>{}: {name} {number}</title></circle>",
                words(place)
            );
            if spread > 0.0 {
                let (low, high) = (y(value - spread), y(value + spread));
                bars += &format!(
                    "<line class=\"spread\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\"/>"
                );
            }
        }
        if self.finite().count() > MOST_DOTS {
            dots.clear();
        }
        let class = self.class;
        format!(
            "<g class=\"{class}\">{bars}<polyline class=\"curve\" points=\"{line}\"/>{dots}</g>\n"
        )
    }
}

/// Text as HTML and SVG show it.
pub(crate) fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// The range of an axis and its ticks, which lie within the range.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    step: f64,
}

impl Axis {
    /// Whole numbers, about six ticks.
    fn whole(first: u64, last: u64) -> Self {
        let step = nice_step((last - first) as f64 / 6.0).max(1.0).round();
        let mut ticks: Vec<f64> = vec![first as f64];
        let mut next = (first as f64 / step).floor() * step + step;
        while next <= last as f64 {
            // A tick too near the first one would run into its label.
            if next - first as f64 >= step * 0.5 {
                ticks.push(next);
            }
            next += step;
        }
        let margin = if first == last { 0.5 } else { 0.0 };
        Self { low: first as f64 - margin, high: last as f64 + margin, ticks, step }
    }

    /// From the first place to the last, with a margin.
    fn places(places: &[(f64, String)]) -> Self {
        let ticks: Vec<f64> = places.iter().map(|(place, _)| *place).collect();
        let (first, last) = (ticks.first().copied(), ticks.last().copied());
        let (first, last) = (first.unwrap_or(0.0), last.unwrap_or(0.0));
        let margin = if first < last { (last - first) * 0.06 } else { 0.5 };
        Self { low: first - margin, high: last + margin, ticks, step: 1.0 }
    }

    /// Round numbers that enclose the values, about five ticks.
    fn values(low: f64, high: f64) -> Self {
        let span = high - low;
        let step = if span > 0.0 && span.is_finite() {
            nice_step(span / 5.0)
        } else {
            nice_step(low.abs().clamp(1e-12, 1e12) / 10.0)
        };
        let first = (low / step + 1e-9).floor();
        let count = ((high / step - 1e-9).ceil() - first).clamp(1.0, 12.0);
        let ticks: Vec<f64> = (0..=count as u32).map(|i| (first + f64::from(i)) * step).collect();
        Self { low: first * step, high: (first + count) * step, ticks, step }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick's number with as many digits as the step between ticks needs.
    fn label(&self, tick: f64) -> String {
        if tick.abs() < self.step * 1e-6 {
            return "0".into();
        }
        if self.step < 1e-4 || self.step >= 1e5 {
            return short_number(tick);
        }
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        format!("{tick:.digits$}")
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `least`.
fn nice_step(least: f64) -> f64 {
    if least <= 0.0 || !least.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A number with four significant digits at most, in exponent form where it is very small or big.
pub(crate) fn short_number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let plain = (1e-3..1e6).contains(&size);
    let digits = (3.0 - size.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = if plain { format!("{value:.digits$}") } else { format!("{value:.3e}") };
    let (number, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    if number.contains('.') {
        return number.trim_end_matches('0').trim_end_matches('.').to_owned() + exponent;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.1, "0.1"),
            (0.0, "0"),
            (0.012345, "0.01235"),
            (3.0e-5, "3e-5"),
            (1.2346e-7, "1.235e-7"),
            (0.85412, "0.8541"),
            (12.0, "12"),
            (1234.5, "1234"),
            (2.5e7, "2.5e7"),
        ] {
            assert_eq!(short_number(value), text);
        }
    }

    #[test]
    fn axes_enclose_the_values_with_few_round_ticks() {
        for (low, high) in [
            (0.37, 2.31),
            (0.1, 0.1),
            (0.0, 0.105),
            (-3.0, 1e6),
            (0.0, 3.15e-5),
            (0.8412, 0.8598),
            (0.0, 0.0),
            (1e-300, 1e300),
        ] {
            let axis = Axis::values(low, high);
            assert!(axis.low <= low + axis.step * 1e-6, "{low} {high}");
            assert!(axis.high >= high - axis.step * 1e-6, "{low} {high}");
            assert!((2..=13).contains(&axis.ticks.len()), "{low} {high}: {:?}", axis.ticks);
            assert!(axis.ticks.iter().all(|tick| (0.0..=1.000001).contains(&axis.share(*tick))));
            let labels: Vec<String> = axis.ticks.iter().map(|tick| axis.label(*tick)).collect();
            assert!(labels.iter().all(|label| label.len() <= 7), "{labels:?}");
            assert!(labels.windows(2).all(|pair| pair[0] != pair[1]), "{labels:?}");
        }
    }

    #[test]
    fn whole_ticks_are_apart() {
        assert_eq!(Axis::whole(1, 10).ticks, [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Axis::whole(1, 1).ticks, [1.0]);
        assert_eq!(Axis::whole(1, 300).ticks, [1.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0]);
    }

    #[test]
    fn a_chart_without_finite_points_is_left_out() {
        let chart = |points: &[(f64, f64)]| Chart {
            title: "t".into(),
            across: Across::Whole("epoch"),
            curves: vec![Curve {
                name: "a".into(),
                class: "train",
                points: points.iter().map(|&(x, y)| (x, y, 0.0)).collect(),
            }],
            from_zero: false,
            marked: None,
        };
        assert_eq!(chart(&[]).figure(), "");
        assert_eq!(chart(&[(1.0, f64::NAN)]).figure(), "");
        let svg = chart(&[(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)]).figure();
        assert!(svg.contains("polyline") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(escape("plain"), "plain");
    }
}
