//! Outages on demand, and a count of the calls each endpoint received.
//!
//! Every handler asks [`Faults::strike`] (or [`Faults::meet`], where there is no effect to lose)
//! first. The simulated world itself never fails by chance: what is not set here does not happen.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::Bytes;
use futures_util::stream;
use time::OffsetDateTime;

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
    /// Blob storage: every call signed with an account key.
    SharedKey,
    /// Blob storage: everything else, on the blob and the dfs endpoint.
    Data,
    /// ARM: reading and listing storage accounts.
    ArmRead,
    /// ARM: `listKeys`.
    ArmListKeys,
    /// ARM: `regenerateKey`.
    ArmRegenerateKey,
    /// ARM: `revokeUserDelegationKeys`.
    ArmRevokeDelegationKeys,
    /// Every vault: a call without a token, which asks for the challenge.
    VaultChallenge,
    /// Every vault: a new version of a secret.
    VaultSet,
    /// Every vault: the value of a version.
    VaultGet,
    /// Every vault: the lists of versions, secrets and deleted secrets, and one deleted secret.
    VaultList,
    /// Every vault: a change of a version's attributes.
    VaultUpdate,
    /// Every vault: delete, recover and purge.
    VaultDelete,
}

/// What an endpoint does instead of its work, or with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers this status with an empty body, and `Retry-After` if given (seconds).
    Status {
        /// The HTTP status.
        code: StatusCode,
        /// Value of the `Retry-After` header, in seconds.
        retry_after_seconds: Option<u32>,
    },
    /// Refuses the call in the words of the service's own limiter: ARM's storage provider and the
    /// vaults answer 429, the data plane 503.
    Throttled {
        /// Value of the `Retry-After` header, in seconds.
        retry_after_seconds: Option<u32>,
    },
    /// As [`Fault::Throttled`], but in ARM the limit of the whole subscription.
    SubscriptionThrottled {
        /// Value of the `Retry-After` header, in seconds.
        retry_after_seconds: Option<u32>,
    },
    /// Does its work, but only after this time.
    Delay(Duration),
    /// Takes the request and does not answer (for at most ten minutes).
    Hang,
    /// The client learns nothing, whatever became of its call.
    Lost {
        /// What becomes of the call.
        effect: Effect,
        /// What the client sees.
        seen: Seen,
    },
}

/// What becomes of a call whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call never reached the service.
    Never,
    /// The work is done.
    Now,
    /// The work is done when the simulated clock reaches this instant, with the rights checked at
    /// the time of the call. Only ARM and the vaults know this; elsewhere it is
    /// [`Effect::Never`].
    At(OffsetDateTime),
}

/// What a client sees of a lost answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The connection is closed without an answer.
    Cut,
    /// A gateway answers 504.
    GatewayTimeout,
    /// Nothing (for at most ten minutes).
    Silence,
}

/// A service's limiter turned a call away; each service puts it in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttled {
    pub(super) whole_subscription: bool,
    pub(super) retry_after_seconds: Option<u32>,
}

/// What a handler has to do about a call.
pub(super) enum Strike {
    /// Its work.
    Work,
    /// Only this answer.
    Answer(HttpResponse),
    /// A refusal in the service's own words.
    Throttle(Throttled),
    /// Its work, and then this in place of the answer.
    WorkUnseen(Seen),
    /// Its work at that instant, and this in place of the answer now.
    WorkLater(OffsetDateTime, Seen),
}

impl Seen {
    /// What stands in place of the answer.
    pub(super) async fn answer(self) -> HttpResponse {
        match self {
            Self::Cut => cut(),
            Self::GatewayTimeout => HttpResponse::GatewayTimeout().finish(),
            Self::Silence => {
                tokio::time::sleep(HANG_LONGEST).await;
                HttpResponse::GatewayTimeout().finish()
            }
        }
    }
}

/// An answer whose body fails before its first byte: over HTTP/1.1, which the official clients
/// speak, the server then closes the connection with nothing of it sent, the head included.
fn cut() -> HttpResponse {
    let broken = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset));
    HttpResponse::Ok().streaming(stream::iter([broken]))
}

#[derive(Default)]
struct Record {
    calls: u64,
    fault: Option<Fault>,
    /// Faults of certain calls, by the number of the call: the first call is 0.
    planned: Vec<(Range<u64>, Fault)>,
}

impl Record {
    /// Counts one call; the fault that strikes it.
    fn count(&mut self) -> Option<Fault> {
        let number = self.calls;
        self.calls += 1;
        self.planned.retain(|(calls, _)| number < calls.end);
        let planned = self
            .planned
            .iter()
            .find(|(calls, _)| calls.contains(&number));
        planned.map(|(_, fault)| *fault).or(self.fault)
    }
}

/// The faults in force and the counters.
#[derive(Default)]
pub(super) struct Faults {
    records: Mutex<HashMap<Endpoint, Record>>,
}

impl Faults {
    /// Sets or, with `None`, lifts every fault of one endpoint.
    pub(super) fn set(&self, endpoint: Endpoint, fault: Option<Fault>) {
        let mut records = self.lock();
        let record = records.entry(endpoint).or_default();
        record.fault = fault;
        record.planned.clear();
    }

    /// Lets a fault strike certain calls from now on: `0..1` is the next one.
    pub(super) fn plan(&self, endpoint: Endpoint, calls: Range<u32>, fault: Fault) {
        let mut records = self.lock();
        let record = records.entry(endpoint).or_default();
        let from = |call: u32| record.calls + u64::from(call);
        let calls = from(calls.start)..from(calls.end);
        record.planned.push((calls, fault));
    }

    /// Calls received since the start, failed ones included.
    pub(super) fn calls(&self, endpoint: Endpoint) -> u64 {
        self.lock().get(&endpoint).map_or(0, |record| record.calls)
    }

    /// Counts one call and lets the endpoint's fault strike.
    pub(super) async fn strike(&self, endpoint: Endpoint) -> Strike {
        let fault = self.lock().entry(endpoint).or_default().count();
        match fault {
            None => Strike::Work,
            Some(Fault::Status {
                code,
                retry_after_seconds,
            }) => Strike::Answer(status(code, retry_after_seconds)),
            Some(Fault::Throttled {
                retry_after_seconds,
            }) => Strike::Throttle(Throttled {
                whole_subscription: false,
                retry_after_seconds,
            }),
            Some(Fault::SubscriptionThrottled {
                retry_after_seconds,
            }) => Strike::Throttle(Throttled {
                whole_subscription: true,
                retry_after_seconds,
            }),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Strike::Work
            }
            Some(Fault::Hang) => Strike::Answer(Seen::Silence.answer().await),
            Some(Fault::Lost { effect, seen }) => match effect {
                Effect::Never => Strike::Answer(seen.answer().await),
                Effect::Now => Strike::WorkUnseen(seen),
                Effect::At(instant) => Strike::WorkLater(instant, seen),
            },
        }
    }

    /// As [`Self::strike`], for a call that changes nothing. `Some` is the answer to give instead
    /// of the work's.
    pub(super) async fn meet(&self, endpoint: Endpoint) -> Option<HttpResponse> {
        match self.strike(endpoint).await {
            Strike::Work => None,
            Strike::Answer(answer) => Some(answer),
            Strike::Throttle(limit) => Some(status(
                StatusCode::TOO_MANY_REQUESTS,
                limit.retry_after_seconds,
            )),
            Strike::WorkUnseen(seen) | Strike::WorkLater(_, seen) => Some(seen.answer().await),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, Record>> {
        // Counters and faults are whole after every statement, so a panic elsewhere spoils nothing.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(code: StatusCode, retry_after_seconds: Option<u32>) -> HttpResponse {
    let mut answer = HttpResponse::build(code);
    if let Some(seconds) = retry_after_seconds {
        answer.insert_header((RETRY_AFTER, seconds.to_string()));
    }
    answer.finish()
}
