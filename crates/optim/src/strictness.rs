//! How exactly a saved state must fit what it is loaded into, and what did not.

/// What happens to entries of a saved state that are missing, or that nothing has a place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strictness {
    /// They are errors.
    #[default]
    Strict,
    /// What is missing stays or starts anew, what has no place is left out, and the [`LoadReport`] names both.
    Lenient,
}

/// What loading a state made of its entries, other than taking them as they were. Each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Entries that the state lacks: made from what was there.
    pub missing: Vec<String>,
    /// Entries of the state that nothing has a place for: left out.
    pub unused: Vec<String>,
    /// Entries that were saved in another dtype or form: converted.
    pub converted: Vec<String>,
}

impl LoadReport {
    /// Whether every entry was taken as it was, and none was missing.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.converted.is_empty()
    }

    /// Puts the lists in order, for whoever filled them.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        for list in [&mut self.missing, &mut self.unused, &mut self.converted] {
            list.sort();
        }
        self
    }
}
