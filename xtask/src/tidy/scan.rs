//! Telling code from what only looks like it: enough of Rust's lexer for rules on single words.

/// The text with every comment, string and character literal blanked by spaces. Lines stay where they were.
pub(super) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = at + not_code(&chars[at..], at.checked_sub(1).map(|before| chars[before]));
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// How many characters at the start of `rest` are a comment or a literal; 0 for code.
fn not_code(rest: &[char], before: Option<char>) -> usize {
    match rest {
        ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => until_quote(rest, '"'),
        ['r', '"' | '#', ..] if before.is_none_or(|c| !is_word(c) || c == 'b' || c == 'c') => {
            raw_string(rest)
        }
        ['\'', '\\', ..] => until_quote(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

/// The length of a block comment, those inside it included.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal that starts with `quote`, ends with it, and has escapes.
fn until_quote(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

/// The length of `r"…"` or `r#"…"#`; 0 for a raw identifier such as `r#type`.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    let open = 1 + hashes;
    if rest.get(open) != Some(&'"') {
        return 0;
    }
    let closes = |at: &usize| {
        rest[*at] == '"' && rest[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    (open + 1..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes)
}

/// Every place in `code` where `word` stands as a word of its own, as byte offsets.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(text: &str) -> bool {
        words(&code_only(text), "word").next().is_some()
    }

    #[test]
    fn code_is_kept() {
        for text in [
            "word",
            "x(word)",
            "/* a */ word /* b */",
            "\"s\" word",
            r#""\"" word"#,
            r##"r#"a"# word"##,
            "'a' word 'b'",
            "'\"' word '\"'",
            r"'\'' word",
            "fn f<'a>(x: &'a word)",
            "r#type word",
            "// a\nword",
        ] {
            assert!(finds(text), "{text}");
        }
    }

    #[test]
    fn comments_and_literals_are_not() {
        for text in [
            "// word",
            "//! word",
            "/* word */",
            "/* /* a */ word */",
            "\"word\"",
            r#""\" word""#,
            r##"r#"" word"#"##,
            r#"br"word""#,
            "\"a\nword\"",
            "a_word words wordy",
        ] {
            assert!(!finds(text), "{text}");
        }
    }

    #[test]
    fn lines_stay_where_they_were() {
        let text = "/* é\n */ \"\n\" x";
        assert_eq!(code_only(text).lines().count(), text.lines().count());
        assert!(code_only(text).ends_with(" x"));
    }
}
