//! Values over steps or iterations.

use super::super::markup::escape;
use super::axis::Axis;
use super::{WIDTH, figure, series_class};

const HEIGHT: f64 = 200.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 26.0;

/// Up to so many points each gets a mark of its own; a longer line shows its shape without.
const MARKED_POINTS: usize = 40;

/// A value of a series.
pub(in super::super) struct Point {
    pub(in super::super) x: f64,
    /// A missing value is a gap in the line.
    pub(in super::super) y: Option<f64>,
    /// Its uncertainty.
    pub(in super::super) interval: Option<(f64, f64)>,
    /// Shown on pointing at its mark.
    pub(in super::super) label: String,
}

/// A series.
pub(in super::super) struct Line<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) points: Vec<Point>,
}

/// Lines over one horizontal axis.
pub(in super::super) struct LineChart<'a> {
    pub(in super::super) title: &'a str,
    pub(in super::super) description: &'a str,
    pub(in super::super) lines: Vec<Line<'a>>,
    /// Positions named under the horizontal axis.
    pub(in super::super) names: Vec<(f64, String)>,
    /// Values that the vertical axis must hold beside the data.
    pub(in super::super) include: &'a [f64],
    /// Whether every value is written above its mark.
    pub(in super::super) write_values: bool,
}

impl LineChart<'_> {
    /// The chart as a `figure`.
    pub(in super::super) fn html(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = points().map(|point| point.x).chain(self.names.iter().map(|name| name.0));
        let (first, last) =
            across.fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), x| (first.min(x), last.max(x)));
        let place_x = |x: f64| {
            let share = if last > first { (x - first) / (last - first) } else { 0.5 };
            // Values are written above their marks, half to either side.
            let inset = if self.write_values { 26.0 } else { 0.0 };
            LEFT + inset + share * (WIDTH - LEFT - RIGHT - 2.0 * inset)
        };
        let values = points().flat_map(|point| {
            let (low, high) = point.interval.map_or((None, None), |(low, high)| (Some(low), Some(high)));
            [point.y, low, high].into_iter().flatten()
        });
        let axis = Axis::around(values.chain(self.include.iter().copied()).filter(|value| value.is_finite()));
        let place_y = |y: f64| TOP + (1.0 - axis.place(y)) * (HEIGHT - TOP - BOTTOM);

        let mut drawing = String::new();
        for tick in axis.ticks() {
            let y = place_y(tick);
            let class = if tick == 0.0 { "zero" } else { "grid" };
            drawing.push_str(&format!(
                "<path class=\"{class}\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                axis.label(tick),
            ));
        }
        for (x, name) in &self.names {
            drawing.push_str(&format!(
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                place_x(*x),
                HEIGHT - 6.0,
                escape(name)
            ));
        }
        for (index, line) in self.lines.iter().enumerate() {
            drawing.push_str(&draw_line(line, series_class(index), &place_x, &place_y, self.write_values));
        }
        let names: Vec<&str> = self.lines.iter().map(|line| line.name).collect();
        figure(self.title, self.description, &names, HEIGHT, &drawing)
    }
}

fn draw_line(
    line: &Line<'_>,
    class: &str,
    place_x: &dyn Fn(f64) -> f64,
    place_y: &dyn Fn(f64) -> f64,
    write_values: bool,
) -> String {
    let (mut path, mut marks) = (String::new(), String::new());
    let mut drawing_on = false;
    for (index, point) in line.points.iter().enumerate() {
        let Some(value) = point.y.filter(|y| y.is_finite()) else {
            drawing_on = false;
            continue;
        };
        let (x, y) = (place_x(point.x), place_y(value));
        let next = line.points.get(index + 1).and_then(|next| next.y);
        let alone = !drawing_on && next.is_none();
        path.push_str(&format!("{}{x:.1} {y:.1}", if drawing_on { 'L' } else { 'M' }));
        drawing_on = true;
        if let Some((low, high)) = point.interval {
            let (low, high) = (place_y(low), place_y(high));
            marks.push_str(&format!(
                "<path class=\"interval {class}\" d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\"/>\n",
                x - 4.0,
                x - 4.0
            ));
        }
        if line.points.len() <= MARKED_POINTS || alone {
            marks.push_str(&format!(
                "<circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>\n",
                escape(&point.label)
            ));
        }
        if write_values {
            let above = point.interval.map_or(y, |(_, high)| place_y(high)) - 6.0;
            marks.push_str(&format!(
                "<text class=\"value\" x=\"{x:.1}\" y=\"{above:.1}\" text-anchor=\"middle\">{}</text>\n",
                escape(&point.label)
            ));
        }
    }
    format!("<path class=\"line {class}\" d=\"{path}\"/>\n{marks}")
}
