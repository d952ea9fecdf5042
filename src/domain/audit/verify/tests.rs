//! Every kind of tampering, on a table of chains, and none found where nothing was tampered with.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};
use uuid::Uuid;

use super::*;
use crate::domain::audit::{Actor, AuditEvent, Chain};

/// A journal in memory.
#[derive(Debug, Clone)]
struct World {
    rows: BTreeMap<(WriterId, i64), Row>,
    heads: BTreeMap<WriterId, Head>,
}

fn writer(number: usize) -> WriterId {
    WriterId(Uuid::from_u128(number as u128 + 1))
}

fn event(at: i64, action: Action) -> AuditEvent {
    AuditEvent {
        at,
        actor: Actor::Broker,
        client: None,
        request_id: None,
        action,
    }
}

fn something(at: i64) -> AuditEvent {
    event(
        at,
        Action::PolicyChanged {
            policy_version: at,
            changes: vec!["something".into()],
        },
    )
}

impl World {
    /// Chains of these lengths, the opening included, each begun after the one before had ended.
    fn of(lengths: &[usize]) -> Self {
        let mut world = Self {
            rows: BTreeMap::new(),
            heads: BTreeMap::new(),
        };
        for (number, &length) in lengths.iter().enumerate() {
            let opening = Action::ChainOpened {
                heads: world.heads.values().copied().collect(),
                build: "test".into(),
            };
            let mut chain = Chain::new(writer(number));
            for place in 0..length {
                let at = i64::try_from(number * 1_000 + place).unwrap();
                let event = match place {
                    0 => event(at, opening.clone()),
                    _ => something(at),
                };
                let (next, row) = chain.append(event);
                chain = next;
                world.rows.insert((row.writer, row.seq), row);
            }
            world.heads.insert(writer(number), chain.head());
        }
        world
    }

    fn verify(&self) -> Report {
        let mut verifier = Verifier::default();
        let writers: BTreeSet<_> = self.rows.keys().map(|(writer, _)| *writer).collect();
        let writers: BTreeSet<_> = self.heads.keys().copied().chain(writers).collect();
        for writer in writers {
            let head = self.heads.get(&writer).copied();
            verifier.open(writer, head);
            for row in self.rows.values().filter(|row| row.writer == writer) {
                verifier.row(row);
            }
            let again = verifier.needs_head().then_some(head).flatten();
            verifier.close(again);
            for named in verifier.take_named() {
                verifier.look_up(named, self.find(named.head));
            }
        }
        verifier.report()
    }

    fn find(&self, head: Head) -> Found {
        match self.rows.get(&(head.writer, head.seq)) {
            Some(row) => Found::Hash(row.hash),
            None if self.rows.keys().any(|(writer, _)| *writer == head.writer) => Found::NoRecord,
            None => Found::NoChain,
        }
    }

    fn row(&mut self, number: usize, seq: i64) -> &mut Row {
        self.rows.get_mut(&(writer(number), seq)).unwrap()
    }

    fn cut(&mut self, number: usize, from: i64) {
        let cut = writer(number);
        self.rows
            .retain(|(writer, seq), _| *writer != cut || *seq < from);
    }

    /// Lowers the head to the last row that is left, as somebody would who hides a cut.
    fn fit_head(&mut self, number: usize) {
        let last = self
            .rows
            .range((writer(number), 0)..=(writer(number), i64::MAX))
            .last();
        let head = last.map(|(_, row)| Head {
            writer: row.writer,
            seq: row.seq,
            hash: row.hash,
        });
        match head {
            Some(head) => drop(self.heads.insert(head.writer, head)),
            None => drop(self.heads.remove(&writer(number))),
        }
    }
}

#[test]
fn an_untouched_journal_is_clean() {
    let report = World::of(&[3, 1, 5]).verify();
    assert_eq!(report.findings, []);
    assert_eq!((report.chains, report.records), (3, 9));
    assert!(World::of(&[]).verify().is_clean());
}

#[test]
fn each_kind_of_tampering_has_its_finding() {
    let (a, b) = (writer(0), writer(1));
    let (own, by_b) = (None, Some(b));
    type Deed = fn(&mut World);
    let table: [(&str, Deed, Vec<Finding>); 13] = [
        (
            "altered body",
            |w| w.row(0, 2).body = World::of(&[2]).row(0, 2).body.to_ascii_uppercase(),
            vec![
                Finding::Altered { writer: a, seq: 2 },
                Finding::Unreadable { writer: a, seq: 2 },
            ],
        ),
        (
            "altered hash",
            |w| w.row(0, 2).hash = ChainHash([9; 32]),
            vec![Finding::Altered { writer: a, seq: 2 }],
        ),
        (
            "altered column",
            |w| w.row(0, 3).at += 1,
            vec![Finding::ColumnsDiffer {
                writer: a,
                seq: 3,
                column: "at",
            }],
        ),
        (
            "deleted row",
            |w| drop(w.rows.remove(&(writer(0), 2))),
            vec![Finding::Missing {
                writer: a,
                first: 2,
                last: 2,
            }],
        ),
        (
            "row beyond the head",
            |w| {
                let row = w.row(1, 2).clone();
                w.rows.insert((row.writer, 3), Row { seq: 3, ..row });
            },
            vec![
                Finding::Altered { writer: b, seq: 3 },
                Finding::ColumnsDiffer {
                    writer: b,
                    seq: 3,
                    column: "seq",
                },
                Finding::Inserted { writer: b, seq: 3 },
            ],
        ),
        (
            "row before the first",
            |w| {
                let row = w.row(1, 1).clone();
                w.rows.insert((row.writer, 0), Row { seq: 0, ..row });
            },
            vec![Finding::Inserted { writer: b, seq: 0 }],
        ),
        (
            "tail cut",
            |w| w.cut(1, 2),
            vec![Finding::TailCut {
                writer: b,
                seq: 2,
                named_by: own,
            }],
        ),
        (
            "tail cut, head lowered",
            |w| {
                w.cut(0, 3);
                w.fit_head(0);
            },
            vec![Finding::TailCut {
                writer: a,
                seq: 4,
                named_by: by_b,
            }],
        ),
        (
            "chain removed, head left",
            |w| w.cut(1, 1),
            vec![Finding::ChainRemoved {
                writer: b,
                named_by: own,
            }],
        ),
        (
            "chain removed with its head",
            |w| {
                w.cut(0, 1);
                w.fit_head(0);
            },
            vec![Finding::ChainRemoved {
                writer: a,
                named_by: by_b,
            }],
        ),
        (
            "head removed",
            |w| assert!(w.heads.remove(&writer(0)).is_some()),
            vec![Finding::HeadMissing { writer: a }],
        ),
        (
            "head altered",
            |w| w.heads.get_mut(&writer(0)).unwrap().hash = ChainHash([9; 32]),
            vec![Finding::HeadDiffers {
                writer: a,
                seq: 4,
                named_by: own,
            }],
        ),
        (
            "tail rewritten with its head",
            |w| {
                let before = Head {
                    writer: writer(0),
                    seq: 3,
                    hash: w.row(0, 3).hash,
                };
                let (_, row) = Chain { head: before }.append(something(0));
                *w.row(0, 4) = row;
                w.fit_head(0);
            },
            vec![Finding::HeadDiffers {
                writer: a,
                seq: 4,
                named_by: by_b,
            }],
        ),
    ];
    for (what, deed, expected) in table {
        let mut world = World::of(&[4, 2]);
        deed(&mut world);
        assert_eq!(world.verify().findings, expected, "{what}");
    }
}

#[test]
fn two_swapped_rows_are_found() {
    let mut world = World::of(&[4]);
    let (two, three) = (world.row(0, 2).clone(), world.row(0, 3).clone());
    *world.row(0, 2) = Row { seq: 2, ..three };
    *world.row(0, 3) = Row { seq: 3, ..two };
    let found = world.verify().findings;
    for seq in [2, 3] {
        assert!(found.contains(&Finding::ColumnsDiffer {
            writer: writer(0),
            seq,
            column: "seq"
        }));
    }
}

#[test]
fn a_writer_at_work_is_not_taken_for_tampering() {
    let world = World::of(&[5]);
    let rows: Vec<_> = world.rows.values().collect();
    let head_at = |seq: usize| Head {
        writer: writer(0),
        seq: rows[seq - 1].seq,
        hash: rows[seq - 1].hash,
    };
    for (before, now) in [(Some(3), 5), (Some(3), 4), (None, 4), (Some(4), 4)] {
        let mut verifier = Verifier::default();
        verifier.open(writer(0), before.map(head_at));
        rows[..4].iter().for_each(|row| verifier.row(row));
        let again = verifier.needs_head().then(|| head_at(now));
        verifier.close(again);
        assert_eq!(verifier.report().findings, [], "{before:?} {now}");
    }
}

#[test]
fn findings_are_listed_up_to_a_bound_and_counted_beyond() {
    let mut world = World::of(&[FINDINGS_MAX + 10]);
    world.rows.values_mut().for_each(|row| row.at += 1);
    let report = world.verify();
    assert_eq!(report.findings.len(), FINDINGS_MAX);
    assert_eq!(report.findings_total, FINDINGS_MAX as u64 + 10);
}

/// One deed of somebody who may write to the database.
#[derive(Debug, Clone)]
enum Deed {
    AlterBody(Index, Index, u8),
    AlterHash(Index, Index, u8),
    AlterAt(Index),
    AlterKind(Index),
    Delete(Index),
    Swap(Index, Index),
    Copy(Index, i64),
    /// Cuts a chain that a later one names, and lowers its head to match.
    CutNamed(Index, Index),
    LowerHead(Index),
}

fn deed() -> impl Strategy<Value = Deed> {
    let index = any::<Index>;
    prop_oneof![
        (index(), index(), 1..=255_u8).prop_map(|(row, at, xor)| Deed::AlterBody(row, at, xor)),
        (index(), index(), 1..=255_u8).prop_map(|(row, at, xor)| Deed::AlterHash(row, at, xor)),
        index().prop_map(Deed::AlterAt),
        index().prop_map(Deed::AlterKind),
        index().prop_map(Deed::Delete),
        (index(), index()).prop_map(|(one, other)| Deed::Swap(one, other)),
        (index(), 1..1_000_i64).prop_map(|(row, far)| Deed::Copy(row, far)),
        (index(), index()).prop_map(|(chain, from)| Deed::CutNamed(chain, from)),
        index().prop_map(Deed::LowerHead),
    ]
}

/// Does it; false if it comes to nothing.
fn commit(deed: &Deed, world: &mut World, lengths: &[usize]) -> bool {
    let keys: Vec<_> = world.rows.keys().copied().collect();
    let at = |index: &Index| *index.get(&keys);
    match deed {
        Deed::AlterBody(row, place, xor) => {
            let body = &mut world.rows.get_mut(&at(row)).unwrap().body;
            let place = place.index(body.len());
            body[place] ^= xor;
        }
        Deed::AlterHash(row, place, xor) => {
            world.rows.get_mut(&at(row)).unwrap().hash.0[place.index(32)] ^= xor;
        }
        Deed::AlterAt(row) => world.rows.get_mut(&at(row)).unwrap().at ^= 1,
        Deed::AlterKind(row) => world.rows.get_mut(&at(row)).unwrap().kind.push('x'),
        Deed::Delete(row) => drop(world.rows.remove(&at(row))),
        Deed::Swap(one, other) => {
            let (one, other) = (at(one), at(other));
            if one == other {
                return false;
            }
            let (first, second) = (world.rows[&one].clone(), world.rows[&other].clone());
            let moved = |row: Row, (writer, seq): (WriterId, i64)| Row { writer, seq, ..row };
            world.rows.insert(one, moved(second, one));
            world.rows.insert(other, moved(first, other));
        }
        Deed::Copy(row, far) => {
            let row = world.rows[&at(row)].clone();
            let seq = world.heads[&row.writer].seq + far;
            world.rows.insert((row.writer, seq), Row { seq, ..row });
        }
        Deed::CutNamed(chain, from) => {
            if lengths.len() < 2 {
                return false;
            }
            let chain = chain.index(lengths.len() - 1);
            let from = from.index(lengths[chain]) + 1;
            world.cut(chain, i64::try_from(from).unwrap());
            world.fit_head(chain);
        }
        Deed::LowerHead(chain) => {
            let chain = writer(chain.index(lengths.len()));
            let head = world.heads.get_mut(&chain).unwrap();
            head.seq -= 1;
        }
    }
    true
}

proptest! {
    #[test]
    fn any_single_deed_is_found(
        lengths in prop::collection::vec(1..8_usize, 1..5),
        deed in deed(),
    ) {
        let mut world = World::of(&lengths);
        prop_assert!(world.verify().is_clean());
        if commit(&deed, &mut world, &lengths) {
            prop_assert!(!world.verify().is_clean(), "{deed:?}");
        }
    }
}
