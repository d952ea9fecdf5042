//! The rotation of account keys: what is observed, what the records say, and the one step that
//! follows from both.
//!
//! Microsoft's dual-key convention, made safe. One secret for each account; its versions alternate
//! between the two keys. Consumers use the newest version; the key that it names is the *active*
//! one and is never regenerated, except where a break-glass names it, and then only after the other
//! key's live value is published. The *alternate* key is regenerated when a rotation is due, but not
//! before its overlap has passed since the publication that superseded it.
//!
//! ```text
//! tick -> observe (ARM, vault, database) -> plan (here, pure) -> record intent -> one step
//!      -> record outcome -> observe again
//! ```
//!
//! Read [`mod@plan`] first, then [`step`] for what follows from it, [`observation`] for what is looked
//! at, [`record`] for what the database keeps.

mod finding;
mod key;
pub mod observation;
pub mod plan;
mod policy;
pub mod record;
pub mod schedule;
mod secret;
pub mod shared_key;
pub mod step;
mod work;
mod write;

pub use self::{
    key::{CreationTime, CreationTimes, KeyName},
    plan::{plan, status},
    policy::{
        DeletedSecret, InvalidRotation, JITTER_MINUTES_MAX, OVERLAP_HOURS_MAX, OVERLAP_HOURS_MIN,
        ProofPolicy, RotationPolicy, SecretForm,
    },
    record::{
        AccountStatus, InFlight, Publication, Regenerated, Rotation, RotationState, RotationStep,
        State, StepKind, StepOutcome, Trigger,
    },
    secret::{content_type, secret_value},
    step::{Next, Plan, Step},
    write::{Fence, Notification, NotificationKind, RotationBatch, RotationWrite},
};
