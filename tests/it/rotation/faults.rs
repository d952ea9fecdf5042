//! Faults at the nth outside call of a history, whichever that is: ARM, the vault, the Blob service or
//! the database. The process may also die there.

use std::{future::pending, sync::Mutex};

use tokio::sync::Notify;

/// What happens at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails and has no effect.
    Fails,
    /// It takes effect, and no answer comes.
    Unheard,
    /// No answer comes, and it takes effect this many minutes later.
    Late(i64),
    /// The process dies right before it.
    DiesBefore,
    /// The process dies right after it took effect.
    DiesAfter,
}

/// What a call is, which decides what can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Mutation,
    Database,
    Commit,
}

impl Call {
    pub(super) const fn faults(self) -> &'static [Fault] {
        match self {
            Self::Read | Self::Database => &[Fault::Fails, Fault::DiesBefore, Fault::DiesAfter],
            Self::Mutation => &[
                Fault::Fails,
                Fault::Unheard,
                Fault::Late(1),
                Fault::Late(4),
                Fault::Late(9),
                Fault::DiesBefore,
                Fault::DiesAfter,
            ],
            Self::Commit => &[
                Fault::Fails,
                Fault::Unheard,
                Fault::DiesBefore,
                Fault::DiesAfter,
            ],
        }
    }
}

/// Counts calls, and strikes at some.
#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: Mutex<Vec<Call>>,
    strikes: Vec<(usize, Fault)>,
    died: Notify,
}

impl Faults {
    /// Each fault strikes at its call number; the first is 1.
    pub(super) fn at(strikes: &[(usize, Fault)]) -> Self {
        Self {
            strikes: strikes.to_vec(),
            ..Self::default()
        }
    }

    /// Counts a call; the fault, if it is this one's turn. A process that dies before its call goes no
    /// further.
    pub(super) async fn meet(&self, call: Call) -> Option<Fault> {
        let count = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call);
            calls.len()
        };
        let mut strikes = self.strikes.iter();
        let (_, fault) = *strikes.find(|(n, _)| *n == count)?;
        if fault == Fault::DiesBefore {
            self.die().await;
        }
        Some(fault)
    }

    /// The end of the process.
    pub(super) async fn die(&self) -> ! {
        self.died.notify_one();
        pending().await
    }

    /// Waits for the end of the process.
    pub(super) async fn died(&self) {
        self.died.notified().await;
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}
