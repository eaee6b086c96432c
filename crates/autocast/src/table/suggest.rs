//! What somebody who wrote an unknown op name may have meant.

/// Up to three of `known` that a typing error could have turned into `name`, best first.
pub(super) fn close_to<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let limit = 1 + name.len() / 4;
    let mut close: Vec<_> = known
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= limit || (name.len() > 3 && candidate.contains(name)))
        .collect();
    close.sort_unstable();
    close.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_insertions_deletions_and_substitutions() {
        for (a, b, distance) in
            [("", "abc", 3), ("linear", "linaer", 2), ("gelu", "gleu", 2), ("relu", "relu", 0)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn the_best_match_comes_first_and_nonsense_has_none() {
        let known = ["softmax", "log_softmax", "relu", "softmin"];
        assert_eq!(close_to("softmx", known), ["softmax", "softmin"]);
        assert_eq!(close_to("soft", known), ["softmax", "softmin", "log_softmax"]);
        assert!(close_to("convolve_everything", known).is_empty());
    }
}
