//! Verifies the journal: pages over it with constant memory, while it may be written to.

use std::collections::HashSet;

use crate::{
    domain::{
        audit::{
            Head,
            verify::{Found, Named, Report, Verifier},
        },
        ids::WriterId,
    },
    ports::{JournalReader, StoreError},
};

/// Rows in one read: about one MiB.
const ROWS_PER_PAGE: usize = 1_000;

/// Heads in one read.
const HEADS_PER_PAGE: usize = 1_000;

/// Named heads that are remembered as looked up: openings name the same ones again and again.
const LOOKED_UP_MAX: usize = 10_000;

/// Reads everything and says what is not as the writers left it. What it can and cannot find:
/// [`crate::domain::audit::verify`].
///
/// # Errors
/// If the journal cannot be read, also where a row's hash or writer is not of the right form.
pub async fn verify_journal(reader: &dyn JournalReader) -> Result<Report, StoreError> {
    let mut walk = Walk {
        reader,
        verifier: Verifier::default(),
        looked_up: HashSet::new(),
    };
    let mut after = None;
    loop {
        // Heads before rows: what is added in between is then beyond the head, not missing.
        let heads = reader.heads(after, HEADS_PER_PAGE).await?;
        let until = (heads.len() == HEADS_PER_PAGE)
            .then(|| heads.last().map(|head| head.writer))
            .flatten();
        walk.stretch(after, until, heads).await?;
        if until.is_none() {
            return Ok(walk.verifier.report());
        }
        after = until;
    }
}

struct Walk<'a> {
    reader: &'a dyn JournalReader,
    verifier: Verifier,
    looked_up: HashSet<Head>,
}

impl Walk<'_> {
    /// All chains after one writer, up to and with another.
    async fn stretch(
        &mut self,
        after: Option<WriterId>,
        until: Option<WriterId>,
        heads: Vec<Head>,
    ) -> Result<(), StoreError> {
        let mut heads = heads.into_iter().peekable();
        let mut place = after.map(|writer| (writer, i64::MAX));
        loop {
            let page = self.reader.rows(place, ROWS_PER_PAGE).await?;
            let last_page = page.len() < ROWS_PER_PAGE;
            let within = |writer| until.is_none_or(|until| writer <= until);
            let beyond = page.last().is_none_or(|row| !within(row.writer));
            for row in page.iter().take_while(|row| within(row.writer)) {
                place = Some((row.writer, row.seq));
                if self.verifier.writer() != Some(row.writer) {
                    self.close().await?;
                    // Chains that have a head and no row.
                    while let Some(head) = heads.next_if(|head| head.writer < row.writer) {
                        self.verifier.open(head.writer, Some(head));
                        self.close().await?;
                    }
                    let head = heads.next_if(|head| head.writer == row.writer);
                    self.verifier.open(row.writer, head);
                }
                self.verifier.row(row);
                for named in self.verifier.take_named() {
                    self.look_up(named).await?;
                }
            }
            if last_page || beyond {
                break;
            }
        }
        self.close().await?;
        for head in heads {
            self.verifier.open(head.writer, Some(head));
            self.close().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        let head_now = match self.verifier.writer() {
            Some(writer) if self.verifier.needs_head() => self.reader.head(writer).await?,
            _ => None,
        };
        self.verifier.close(head_now);
        Ok(())
    }

    async fn look_up(&mut self, named: Named) -> Result<(), StoreError> {
        if self.looked_up.len() >= LOOKED_UP_MAX {
            self.looked_up.clear();
        }
        if !self.looked_up.insert(named.head) {
            return Ok(());
        }
        let Head { writer, seq, .. } = named.head;
        let found = match self.reader.row(writer, seq).await? {
            Some(row) => Found::Hash(row.hash),
            None => {
                let next = self.reader.rows(Some((writer, 0)), 1).await?;
                match next.first() {
                    Some(row) if row.writer == writer => Found::NoRecord,
                    _ => Found::NoChain,
                }
            }
        };
        self.verifier.look_up(named, found);
        Ok(())
    }
}
