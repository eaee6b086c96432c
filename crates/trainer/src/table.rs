//! A table as aligned text.

/// Rows of cells under a header as aligned text: the first column to the left, and of the others those of numbers to the right.
///
/// ```
/// let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
/// let rows = [row(["32-true", "9.25", "safe"]), row(["bf16-mixed", "10.50", "fastest"])];
/// let table = trainer::report::aligned(&["precision", "ms", "verdict"], &rows);
/// assert_eq!(table.lines().nth(1), Some("32-true      9.25  safe"));
/// ```
#[must_use]
pub fn aligned(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|title| (*title).to_string()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut table = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            column if is_of_words(rows, column) => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        table += cells.collect::<Vec<_>>().join("  ").trim_end();
        table.push('\n');
    }
    table
}

/// Whether a column has anything but numbers: with a unit, NaN, or a dash for none.
fn is_of_words(rows: &[Vec<String>], column: usize) -> bool {
    let is_number = |cell: &str| {
        cell.starts_with(|c: char| c.is_ascii_digit() || "-–".contains(c)) || cell.parse::<f64>().is_ok()
    };
    rows.iter().filter_map(|row| row.get(column)).any(|cell| !cell.is_empty() && !is_number(cell))
}

/// Bytes in the unit that leaves few digits: `1.5 KiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024., 0);
    while size >= 1024. && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024., unit + 1);
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A count with its thousands apart: `1,234,567`.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 2]| cells.map(String::from).to_vec();
        let table = aligned(&["name", "n"], &[row(["é", "1,000"]), row(["longer", "2"])]);
        assert_eq!(table, "name        n\né       1,000\nlonger      2\n");
    }

    #[test]
    fn sizes_and_counts_are_readable() {
        assert_eq!(
            [0, 1023, 1024, 1536, 5 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
