//! Text and tables as HTML. Everything that comes from data passes through [`escape`].

use std::borrow::Cow;

/// Text as HTML shows it, in elements and in quoted attributes. Control characters become visible.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    let special =
        |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || (c.is_control() && c != '\n' && c != '\t');
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A table of plain text; the first cell of a row names it.
pub(super) fn table(caption: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    let head: String = header.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escape(cell))).collect();
    let mut body = String::new();
    for row in rows {
        body.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            body.push_str(&match column {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td>{cell}</td>"),
            });
        }
        body.push_str("</tr>\n");
    }
    // A table wider than the screen scrolls on its own: the keyboard must reach it.
    let caption = escape(caption);
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )
}

/// Charts side by side where there is room.
pub(super) fn charts(figures: &str) -> String {
    format!("<div class=\"charts\">\n{figures}</div>\n")
}

/// A section of the page; `body` is HTML.
pub(super) struct Section {
    /// Anchor.
    pub(super) id: &'static str,
    /// Heading, plain text.
    pub(super) heading: &'static str,
    /// What it holds, as HTML.
    pub(super) body: String,
}

impl Section {
    pub(super) fn html(&self) -> String {
        let Self { id, heading, body } = self;
        format!("<section id=\"{id}\">\n<h2>{heading}</h2>\n{body}</section>\n")
    }
}
