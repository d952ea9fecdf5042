//! An Entra in memory: publishes what it is told, fails or holds its answer on command, counts.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    domain::{
        caller::{
            IssuerKeys, TokenVersion,
            forge::{TestKey, keys},
        },
        ids::TenantId,
    },
    ports::{KeySource, KeySourceError},
};

pub(crate) struct FakeEntra {
    published: Mutex<Vec<&'static TestKey>>,
    failing: AtomicBool,
    held: watch::Sender<bool>,
    asked: watch::Sender<usize>,
    fetches: AtomicUsize,
}

impl FakeEntra {
    pub(crate) fn publishing(keys: &[&'static TestKey]) -> Self {
        Self {
            published: Mutex::new(keys.to_vec()),
            failing: AtomicBool::new(false),
            held: watch::Sender::new(false),
            asked: watch::Sender::new(0),
            fetches: AtomicUsize::new(0),
        }
    }

    pub(crate) fn publish(&self, keys: &[&'static TestKey]) {
        *self.published.lock().unwrap() = keys.to_vec();
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, SeqCst);
    }

    /// Answers nothing until [`FakeEntra::release`].
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    pub(crate) async fn until_asked(&self, times: usize) {
        self.asked
            .subscribe()
            .wait_for(|asked| *asked >= times)
            .await
            .unwrap();
    }

    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(SeqCst)
    }
}

#[async_trait]
impl KeySource for FakeEntra {
    async fn fetch(
        &self,
        tenant_id: TenantId,
        version: TokenVersion,
    ) -> Result<IssuerKeys, KeySourceError> {
        self.fetches.fetch_add(1, SeqCst);
        self.asked.send_modify(|asked| *asked += 1);
        self.held.subscribe().wait_for(|held| !held).await.unwrap();
        if self.failing.load(SeqCst) {
            return Err(KeySourceError::Status(503));
        }
        Ok(keys(tenant_id, version, &self.published.lock().unwrap()))
    }
}
