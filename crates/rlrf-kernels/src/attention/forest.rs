//! Which spans hang together.

use super::Span;

/// Groups spans that share rows: a root with the spans that have it, or each other, as prefix.
///
/// # Panics
/// If the spans do not cover `rows` in order, or a prefix does not lie before its span.
pub(super) fn forest(spans: &[Span], rows: usize) -> Vec<Vec<&Span>> {
    let mut covered = 0;
    for span in spans {
        assert!(span.rows.start == covered && span.rows.end >= covered, "spans must cover the rows in order");
        assert!(span.prefix.is_empty() || span.prefix.end <= covered, "a prefix must lie before its span");
        covered = span.rows.end;
    }
    assert_eq!(covered, rows, "spans must cover the rows");

    let mut tree_of: Vec<usize> = Vec::with_capacity(spans.len());
    let mut trees: Vec<Vec<&Span>> = Vec::new();
    for span in spans {
        let mut tree = trees.len();
        if !span.prefix.is_empty() {
            let first = spans.partition_point(|other| other.rows.end <= span.prefix.start);
            let end = spans.partition_point(|other| other.rows.start < span.prefix.end);
            tree = tree_of[first];
            for index in first..end {
                let other = tree_of[index];
                if other != tree {
                    let moved = std::mem::take(&mut trees[other]);
                    trees[tree].extend(moved);
                    trees[tree].sort_by_key(|span| span.rows.start);
                    tree_of.iter_mut().filter(|of| **of == other).for_each(|of| *of = tree);
                }
            }
        }
        if tree == trees.len() {
            trees.push(Vec::new());
        }
        trees[tree].push(span);
        tree_of.push(tree);
    }
    trees.retain(|tree| !tree.is_empty());
    trees
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(rows: std::ops::Range<usize>, prefix: std::ops::Range<usize>) -> Span {
        Span { rows, prefix }
    }

    #[test]
    fn branches_join_the_tree_of_their_prefix() {
        let spans =
            [span(0..3, 0..0), span(3..5, 0..0), span(5..6, 0..3), span(6..9, 4..5), span(9..9, 0..2)];
        let starts: Vec<Vec<usize>> =
            forest(&spans, 9).iter().map(|tree| tree.iter().map(|span| span.rows.start).collect()).collect();
        assert_eq!(starts, [vec![0, 5, 9], vec![3, 6]]);
    }

    #[test]
    fn a_prefix_across_two_trees_joins_them() {
        let spans = [span(0..3, 0..0), span(3..5, 0..0), span(5..6, 3..5), span(6..8, 1..5)];
        let trees = forest(&spans, 8);
        assert_eq!(trees.iter().map(Vec::len).collect::<Vec<_>>(), [4]);
    }

    #[test]
    #[should_panic(expected = "cover")]
    fn gaps_are_refused() {
        forest(&[span(0..3, 0..0), span(4..5, 0..0)], 5);
    }
}
