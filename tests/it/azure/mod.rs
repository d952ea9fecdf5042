//! The adapters to Azure over real sockets: against the simulator where its world does, against a
//! server of chosen answers where the other side has to misbehave.

mod answers;
mod arm;
mod delegation_key;
mod entra;
mod key_proof;
mod key_vault;
mod rotation;
mod rotation_story;
mod script;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use reqwest::Client;
use sas_broker::{
    domain::ids::TenantId,
    ports::{Clock, Entropy},
    simulator::{Running, SimClock, Simulator, Spec},
    web::{Route, client},
};
use tempfile::NamedTempFile;
use time::{OffsetDateTime, macros::datetime};
use uuid::uuid;

const TENANT: TenantId = TenantId(uuid!("00000000-0000-0000-0000-0000000000a1"));
const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// One clock for both sides, moved by hand.
#[derive(Debug)]
struct SharedClock(AtomicI64);

impl SharedClock {
    fn at(now: OffsetDateTime) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now.unix_timestamp())))
    }

    fn set(&self, now: OffsetDateTime) {
        self.0.store(now.unix_timestamp(), SeqCst);
    }

    fn for_simulator(self: &Arc<Self>) -> SimClock {
        let clock = Arc::clone(self);
        Arc::new(move || clock.now())
    }
}

impl Clock for SharedClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(SeqCst)).unwrap()
    }
}

/// The middle of every range.
#[derive(Debug)]
struct Middling;

impl Entropy for Middling {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0x80);
    }
}

/// The broker's own client, trusting one certificate authority more.
fn http(ca_pem: &str) -> Client {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(ca_pem.as_bytes()).unwrap();
    client(Some(file.path()), Route::Environment).unwrap()
}

async fn simulator(spec: Spec, clock: &Arc<SharedClock>) -> Running {
    Simulator::start(spec, clock.for_simulator()).await.unwrap()
}
