//! `report.html`: one page without scripts or outside resources, in the order in which a reader asks.

mod accuracy;
mod chart;
mod grid;
mod markup;
mod reflection;
mod run;
mod trace;
mod training;

pub use grid::grid_html;
use markup::{Section, escape};

use crate::summary::Summary;

const STYLE: &str = include_str!("style.css");

/// The page as a complete document.
///
/// Names, texts and warnings of the summary are untrusted: all are escaped, and the page forbids itself scripts and
/// requests by a content security policy.
#[must_use]
pub fn report_html(summary: &Summary) -> String {
    let sections: Vec<Section> = [
        accuracy::accuracy(summary),
        reflection::reflection(summary),
        reflection::aspects(summary),
        reflection::pairs(summary),
        training::training(summary),
        trace::traces(summary),
        run::timings(summary),
        run::identity(summary),
    ]
    .into_iter()
    .flatten()
    .collect();
    page(&summary.name, &run::headline(summary), &run::warnings(summary), &sections)
}

/// A document: its headline, then its sections with links to them; `before` stands before the first.
fn page(name: &str, headline: &str, before: &str, sections: &[Section]) -> String {
    let links: String = sections
        .iter()
        .map(|section| format!("<a href=\"#{}\">{}</a>\n", section.id, section.heading))
        .collect();
    let body: String = sections.iter().map(Section::html).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{name} · rlrf</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n{headline}</header>\n\
         <nav aria-label=\"Sections\">\n{links}</nav>\n<main>\n{before}{body}</main>\n</body>\n</html>\n",
        name = escape(name),
    )
}
