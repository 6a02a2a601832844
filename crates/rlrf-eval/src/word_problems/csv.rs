//! Comma-separated values (RFC 4180): cells may be quoted, and quoted ones hold commas, line breaks and doubled quotes.

/// The rows with the lines that they begin on, from 1; blank lines are skipped.
pub(super) fn rows(text: &str) -> Vec<(usize, Vec<String>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun, mut quoted) = (1, 1, false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                end(&mut rows, &mut row, &mut cell, begun);
                begun = line;
            }
            c => cell.push(c),
        }
    }
    end(&mut rows, &mut row, &mut cell, begun);
    rows
}

fn end(rows: &mut Vec<(usize, Vec<String>)>, row: &mut Vec<String>, cell: &mut String, line: usize) {
    if !row.is_empty() || !cell.is_empty() {
        row.push(std::mem::take(cell));
        rows.push((line, std::mem::take(row)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas_breaks_and_quotes() {
        let found = rows("a,b\r\n\"1, \"\"2\"\"\n3\",\n\nx,y");
        let cells = |cells: [&str; 2]| cells.map(String::from).to_vec();
        assert_eq!(found, [(1, cells(["a", "b"])), (2, cells(["1, \"2\"\n3", ""])), (5, cells(["x", "y"]))]);
    }
}
