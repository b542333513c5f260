//! A small line chart over epochs as SVG. Its colours come from the page's style, so that it follows light and dark
//! mode.

/// Units of the drawing. They are few, so that text stays readable where the page is narrow.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// With more points than this, dots would run into each other.
const MOST_DOTS: usize = 40;

/// A chart with one or more curves.
pub(super) struct Chart {
    /// The title, which names the vertical axis.
    pub title: &'static str,
    /// The curves; all over the same epochs.
    pub curves: Vec<Curve>,
    /// Whether the vertical axis begins at zero, not below the smallest value.
    pub from_zero: bool,
    /// A point to draw a ring around: the best epoch.
    pub marked: Option<(u64, f64)>,
}

/// One curve.
pub(super) struct Curve {
    /// The name in the legend.
    pub name: &'static str,
    /// The class that the page's style gives a colour.
    pub class: &'static str,
    /// Epoch and value.
    pub points: Vec<(u64, f64)>,
}

impl Chart {
    /// The chart as a `figure` element; nothing if there is no finite point.
    pub(super) fn svg(&self) -> String {
        let finite = || self.curves.iter().flat_map(Curve::finite);
        let (Some(first), Some(last)) = (finite().map(|p| p.0).min(), finite().map(|p| p.0).max())
        else {
            return String::new();
        };
        let low = finite().map(|p| p.1).fold(f64::INFINITY, f64::min);
        let high = finite().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
        let x_axis = Axis::epochs(first, last);
        let y_axis =
            if self.from_zero { Axis::values(0.0, high * 1.05) } else { Axis::values(low, high) };
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let x = |epoch: f64| LEFT + x_axis.share(epoch) * (right - LEFT);
        let y = |value: f64| bottom - y_axis.share(value) * (bottom - TOP);
        let label = |class: &str, x: f64, y: f64, anchor: &str, text: &str| {
            format!(
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"
            )
        };

        let title = self.title;
        let mut svg = format!(
            "<figure><figcaption>{title}</figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} by epoch\">\n"
        );
        for &tick in &y_axis.ticks {
            let at = y(tick);
            svg += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
            );
            svg += &label("tick", LEFT - 6.0, at + 4.0, "end", &y_axis.label(tick));
        }
        for &tick in &x_axis.ticks {
            svg += &label("tick", x(tick), bottom + 18.0, "middle", &tick.to_string());
        }
        svg += &label("axis", (LEFT + right) / 2.0, HEIGHT - 6.0, "middle", "epoch");
        let drawn = self.curves.iter().filter(|curve| curve.finite().next().is_some());
        for (index, curve) in drawn.enumerate() {
            let at = LEFT + 100.0 * index as f64;
            svg += &format!(
                "<g class=\"{}\"><line class=\"curve\" x1=\"{at}\" x2=\"{}\" y1=\"14\" y2=\"14\"/>\
                 <text class=\"legend\" x=\"{}\" y=\"18\">{}</text></g>\n",
                curve.class,
                at + 20.0,
                at + 26.0,
                curve.name,
            );
            svg += &curve.svg(x, y);
        }
        if let Some((epoch, value)) = self.marked.filter(|marked| marked.1.is_finite()) {
            svg += &format!(
                "<circle class=\"marked\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"7\">\
                 <title>best: epoch {epoch}, {value:.4}</title></circle>\n",
                x(epoch as f64),
                y(value),
            );
        }
        svg + "</svg></figure>\n"
    }
}

impl Curve {
    fn finite(&self) -> impl Iterator<Item = (u64, f64)> {
        self.points.iter().copied().filter(|(_, value)| value.is_finite())
    }

    fn svg(&self, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
        let (mut line, mut dots) = (String::new(), String::new());
        for (epoch, value) in self.finite() {
            let (x, y, name, number) = (x(epoch as f64), y(value), self.name, short_number(value));
            line += &format!("{x:.1},{y:.1} ");
            dots += &format!(
                "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\">\
                 <title>epoch {epoch}: {name} {number}</title></circle>"
            );
        }
        if self.finite().count() > MOST_DOTS {
            dots.clear();
        }
        let class = self.class;
        format!("<g class=\"{class}\"><polyline class=\"curve\" points=\"{line}\"/>{dots}</g>\n")
    }
}

/// The range of an axis and its ticks, which lie within the range.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    step: f64,
}

impl Axis {
    /// Whole epochs, about six ticks.
    fn epochs(first: u64, last: u64) -> Self {
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
pub(super) fn short_number(value: f64) -> String {
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
    fn epochs_are_whole_and_apart() {
        assert_eq!(Axis::epochs(1, 10).ticks, [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Axis::epochs(1, 1).ticks, [1.0]);
        assert_eq!(Axis::epochs(1, 300).ticks, [1.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0]);
    }

    #[test]
    fn a_chart_without_finite_points_is_left_out() {
        let curve = |points| Curve { name: "a", class: "train", points };
        let chart = |points| Chart {
            title: "t",
            curves: vec![curve(points)],
            from_zero: false,
            marked: None,
        };
        assert_eq!(chart(vec![]).svg(), "");
        assert_eq!(chart(vec![(1, f64::NAN)]).svg(), "");
        let svg = chart(vec![(1, 2.0), (2, f64::NAN), (3, 1.0)]).svg();
        assert!(svg.contains("polyline") && !svg.contains("NaN"), "{svg}");
    }
}
