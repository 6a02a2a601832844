//! Charts as inline SVG: drawn in the page's own colours, named and described for screen readers.

mod axis;
mod bars;
mod lines;

pub(super) use bars::{BarChart, BarGroup};
pub(super) use lines::{Line, LineChart, Point};

use super::markup::escape;

/// Width of every chart, in the units of its view box: about the pixels of a phone.
const WIDTH: f64 = 360.0;

/// An SVG with its caption and, where there are several series, their legend.
fn figure(title: &str, description: &str, series: &[&str], height: f64, drawing: &str) -> String {
    let legend: String = match series {
        [] | [_] => String::new(),
        several => {
            let keys: String = several
                .iter()
                .enumerate()
                .map(|(index, name)| {
                    format!("<span class=\"key {}\">{}</span> ", series_class(index), escape(name))
                })
                .collect();
            format!("<div class=\"legend\">{keys}</div>\n")
        }
    };
    let (title, description) = (escape(title), escape(description));
    format!(
        "<figure>\n<figcaption>{title}</figcaption>\n{legend}<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\n\
         <title>{title}</title>\n<desc>{description}</desc>\n{drawing}</svg>\n</figure>\n"
    )
}

/// The style sheet knows three series; none of our charts has more.
fn series_class(index: usize) -> &'static str {
    ["series-1", "series-2", "series-3"][index % 3]
}
