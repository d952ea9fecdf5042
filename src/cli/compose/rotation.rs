//! What carries rotations out: in a serving broker, and in a process of its own for the command line,
//! the demo and the tests.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Ambient, console_actor, parts::Parts};
use crate::{
    app::{
        deliver::Delivery,
        request_rotation::{Order, RotationRequester},
        rotate::{RotateError, Rotator},
        tenure::Tenure,
    },
    azure::{key_proof::SharedKeyProof, key_vault::KeyVault},
    cli::Failure,
    config::Config,
    domain::{
        ids::{AccountName, RotationId},
        rotation::{AccountStatus, Plan, Rotation},
    },
    journal::Journal,
    ports::{JournalStore, Rotations, StepMeter, StoreError},
    scheduler::Scheduler,
};

/// The executor, on the parts of this process.
fn rotator(config: &Config, parts: &Parts, meter: Arc<dyn StepMeter>) -> Arc<Rotator> {
    let Ambient { clock, entropy } = &parts.ambient;
    let cloud = config.cloud.cloud();
    let vault = KeyVault::new(
        parts.credentials.clone(),
        parts.management.clone(),
        cloud.clone(),
        config.cloud.vault_api_version.clone(),
        Arc::clone(clock),
    );
    let proof = SharedKeyProof::new(parts.web.clone(), cloud.clone(), Arc::clone(clock));
    Arc::new(Rotator {
        policy: Arc::clone(&parts.policy),
        cloud,
        accounts: Arc::clone(&parts.arm),
        vault: Arc::new(vault),
        proof: Arc::new(proof),
        records: Arc::clone(&parts.store) as Arc<dyn Rotations>,
        journal: Arc::clone(&parts.journal),
        meter,
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
    })
}

fn tenure(parts: &Parts) -> Arc<Tenure> {
    let records = Arc::clone(&parts.store) as Arc<dyn Rotations>;
    let Ambient { clock, entropy } = &parts.ambient;
    Arc::new(Tenure::new(records, Arc::clone(clock), entropy.as_ref()))
}

/// The scheduler of a serving broker.
pub(super) fn scheduler(
    config: &Config,
    parts: &Parts,
    meter: Arc<dyn StepMeter>,
    delivery: Arc<Delivery>,
) -> Scheduler {
    Scheduler::new(rotator(config, parts, meter), tenure(parts), Some(delivery))
}

pub(super) fn requester(parts: &Parts) -> RotationRequester {
    let Ambient { clock, entropy } = &parts.ambient;
    RotationRequester {
        policy: Arc::clone(&parts.policy),
        rotations: Arc::clone(&parts.store) as Arc<dyn Rotations>,
        journal: Arc::clone(&parts.journal),
        claims: Arc::clone(&parts.store) as Arc<dyn JournalStore>,
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
    }
}

/// A process that only rotates.
pub struct RotationProcess {
    rotator: Arc<Rotator>,
    tenure: Arc<Tenure>,
    requester: RotationRequester,
    records: Arc<dyn Rotations>,
    journal: Arc<Journal>,
    scheduler: Scheduler,
}

impl RotationProcess {
    /// Opens the configured database and the way to Azure. Nothing is asked yet.
    ///
    /// # Errors
    /// With what could not be opened.
    pub async fn open(config: &Config, ambient: Ambient) -> Result<Self, Failure> {
        let parts = Parts::open(config, ambient).await?;
        let rotator = rotator(config, &parts, Arc::new(()));
        let tenure = tenure(&parts);
        Ok(Self {
            scheduler: Scheduler::new(Arc::clone(&rotator), Arc::clone(&tenure), None),
            requester: requester(&parts),
            records: Arc::clone(&parts.store) as Arc<dyn Rotations>,
            journal: parts.journal,
            rotator,
            tenure,
        })
    }

    /// What would be done about the account now.
    ///
    /// # Errors
    /// If the account is not rotated, or the database does not answer.
    pub async fn preview(&self, account: &AccountName) -> Result<Plan, RotateError> {
        self.rotator.preview(account).await
    }

    /// Asks for a rotation as somebody at this machine.
    ///
    /// # Errors
    /// If the account is not rotated, or the request could not be recorded.
    pub async fn request(&self, account: &AccountName, order: &Order) -> Result<Rotation, Failure> {
        let asked = self
            .requester
            .request_at_console(console_actor(), account, order);
        Ok(asked.await?)
    }

    /// Brings the account further, if this process gets the lease, and gives it back: between two
    /// looks others' accounts must not wait for it. `None` while another process has it.
    ///
    /// # Errors
    /// If the database or the journal does not answer.
    pub async fn advance(
        &self,
        account: &AccountName,
    ) -> Result<Option<AccountStatus>, RotateError> {
        if !self.tenure.take().await? {
            return Ok(None);
        }
        let advanced = self.rotator.advance(account, &self.tenure).await;
        self.scheduler.end().await;
        match advanced {
            Ok(status) => Ok(Some(status)),
            Err(RotateError::LeaseLost | RotateError::Handover) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it is time to look at the account again.
    #[must_use]
    pub fn is_due(&self, status: &AccountStatus) -> bool {
        status.look_at <= self.rotator.clock.now()
    }

    /// One rotation, with its steps.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn rotation(
        &self,
        account: &AccountName,
        id: RotationId,
    ) -> Result<Option<Rotation>, StoreError> {
        self.records.rotation(account, id).await
    }

    /// One tick, as the scheduler of a serving broker does it once a minute.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.scheduler.tick(&CancellationToken::new()).await
    }

    /// Gives the lease back and flushes the journal.
    pub async fn close(self) {
        self.scheduler.end().await;
        self.break_off().await;
    }

    /// Flushes the journal, and lets the lease end by itself: a call may have been cut off, and whoever
    /// comes next must wait for its end.
    pub async fn break_off(self) {
        self.journal.close().await;
    }
}
