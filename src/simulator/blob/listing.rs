//! One page of a container's names, with prefix, delimiter, marker and directory scope.
//!
//! Pure over the stored entries; the XML and JSON forms are in `xml` and `paths`.

use std::collections::BTreeMap;

use super::container::{Container, Entry};

/// Most names on one page, and the page size when none is asked for.
pub(crate) const PAGE_MOST: usize = 5_000;

/// What to list.
#[derive(Clone, Copy, Default)]
pub(crate) struct Listing<'a> {
    pub(crate) prefix: &'a str,
    /// Names are cut after the first occurrence of this text behind the prefix; empty: never.
    pub(crate) delimiter: &'a str,
    /// The first name of this page, as the page before gave it.
    pub(crate) marker: &'a str,
    pub(crate) page_size: usize,
    /// Nothing outside this directory is shown, whatever the prefix says.
    pub(crate) directory: Option<&'a str>,
}

/// One page: names in order, with the entry, or without one where the delimiter cut the name.
pub(crate) struct Page<'a> {
    pub(crate) items: Vec<(String, Option<&'a Entry>)>,
    /// The marker of the next page.
    pub(crate) next: Option<String>,
}

impl Listing<'_> {
    /// Lists a container.
    pub(crate) fn page<'c>(&self, container: &'c Container) -> Page<'c> {
        let mut found: BTreeMap<String, Option<&Entry>> = BTreeMap::new();
        let matching = container
            .entries
            .range(self.prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(self.prefix))
            .filter(|(name, _)| {
                self.directory
                    .is_none_or(|directory| lies_in(name, directory))
            });
        for (name, entry) in matching {
            match self.cut(name, entry) {
                Some(common) => found.insert(common, None),
                None => found.insert(name.clone(), Some(entry)),
            };
        }
        let page_size = self.page_size.clamp(1, PAGE_MOST);
        let mut rest = found
            .into_iter()
            .skip_while(|(name, _)| name.as_str() < self.marker);
        let items = rest.by_ref().take(page_size).collect();
        Page {
            items,
            next: rest.next().map(|(name, _)| name),
        }
    }

    /// The common prefix a name falls under. With a delimiter a directory shows as one, too.
    fn cut(&self, name: &str, entry: &Entry) -> Option<String> {
        if self.delimiter.is_empty() {
            return None;
        }
        let from = self.prefix.len();
        match name[from..].find(self.delimiter) {
            Some(at) => Some(name[..from + at + self.delimiter.len()].to_owned()),
            None => entry
                .is_directory()
                .then(|| format!("{name}{}", self.delimiter)),
        }
    }
}

/// Whether `name` is the directory itself or lies in it, on segment boundaries.
pub(crate) fn lies_in(name: &str, directory: &str) -> bool {
    name.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
