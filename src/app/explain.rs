//! The decision with its reasons, without a token and without a record.

use std::sync::Arc;

use super::policy::PolicyCache;
use crate::{
    domain::{
        decide::{Decision, Moment, decide},
        permit::{Explain, Permit},
        request::AccessRequest,
        validity::Limits,
    },
    ports::{Clock, StoreError},
};

/// Explains decisions.
pub struct Explainer {
    policy: Arc<PolicyCache>,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

impl Explainer {
    /// An explainer over the same table and limits that issuing has.
    #[must_use]
    pub const fn new(policy: Arc<PolicyCache>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self {
            policy,
            clock,
            limits,
        }
    }

    /// What issuing would decide now.
    ///
    /// # Errors
    /// If the role table cannot be read.
    pub async fn explain(
        &self,
        permit: &Permit<Explain>,
        request: &AccessRequest,
    ) -> Result<Decision, StoreError> {
        let context = permit.context();
        let snapshot = self.policy.fresh().await?;
        let moment = Moment {
            client: context.client,
            limits: &self.limits,
            now: self.clock.now(),
        };
        Ok(decide(&context.caller, request, &snapshot, moment))
    }
}
