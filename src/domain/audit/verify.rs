//! Finds tampering in the journal: rows are fed in order, chain by chain, and findings come out.
//! No I/O and constant memory; `app::verify_journal` does the reading.
//!
//! What it finds: an altered body, hash or column; a deleted, inserted or swapped row; a cut tail,
//! also where the head was lowered to match, if a later chain's first record names the old head; a
//! removed chain, if a later one names it.
//!
//! What it cannot find without a checkpoint kept outside the database, because whoever may write
//! everywhere can make the hashes anew: a chain that was rewritten together with its head, or cut,
//! while no later chain names the part that is gone; and a whole chain that was made up.

use std::fmt;

use super::{Action, ChainHash, FORMAT, Head, Record, Row};
use crate::domain::ids::WriterId;

/// Most findings that a report lists; the others are only counted.
pub const FINDINGS_MAX: usize = 1_000;

/// One thing that is not as the writer left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The record's bytes or hash, or those right before it, were altered.
    Altered {
        /// Whose chain.
        writer: WriterId,
        /// The first record that does not follow from the one before.
        seq: i64,
    },
    /// Records between others are gone.
    Missing {
        /// Whose chain.
        writer: WriterId,
        /// The first of them.
        first: i64,
        /// The last of them.
        last: i64,
    },
    /// A column does not say what the record says.
    ColumnsDiffer {
        /// Whose chain.
        writer: WriterId,
        /// Which record.
        seq: i64,
        /// Which column.
        column: &'static str,
    },
    /// A row stands where the writer never wrote: before the first record or beyond the head.
    Inserted {
        /// Whose chain.
        writer: WriterId,
        /// Where.
        seq: i64,
    },
    /// The chain once reached further than it does now.
    TailCut {
        /// Whose chain.
        writer: WriterId,
        /// A record that was there and is gone, as is all after the last that is left.
        seq: i64,
        /// Who says so: the first record of this later chain, or else the chain's own head.
        named_by: Option<WriterId>,
    },
    /// The head, or a later chain that names it, has another hash for the record than the chain.
    HeadDiffers {
        /// Whose chain.
        writer: WriterId,
        /// Which record.
        seq: i64,
        /// Who says so: the first record of this later chain, or else the chain's own head.
        named_by: Option<WriterId>,
    },
    /// There are records, but no head.
    HeadMissing {
        /// Whose chain.
        writer: WriterId,
    },
    /// There is no record left.
    ChainRemoved {
        /// Whose chain.
        writer: WriterId,
        /// Who says that there was one: the first record of this later chain, or else the head.
        named_by: Option<WriterId>,
    },
    /// The bytes are no record of a known format.
    Unreadable {
        /// Whose chain.
        writer: WriterId,
        /// Which row.
        seq: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = |named_by: Option<WriterId>| match named_by {
            Some(writer) => format!("the opening of chain {writer}"),
            None => "its head".to_owned(),
        };
        match *self {
            Self::Altered { writer, seq } => {
                write!(f, "altered: record {seq} of chain {writer}")
            }
            Self::Missing {
                writer,
                first,
                last,
            } if first == last => write!(f, "missing: record {first} of chain {writer}"),
            Self::Missing {
                writer,
                first,
                last,
            } => write!(f, "missing: records {first} to {last} of chain {writer}"),
            Self::ColumnsDiffer {
                writer,
                seq,
                column,
            } => write!(
                f,
                "altered: column {column} of record {seq} of chain {writer}"
            ),
            Self::Inserted { writer, seq } => {
                write!(f, "inserted: row {seq} of chain {writer}")
            }
            Self::TailCut {
                writer,
                seq,
                named_by,
            } => write!(
                f,
                "tail cut: record {seq} of chain {writer} is gone, says {}",
                says(named_by)
            ),
            Self::HeadDiffers {
                writer,
                seq,
                named_by,
            } => write!(
                f,
                "rewritten: record {seq} of chain {writer} has another hash than {} says",
                says(named_by)
            ),
            Self::HeadMissing { writer } => write!(f, "head missing: chain {writer}"),
            Self::ChainRemoved { writer, named_by } => {
                write!(f, "chain removed: {writer}, says {}", says(named_by))
            }
            Self::Unreadable { writer, seq } => {
                write!(f, "unreadable: row {seq} of chain {writer}")
            }
        }
    }
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Chains that were read, those without a record included.
    pub chains: u64,
    /// Records that were read.
    pub records: u64,
    /// At most [`FINDINGS_MAX`] findings, in the order of reading.
    pub findings: Vec<Finding>,
    /// All findings.
    pub findings_total: u64,
}

impl Report {
    /// Whether everything is as the writers left it, as far as can be told.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings_total == 0
    }

    fn add(&mut self, finding: Finding) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// A head that a chain's first record names, to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Named {
    /// Where another chain ended then.
    pub head: Head,
    /// Whose first record says so.
    pub by: WriterId,
}

/// What a look-up of a named head found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The record is there, with this hash.
    Hash(ChainHash),
    /// The chain has records, but not this one.
    NoRecord,
    /// The chain has no record at all.
    NoChain,
}

/// The chain at hand.
#[derive(Debug)]
struct Open {
    writer: WriterId,
    /// Its head as it stood before its rows were read.
    head: Option<Head>,
    /// The sequence number that comes next.
    next: i64,
    /// What the next record's hash may follow from: one value as a rule; two after an altered
    /// record, so that one alteration is not reported twice; none after a gap.
    after: Vec<ChainHash>,
    /// Its last row.
    last: Option<(i64, ChainHash)>,
    /// Its first row beyond `head`.
    beyond: Option<i64>,
}

/// Reads the journal row by row. Feed [`Verifier::open`], then [`Verifier::row`] in the order of
/// `seq`, then [`Verifier::close`], for every writer that has a head or a row; and answer every
/// [`Named`] that comes up by [`Verifier::look_up`].
#[derive(Debug, Default)]
pub struct Verifier {
    chain: Option<Open>,
    named: Vec<Named>,
    report: Report,
}

impl Verifier {
    /// Begins a chain, whose head was read *before* its rows are: rows that a running writer adds
    /// meanwhile then lie beyond it, and [`Verifier::close`] sorts them out.
    pub fn open(&mut self, writer: WriterId, head: Option<Head>) {
        self.report.chains += 1;
        self.chain = Some(Open {
            writer,
            head,
            next: 1,
            after: vec![ChainHash::ORIGIN],
            last: None,
            beyond: None,
        });
    }

    /// The writer whose chain is open.
    #[must_use]
    pub fn writer(&self) -> Option<WriterId> {
        self.chain.as_ref().map(|chain| chain.writer)
    }

    /// Takes the next row of the open chain.
    ///
    /// # Panics
    /// If no chain is open.
    pub fn row(&mut self, row: &Row) {
        let chain = self.chain.as_mut().expect("a chain is open");
        let (writer, seq) = (chain.writer, row.seq);
        self.report.records += 1;
        // Rows come in order, each seq once; so this is one before the first.
        if seq < chain.next {
            self.report.add(Finding::Inserted { writer, seq });
            return;
        }
        if seq > chain.next {
            self.report.add(Finding::Missing {
                writer,
                first: chain.next,
                last: seq - 1,
            });
            chain.after.clear();
        }
        if !chain.follow(row) {
            self.report.add(Finding::Altered { writer, seq });
        }
        if chain.head.is_some_and(|head| head.seq < seq) {
            chain.beyond.get_or_insert(seq);
        }
        if chain
            .head
            .is_some_and(|head| head.seq == seq && head.hash != row.hash)
        {
            self.report.add(Finding::HeadDiffers {
                writer,
                seq,
                named_by: None,
            });
        }
        match Record::from_bytes(&row.body) {
            Ok(record) if record.v == FORMAT => self.compare(row, &record),
            _ => self.report.add(Finding::Unreadable { writer, seq }),
        }
    }

    fn compare(&mut self, row: &Row, record: &Record) {
        let columns = [
            ("writer", record.writer == row.writer),
            ("seq", record.seq == row.seq),
            ("at", record.event.at == row.at),
            ("kind", record.event.action.kind() == row.kind),
        ];
        let (writer, seq) = (row.writer, row.seq);
        for (column, _) in columns.into_iter().filter(|(_, equal)| !equal) {
            self.report.add(Finding::ColumnsDiffer {
                writer,
                seq,
                column,
            });
        }
        if let Action::ChainOpened { heads, .. } = &record.event.action {
            let named = |&head| Named { head, by: writer };
            self.named.extend(heads.iter().map(named));
        }
    }

    /// Whether [`Verifier::close`] needs the head as it stands now: rows were added while they were
    /// read, or should not be there.
    #[must_use]
    pub fn needs_head(&self) -> bool {
        self.chain
            .as_ref()
            .is_some_and(|chain| chain.head.is_none() || chain.beyond.is_some())
    }

    /// Ends the chain. `head_now` is its head read again, *after* its rows, where
    /// [`Verifier::needs_head`]. Does nothing if no chain is open.
    pub fn close(&mut self, head_now: Option<Head>) {
        let Some(chain) = self.chain.take() else {
            return;
        };
        let writer = chain.writer;
        let named_by = None;
        let Some(head) = head_now.or(chain.head) else {
            self.report.add(Finding::HeadMissing { writer });
            return;
        };
        match chain.last {
            None => self.report.add(Finding::ChainRemoved { writer, named_by }),
            Some((last, hash)) => {
                // Between the two looks at the head the chain may have grown, not shrunk.
                let reached = chain.head.map_or(last, |before| before.seq);
                if last < reached {
                    self.report.add(Finding::TailCut {
                        writer,
                        seq: reached,
                        named_by,
                    });
                } else if last > head.seq {
                    let seq = chain.beyond.unwrap_or(head.seq + 1);
                    self.report.add(Finding::Inserted { writer, seq });
                } else if last == head.seq && head_now.is_some() && hash != head.hash {
                    self.report.add(Finding::HeadDiffers {
                        writer,
                        seq: last,
                        named_by,
                    });
                }
            }
        }
    }

    /// The heads that have been named since the last call.
    pub fn take_named(&mut self) -> Vec<Named> {
        std::mem::take(&mut self.named)
    }

    /// Takes the answer to a named head.
    pub fn look_up(&mut self, named: Named, found: Found) {
        let Head { writer, seq, hash } = named.head;
        let named_by = Some(named.by);
        match found {
            Found::Hash(there) if there == hash => {}
            Found::Hash(_) => self.report.add(Finding::HeadDiffers {
                writer,
                seq,
                named_by,
            }),
            Found::NoRecord => self.report.add(Finding::TailCut {
                writer,
                seq,
                named_by,
            }),
            Found::NoChain => self.report.add(Finding::ChainRemoved { writer, named_by }),
        }
    }

    /// What was found.
    #[must_use]
    pub fn report(self) -> Report {
        self.report
    }
}

impl Open {
    /// Whether the row's hash follows; moves on past it either way.
    fn follow(&mut self, row: &Row) -> bool {
        let follows = self.after.is_empty()
            || self
                .after
                .iter()
                .any(|hash| hash.then(&row.body) == row.hash);
        let computed = self.after.first().map(|hash| hash.then(&row.body));
        self.after = vec![row.hash];
        if !follows {
            // Which of the two was altered, the bytes or the hash, the next record tells.
            self.after.extend(computed);
        }
        self.next = row.seq + 1;
        self.last = Some((row.seq, row.hash));
        follows
    }
}

#[cfg(test)]
mod tests;
