//! Values of several things under several names: horizontal bars, which leave room for names on a narrow screen.

use super::super::markup::escape;
use super::axis::Axis;
use super::{WIDTH, figure, series_class};
use crate::figure::NONE;

const BAR: f64 = 13.0;
const NAME: f64 = 18.0;
const SPACE: f64 = 8.0;
const LEFT: f64 = 4.0;
const RIGHT: f64 = 56.0;
const BOTTOM: f64 = 20.0;

/// The bars under one name, one for each series.
pub(in super::super) struct BarGroup<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) values: Vec<Option<f64>>,
}

/// Groups of bars over one axis.
pub(in super::super) struct BarChart<'a> {
    pub(in super::super) title: &'a str,
    pub(in super::super) description: &'a str,
    pub(in super::super) series: &'a [&'a str],
    pub(in super::super) groups: Vec<BarGroup<'a>>,
    /// Lowest value, highest value, distance of ticks.
    pub(in super::super) axis: (f64, f64, f64),
    /// How a value is written beside its bar.
    pub(in super::super) write: fn(f64) -> String,
}

impl BarChart<'_> {
    /// The chart as a `figure`.
    pub(in super::super) fn html(&self) -> String {
        let (low, high, step) = self.axis;
        let axis = Axis::fixed(low, high, step);
        let place = |value: f64| LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT);
        let group_height = NAME + BAR * self.series.len() as f64 + SPACE;
        let bottom = group_height * self.groups.len() as f64;
        let mut drawing = String::new();
        for tick in axis.ticks() {
            let x = place(tick);
            // The first label would be cut off by the edge if it were centred.
            let anchor = if tick == low { "start" } else { "middle" };
            drawing.push_str(&format!(
                "<path class=\"grid\" d=\"M{x:.1} {:.1}V{bottom:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
                NAME - 4.0,
                bottom + 13.0,
                axis.label(tick),
            ));
        }
        for (index, group) in self.groups.iter().enumerate() {
            let top = group_height * index as f64;
            let name = escape(group.name);
            drawing.push_str(&format!(
                "<text class=\"name\" x=\"{LEFT}\" y=\"{:.1}\">{name}</text>\n",
                top + 13.0
            ));
            for (series, value) in group.values.iter().enumerate() {
                let y = top + NAME + BAR * series as f64;
                let value = value.filter(|value| value.is_finite());
                let end = value.map_or(LEFT, place);
                let written = value.map_or(NONE.into(), self.write);
                if value.is_some() {
                    drawing.push_str(&format!(
                        "<rect class=\"bar {}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{name}, {}: {}</title></rect>",
                        series_class(series),
                        (end - LEFT).max(1.0),
                        BAR - 2.0,
                        escape(self.series[series]),
                        escape(&written),
                    ));
                }
                drawing.push_str(&format!(
                    "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                    end + 5.0,
                    y + BAR - 3.5,
                    escape(&written)
                ));
            }
        }
        figure(self.title, self.description, self.series, bottom + BOTTOM, &drawing)
    }
}
