//! Pieces of a page: text that cannot become markup, rows of a table, and what the curves of a picture are called.

use super::chart::colour;

/// Text as it stands in a page.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A row of a table: each cell in a `tag`, `td` or `th`.
pub fn row<S: AsRef<str>>(cells: impl IntoIterator<Item = S>, tag: &str) -> String {
    let cell = |cell: S| format!("<{tag}>{}</{tag}>", escape(cell.as_ref()));
    let cells: String = cells.into_iter().map(cell).collect();
    format!("<tr>{cells}</tr>")
}

/// What curves are called, each by its colour's index.
pub fn legend<S: AsRef<str>>(curves: impl IntoIterator<Item = (usize, S)>) -> String {
    let item = |(index, name): (usize, S)| {
        format!("<li><i style=\"background:{}\"></i>{}</li>", colour(index), escape(name.as_ref()))
    };
    let items: String = curves.into_iter().map(item).collect();
    format!("<ul class=\"legend\">{items}</ul>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<b & \"c\">"), "&lt;b &amp; &quot;c&quot;&gt;");
        assert_eq!(row(["<", "2"], "td"), "<tr><td>&lt;</td><td>2</td></tr>");
        assert!(legend([(0, "a<b")]).ends_with("</i>a&lt;b</li></ul>"));
    }
}
