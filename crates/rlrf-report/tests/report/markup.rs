//! A small reader of markup, strict where browsers forgive.

/// Elements that have no end.
const VOID: [&str; 2] = ["meta", "br"];

/// A start tag as it stands in the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Tag {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has_class(&self, class: &str) -> bool {
        self.attribute("class").is_some_and(|classes| classes.split(' ').any(|found| found == class))
    }
}

/// All start tags of a page.
///
/// # Errors
/// The first tag that is not closed in order, text with a bare `<`, or an attribute that is not quoted.
pub(crate) fn tags(page: &str) -> Result<Vec<Tag>, String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    let (mut open, mut tags): (Vec<String>, Vec<Tag>) = (Vec::new(), Vec::new());
    while let Some(start) = rest.find('<') {
        if rest[..start].contains('>') && open.last().is_none_or(|name| name != "style") {
            return Err(format!("bare > in {:?}", &rest[..start]));
        }
        rest = &rest[start + 1..];
        if let Some(end) = rest.strip_prefix('/') {
            let (name, after) = end.split_once('>').ok_or("an end tag that does not end")?;
            if open.pop().as_deref() != Some(name) {
                return Err(format!("</{name}> closes nothing that is open: {open:?}"));
            }
            rest = after;
            continue;
        }
        let (tag, empty, after) = start_tag(rest)?;
        if !empty && !VOID.contains(&tag.name.as_str()) {
            open.push(tag.name.clone());
        }
        tags.push(tag);
        rest = after;
    }
    if open.is_empty() { Ok(tags) } else { Err(format!("never closed: {open:?}")) }
}

/// A tag from behind its `<`, whether it ends itself, and what follows.
fn start_tag(text: &str) -> Result<(Tag, bool, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).ok_or("a tag that does not end")?;
    let mut tag = Tag { name: text[..end].to_string(), attributes: Vec::new() };
    if tag.name.is_empty() {
        return Err(format!("bare < before {:?}", text.chars().take(20).collect::<String>()));
    }
    let mut rest = &text[end..];
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("/>") {
            return Ok((tag, true, after));
        }
        if let Some(after) = rest.strip_prefix('>') {
            return Ok((tag, false, after));
        }
        let end = rest.find(['=', '>', ' ']).ok_or_else(|| format!("<{} does not end", tag.name))?;
        let name = rest[..end].to_string();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            let quoted = after.strip_prefix('"').ok_or_else(|| format!("{name} is not quoted"))?;
            let (inside, after) = quoted.split_once('"').ok_or_else(|| format!("{name} does not end"))?;
            value = inside.to_string();
            rest = after;
        }
        tag.attributes.push((name, value));
    }
}

#[test]
fn the_reader_finds_faults() {
    for page in ["<p>", "<p></div>", "<p class=x></p>", "<p>1 < 2</p>", "<p>a > b</p>", "<b><i></b></i>"] {
        assert!(tags(&format!("<!DOCTYPE html>{page}")).is_err(), "{page}");
    }
    let found = tags("<!DOCTYPE html><p class=\"a b\"><path d=\"M1 2\"/></p>").unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0].has_class("b") && !found[0].has_class("a b"));
}
