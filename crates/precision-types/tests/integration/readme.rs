//! The README's support matrix is the one the code decides by, to the letter.

use precision_types::SupportMatrix;

#[test]
fn the_readme_prints_the_support_matrix() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) =
        readme.split_once("<!-- support-matrix:begin -->\n").expect("README.md has the begin marker");
    let (table, _) = rest.split_once("<!-- support-matrix:end -->").expect("README.md has the end marker");
    assert_eq!(table.trim(), SupportMatrix.to_string().trim(), "paste the right-hand side into README.md");
}
