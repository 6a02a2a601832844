//! The page of a comparison: one chart per method on a common scale, then every table.

use rlrf_eval::evaluation::{Unit, unit};

use super::chart::{Line, LineChart, Point};
use super::markup::{Section, charts, escape, table};
use super::page;
use crate::grid::{Estimate, Grid, Measure};
use crate::grid_table::{labelled, tables};
use crate::progress::spoken;

/// The page as a complete document. Names are untrusted: all are escaped.
#[must_use]
pub fn grid_html(grid: &Grid) -> String {
    let figures = progress_charts(grid);
    let tables: String = tables(grid)
        .into_iter()
        .map(|found| {
            let header: Vec<&str> = found.header.iter().map(String::as_str).collect();
            table(&found.caption, &header, &found.rows)
        })
        .collect();
    let note = "<p>M_0 is the model that a run began with. Bars show the 95% interval of the mean over seeds; a method with one \
                seed has none.</p>\n";
    let sections = [
        Section { id: "progress", heading: "Progress", body: format!("{note}{figures}") },
        Section { id: "figures", heading: "Figures", body: tables },
    ];
    let headline = format!(
        "<p class=\"kind\">Methods of one loop, compared</p>\n<h1>{}</h1>\n<p class=\"quiet\">{} methods · {} of {} runs \
         finished</p>\n",
        escape(&grid.name),
        grid.methods.len(),
        grid.runs.len(),
        grid.planned
    );
    page(&grid.name, &headline, "", &sections)
}

/// Of every measure, of the length of answers, and of the divergence.
fn progress_charts(grid: &Grid) -> String {
    let measures = grid.measures();
    let mut figures: String = measures
        .iter()
        .map(|measure| {
            let is_share = unit(&measure.metric) == Unit::Share;
            let (scale, unit) = if is_share { (100.0, ", %") } else { (1.0, "") };
            let heading = format!("{}: {}{unit}", measure.set, spoken(&measure.metric));
            method_charts(grid, &heading, scale, &|method, iteration| grid.value(method, measure, iteration))
        })
        .collect();
    if let Some(Measure { set, .. }) = measures.first() {
        let heading = format!("{set}: length of answers, tokens");
        figures += &method_charts(grid, &heading, 1.0, &|method, iteration| {
            grid.figure(method, |run| run.length(set, iteration))
        });
    }
    figures
        + &method_charts(grid, "Divergence from M_0, nats per response", 1.0, &|method, iteration| {
            grid.figure(method, |run| run.kl(iteration))
        })
}

/// One chart a method, all on one scale; nothing where nothing was measured.
fn method_charts(
    grid: &Grid,
    heading: &str,
    scale: f64,
    of: &dyn Fn(&str, u32) -> Option<Estimate>,
) -> String {
    let last = grid.iterations();
    let values = grid.methods.iter().flat_map(|method| {
        (0..=last).filter_map(|iteration| of(method, iteration)).flat_map(|found| {
            let [low, high] = found.interval.unwrap_or([found.mean; 2]);
            [low.max(0.0) * scale, high * scale]
        })
    });
    // One scale for all methods.
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return String::new();
    }
    let figures: String = grid
        .methods
        .iter()
        .map(|method| {
            let points: Vec<Point> = (0..=last)
                .map(|iteration| {
                    let found = of(method, iteration);
                    let interval = found.and_then(|found| found.interval);
                    Point {
                        x: f64::from(iteration),
                        y: found.map(|found| found.mean * scale),
                        interval: interval.map(|[low, high]| (low.max(0.0) * scale, high * scale)),
                        label: found.map(|found| labelled(found, scale)).unwrap_or_default(),
                    }
                })
                .collect();
            let described: Vec<String> =
                points.iter().map(|point| format!("M_{}: {}", point.x, point.label)).collect();
            LineChart {
                title: method,
                description: &described.join("; "),
                names: (0..=last).map(|iteration| (f64::from(iteration), format!("M_{iteration}"))).collect(),
                lines: vec![Line { name: method, points }],
                include: &[low, high],
                write_values: true,
            }
            .html()
        })
        .collect();
    format!("<h3>{}</h3>\n{}", escape(heading), charts(&figures))
}
