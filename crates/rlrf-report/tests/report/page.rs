use rlrf_report::{Summary, TraceFeedback, TrainingCurve, report_html};
use serde_json::json;

use crate::fixture::{empty, evaluation, trace, word_problems};
use crate::markup::{Tag, tags};

const HOSTILE: &str =
    "</style></title><script>alert(\"x\")</script>'\"><img src=x onerror='y'>&amp;\u{0}\u{1b}[31m";

fn hostile() -> Summary {
    let mut summary = word_problems();
    let text = || HOSTILE.to_string();
    (summary.name, summary.version, summary.configuration_digest) = (text(), text(), text());
    summary.models = vec![text()];
    summary.warnings = vec![text()];
    summary.evaluations.push(evaluation(HOSTILE, 0, 1, 2));
    summary.iterations[0].aspects[0].aspect = text();
    summary.training[1].stage = text();
    summary.timings[0].stage = text();
    let trace = &mut summary.traces[0];
    (trace.instruction, trace.problem, trace.draft, trace.refinement) = (text(), text(), text(), text());
    trace.reference = Some(text());
    trace.feedback =
        vec![TraceFeedback { aspect: text(), reason: Some(text()), level: Some(255), critique: text() }];
    summary
}

/// Vertices of all lines, by class.
fn vertices(tags: &[Tag], class: &str) -> usize {
    let lines = tags.iter().filter(|tag| tag.name == "path" && tag.has_class("line") && tag.has_class(class));
    lines.filter_map(|tag| tag.attribute("d")).map(|d| d.matches(['M', 'L']).count()).sum()
}

fn marks(tags: &[Tag]) -> usize {
    tags.iter().filter(|tag| tag.name == "circle").count()
}

#[test]
fn pages_are_well_formed() {
    for summary in [word_problems(), empty(), hostile()] {
        let page = report_html(&summary);
        let found = tags(&page).unwrap();
        for once in ["html", "head", "body", "main", "h1"] {
            assert_eq!(found.iter().filter(|tag| tag.name == once).count(), 1, "{once} of {}", summary.name);
        }
        let links = found.iter().filter_map(|tag| tag.attribute("href"));
        let ids: Vec<&str> = found.iter().filter_map(|tag| tag.attribute("id")).collect();
        for link in links {
            assert!(ids.contains(&link.trim_start_matches('#')), "{link} leads nowhere");
        }
    }
}

#[test]
fn texts_stay_texts() {
    let page = report_html(&hostile());
    assert!(!page.contains(HOSTILE));
    let found = tags(&page).unwrap();
    for forbidden in ["script", "img", "link", "iframe"] {
        assert!(!found.iter().any(|tag| tag.name == forbidden), "{forbidden}");
    }
    for attribute in found.iter().flat_map(|tag| &tag.attributes) {
        assert!(!attribute.0.starts_with("on") && attribute.0 != "src", "{attribute:?}");
    }
    assert!(!page.contains(['\u{0}', '\u{1b}']));
    assert!(page.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#39;"));
    // Escaped once: what the text already had as an entity is shown as it stands.
    assert!(page.contains("&amp;amp;") && !page.contains("&amp;amp;amp;"));
}

#[test]
fn nothing_is_fetched() {
    let page = report_html(&word_problems());
    for outside in ["http:", "https:", "url(", "@import", "//"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_figure_is_named_and_described() {
    let page = report_html(&word_problems());
    let charts: Vec<&str> =
        page.split("<svg ").skip(1).filter_map(|rest| rest.split("</svg>").next()).collect();
    // Sets, reflection, aspects of two iterations, loss of three stages and four more charts for two of them.
    assert_eq!(charts.len(), 2 + 1 + 2 + 3 + 4 * 2);
    for chart in charts {
        assert!(chart.contains("role=\"img\">\n<title>") && chart.contains("</title>\n<desc>"), "{chart}");
        assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }
}

#[test]
fn charts_have_as_many_points_as_data() {
    let mut summary = empty();
    summary.evaluations = word_problems().evaluations;
    let found = tags(&report_html(&summary)).unwrap();
    assert_eq!((vertices(&found, "series-1"), marks(&found)), (6, 6));
    assert_eq!(found.iter().filter(|tag| tag.has_class("interval")).count(), 6);

    summary = empty();
    summary.training = word_problems().training;
    let found = tags(&report_html(&summary)).unwrap();
    // Loss everywhere; margin, accuracy, chosen and drift where there are preferences; rejected and lost as second lines.
    assert_eq!(vertices(&found, "series-1"), 60 + (48 + 24) * 5);
    assert_eq!(vertices(&found, "series-2"), (48 + 24) * 2);
    // Only the shortest stage marks its points.
    assert_eq!(marks(&found), 24 * 7);

    summary = empty();
    summary.iterations = word_problems().iterations;
    let found = tags(&report_html(&summary)).unwrap();
    // Two rates and three aspects, one of them known for samples only, of two iterations.
    assert_eq!(found.iter().filter(|tag| tag.has_class("bar")).count(), 2 * (2 + 3 + 3 + 1));
}

#[test]
fn missing_steps_are_gaps() {
    let mut summary = empty();
    let losses = [json!(2.0), json!(null), json!(1.5), json!(1.25)];
    let steps = losses.iter().map(|loss| json!({"loss": loss})).collect();
    summary.training = vec![TrainingCurve { stage: "sft".into(), steps }];
    let found = tags(&report_html(&summary)).unwrap();
    let line = found.iter().find(|tag| tag.has_class("line")).and_then(|tag| tag.attribute("d")).unwrap();
    assert_eq!((line.matches('M').count(), line.matches('L').count()), (2, 1));
}

#[test]
fn nothing_known_is_said_so() {
    let page = report_html(&empty());
    assert!(page.contains("No accuracy has been measured yet."));
    assert!(!page.contains("NaN") && !page.contains("<svg") && !page.contains("id=\"reflection\""));

    let mut summary = word_problems();
    summary.evaluations = vec![evaluation("none", 0, 0, 0)];
    summary.iterations.truncate(1);
    summary.iterations[0].reflection = Default::default();
    for movement in &mut summary.iterations[0].aspects {
        (movement.sampled, movement.drafts, movement.refined) = (None, Some(f64::NAN), None);
    }
    summary.training = vec![TrainingCurve { stage: "dpo M_0".into(), steps: Vec::new() }];
    summary.traces = vec![trace(0, None)];
    summary.traces[0].scores = (Some(f64::NAN), Some(f64::INFINITY));
    summary.timings.iter_mut().for_each(|timing| timing.seconds = 0.0);
    let page = report_html(&summary);
    assert!(tags(&page).is_ok());
    assert!(!page.contains("NaN") && !page.contains("inf%") && !page.contains(">inf"), "{page}");
}

#[test]
fn the_headline_says_what_improved() {
    let page = report_html(&word_problems());
    let headline = page.split("</header>").next().unwrap_or_default();
    for part in [
        "<h1>word-problems</h1>",
        "3,612,160 parameters · 2 iterations · seed 7",
        "39.0% <span class=\"arrow\">→</span> 47.0% <span class=\"change up\">+8.0 points</span>",
        "M_0 to M_2, 400 items; the 95% intervals overlap",
        "<span class=\"change down\">-0.7 points</span>",
    ] {
        assert!(headline.contains(part), "{part} is not in {headline}");
    }
}

#[test]
fn conversations_mark_right_and_wrong() {
    let mut summary = empty();
    for (correct, mark) in [(Some(true), "✓ right"), (Some(false), "✗ wrong"), (None, "not checked")] {
        summary.traces = vec![trace(0, correct)];
        let page = report_html(&summary);
        assert_eq!(page.matches(mark).count(), 2, "{mark}");
        let parts = [
            "Problem train/0412",
            "Draft · score 1.84",
            "level 2 of 3",
            "chosen because: It asks for a number.",
            "level could not be read",
            "Refinement",
        ];
        let places: Vec<Option<usize>> = parts.iter().map(|part| page.find(part)).collect();
        assert!(places.is_sorted() && places[0].is_some(), "{places:?}");
    }
}
