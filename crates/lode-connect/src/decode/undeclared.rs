//! Fields of the files that no declared column takes: left out, but not in silence.

/// So many are named.
const NAMES_MAX: usize = 10;

/// Names of fields that were passed over, each once, in the order met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undeclared {
    pub names: Vec<String>,
    /// There are others besides.
    pub has_more: bool,
}

impl Undeclared {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn see(&mut self, name: &[u8]) {
        // Once there are too many, which ones no longer matters: a row costs nothing more.
        if self.has_more || self.names.iter().any(|known| known.as_bytes() == name) {
            return;
        }
        if self.names.len() < NAMES_MAX {
            self.names.push(String::from_utf8_lossy(name).into_owned());
        } else {
            self.has_more = true;
        }
    }

    /// A place to come back to, for a record that turns out to be rejected.
    pub(super) fn mark(&self) -> (usize, bool) {
        (self.names.len(), self.has_more)
    }

    pub(super) fn rewind(&mut self, (len, has_more): (usize, bool)) {
        self.names.truncate(len);
        self.has_more = has_more;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        other.names.iter().for_each(|name| self.see(name.as_bytes()));
        self.has_more |= other.has_more;
    }

    /// `a, b, c and others`.
    pub fn shown(&self) -> String {
        let names = self.names.join(", ");
        if self.has_more { format!("{names} and others") } else { names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_once_and_not_too_many() {
        let mut seen = Undeclared::default();
        for at in 0..30 {
            seen.see(format!("f{}", at % 10).as_bytes());
        }
        assert_eq!((seen.names.len(), seen.has_more), (10, false));
        seen.see(b"f10");
        assert_eq!((seen.names.len(), seen.has_more), (10, true));
        assert!(seen.shown().ends_with("f9 and others"));
    }
}
