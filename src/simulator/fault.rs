//! Outages on demand, and a count of the calls each endpoint received.
//!
//! Every handler asks [`Faults::meet`] first. The simulated world itself never fails by chance:
//! what is not set here does not happen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;

/// How long [`Fault::Hang`] holds a request before it answers 504, so that a client without any
/// timeout cannot pin the simulator's memory for ever. Longer than every timeout of the broker.
const HANG_LONGEST: Duration = Duration::from_secs(600);

/// One group of URLs whose calls are counted, and can be made to fail, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Entra: OpenID Connect discovery, both versions.
    Discovery,
    /// Entra: the published signing keys, both versions.
    Jwks,
    /// Entra: the token endpoint.
    Token,
    /// Blob storage: Get User Delegation Key.
    DelegationKey,
    /// Blob storage: everything else, on the blob and the dfs endpoint.
    Data,
}

/// What an endpoint does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers this status with an empty body, and `Retry-After` if given (seconds).
    Status {
        /// The HTTP status.
        code: StatusCode,
        /// Value of the `Retry-After` header, in seconds.
        retry_after_seconds: Option<u32>,
    },
    /// Does its work, but only after this time.
    Delay(Duration),
    /// Takes the request and does not answer (for at most ten minutes).
    Hang,
}

#[derive(Default)]
struct Record {
    calls: u64,
    fault: Option<Fault>,
}

/// The faults in force and the counters.
#[derive(Default)]
pub(super) struct Faults {
    records: Mutex<HashMap<Endpoint, Record>>,
}

impl Faults {
    /// Sets or, with `None`, lifts the fault of one endpoint.
    pub(super) fn set(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.lock().entry(endpoint).or_default().fault = fault;
    }

    /// Calls received since the start, failed ones included.
    pub(super) fn calls(&self, endpoint: Endpoint) -> u64 {
        self.lock().get(&endpoint).map_or(0, |record| record.calls)
    }

    /// Counts one call and lets the endpoint's fault strike. `Some` is the answer to give instead
    /// of doing the work.
    pub(super) async fn meet(&self, endpoint: Endpoint) -> Option<HttpResponse> {
        let fault = {
            let mut records = self.lock();
            let record = records.entry(endpoint).or_default();
            record.calls += 1;
            record.fault
        };
        match fault? {
            Fault::Status {
                code,
                retry_after_seconds,
            } => {
                let mut answer = HttpResponse::build(code);
                if let Some(seconds) = retry_after_seconds {
                    answer.insert_header((RETRY_AFTER, seconds.to_string()));
                }
                Some(answer.finish())
            }
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                None
            }
            Fault::Hang => {
                tokio::time::sleep(HANG_LONGEST).await;
                Some(HttpResponse::GatewayTimeout().finish())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, Record>> {
        // Counters and faults are whole after every statement, so a panic elsewhere spoils nothing.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
