//! One outside call of a rotation: its permit, its time limit, and what a failure means. The one place
//! that decides whether a mutation certainly did not take place.
//!
//! Of an answer, nothing but its status and Azure's error code enters an error.

use std::{error::Error, hash::Hash, sync::Arc, time::Duration};

use azure_core::{
    Bytes,
    credentials::TokenCredential,
    error::ErrorKind,
    http::{
        Context, RawResponse, StatusCode,
        headers::{HeaderName, Headers},
        response::ResponseBody,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use time::OffsetDateTime;
use zeroize::Zeroize;

use super::{
    credential::{Credentials, SignInFailed},
    sdk::Departed,
    throttle::{Kind, PAUSE_MAX, Throttle},
};
use crate::{
    domain::ids::SigningIdentity,
    ports::{OUTSIDE_CALL_TIMEOUT, OutsideError},
};

/// Longest error code that is repeated, in characters; Azure's own stay under 60.
const CODE_CHARS_MAX: usize = 80;

/// What a failed call leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it reads.
    None,
    /// Perhaps what it asked for.
    Mutation,
}

/// Makes one call: takes a permit, limits its time, sorts its failure, and remembers `Retry-After`.
pub(super) async fn call<K, T, F>(
    throttle: &Throttle<K>,
    of: &K,
    what: (Kind, Effect),
    work: impl FnOnce(Context<'static>) -> F,
) -> Result<T, OutsideError>
where
    K: Eq + Hash + Clone,
    F: Future<Output = azure_core::Result<T>>,
{
    call_within(OUTSIDE_CALL_TIMEOUT, throttle, of, what, work).await
}

async fn call_within<K, T, F>(
    limit: Duration,
    throttle: &Throttle<K>,
    of: &K,
    (kind, effect): (Kind, Effect),
    work: impl FnOnce(Context<'static>) -> F,
) -> Result<T, OutsideError>
where
    K: Eq + Hash + Clone,
    F: Future<Output = azure_core::Result<T>>,
{
    throttle.permit(of, kind)?;
    let departed = Departed::default();
    let done = tokio::time::timeout(limit, work(departed.context())).await;
    let may_have_taken_place = effect == Effect::Mutation && departed.yes();
    let Ok(done) = done else {
        return Err(lost(may_have_taken_place, "no answer in time"));
    };
    done.map_err(|error| {
        if let Some(refusal) = Refusal::of(&error) {
            let said = refusal.retry_after(throttle.now());
            if refusal.throttles() || said.is_some() {
                throttle.pause(of, said);
            }
            refusal.classify(effect, said)
        } else {
            without_answer(&error, may_have_taken_place)
        }
    })
}

/// Parses an answer and wipes its bytes, as far as nobody else holds them.
pub(super) fn read<T: DeserializeOwned>(body: ResponseBody) -> Option<T> {
    let bytes = Bytes::from(body);
    let parsed = serde_json::from_slice(&bytes).ok();
    if let Ok(mut owned) = bytes.try_into_mut() {
        owned.as_mut().zeroize();
    }
    parsed
}

/// Why no token could be had, if that is the reason.
pub(super) fn sign_in_failure(error: &azure_core::Error) -> Option<&SignInFailed> {
    let first: &(dyn Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |cause| (*cause).source());
    causes.find_map(|cause| cause.downcast_ref())
}

/// The credential of that name.
pub(super) fn credential<'c>(
    credentials: &'c Credentials,
    identity: &SigningIdentity,
) -> Result<&'c Arc<dyn TokenCredential>, OutsideError> {
    credentials
        .get(identity)
        .ok_or_else(|| no_credential(identity))
}

/// Nobody configured it.
pub(super) fn no_credential(identity: &SigningIdentity) -> OutsideError {
    let text = format!("no credential is configured under the name {identity}");
    OutsideError::Misconfigured(text)
}

fn lost(may_have_taken_place: bool, text: &str) -> OutsideError {
    if may_have_taken_place {
        OutsideError::Unclear(text.to_owned())
    } else {
        OutsideError::Unavailable(text.to_owned())
    }
}

/// No answer with a status: what is certain follows from how far the request came.
fn without_answer(error: &azure_core::Error, may_have_taken_place: bool) -> OutsideError {
    if let Some(failed) = sign_in_failure(error) {
        let text = failed.to_string();
        return match failed {
            SignInFailed::Refused(_) | SignInFailed::ForeignAudience => OutsideError::Denied(text),
            SignInFailed::Unavailable | SignInFailed::TimedOut => OutsideError::Unavailable(text),
        };
    }
    match error.kind() {
        // The SDK's word for a connection that never stood: name, route, proxy or TLS.
        ErrorKind::Connection => lost(false, "the host could not be connected to"),
        ErrorKind::Credential => lost(may_have_taken_place, "no token could be had"),
        ErrorKind::Io => lost(
            may_have_taken_place,
            "the connection broke, or the answer was late",
        ),
        _ if may_have_taken_place => lost(true, "the answer could not be read"),
        _ => lost(
            false,
            "the request was not sent, or its answer could not be read",
        ),
    }
}

/// An answer that is no success.
struct Refusal<'e> {
    status: StatusCode,
    /// Azure's code, and the innermost one below it.
    code: Option<String>,
    inner_code: Option<String>,
    headers: Option<&'e Headers>,
}

#[derive(Deserialize)]
struct Envelope {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    code: Option<String>,
    #[serde(alias = "innerError")]
    innererror: Option<Box<Detail>>,
}

impl Detail {
    fn innermost(&self) -> Option<&str> {
        let inner = self.innererror.as_ref()?;
        inner.innermost().or(inner.code.as_deref())
    }
}

impl<'e> Refusal<'e> {
    fn of(error: &'e azure_core::Error) -> Option<Self> {
        let ErrorKind::HttpResponse {
            status,
            raw_response,
            ..
        } = error.kind()
        else {
            return None;
        };
        let answer = raw_response.as_deref();
        // The SDK's own reading fails at any text with an escape in it, such as a line break.
        let read = |answer: &RawResponse| serde_json::from_slice(answer.body()).ok();
        let detail = answer
            .and_then(read)
            .map(|envelope: Envelope| envelope.error);
        let headers = answer.map(RawResponse::headers);
        let in_header = headers.and_then(|headers| text(headers, "x-ms-error-code"));
        let code = detail.as_ref().and_then(|detail| detail.code.as_deref());
        Some(Self {
            status: *status,
            code: code.or(in_header).and_then(plain),
            inner_code: detail.as_ref().and_then(Detail::innermost).and_then(plain),
            headers,
        })
    }

    /// Status and code: all that is told of it.
    fn said(&self) -> String {
        let status = u16::from(self.status);
        match (&self.code, &self.inner_code) {
            (Some(code), Some(inner)) if code != inner => format!("{status} {code} ({inner})"),
            (Some(code), _) => format!("{status} {code}"),
            (None, Some(inner)) => format!("{status} {inner}"),
            (None, None) => format!("{status} without a code"),
        }
    }

    fn is(&self, codes: &[&str]) -> bool {
        let known = |code: &Option<String>| {
            let code = code.as_deref();
            code.is_some_and(|code| codes.iter().any(|known| known.eq_ignore_ascii_case(code)))
        };
        known(&self.code) || known(&self.inner_code)
    }

    fn throttles(&self) -> bool {
        self.status == StatusCode::TooManyRequests
            || self.is(&["TooManyRequests", "SubscriptionRequestsThrottled"])
    }

    /// What the answer says about coming back; only "too many" and "unavailable" say it.
    fn retry_after(&self, now: OffsetDateTime) -> Option<Duration> {
        let speaks = self.throttles() || self.status == StatusCode::ServiceUnavailable;
        retry_after(self.headers.filter(|_| speaks)?, now)
    }

    /// What it means. Sources of the codes: ARM's common errors, the storage provider's and Key
    /// Vault's error pages, and public bug reports with the bodies in them.
    fn classify(&self, effect: Effect, retry_after: Option<Duration>) -> OutsideError {
        let said = self.said();
        let mutation = effect == Effect::Mutation;
        let status = u16::from(self.status);
        if self.throttles() {
            OutsideError::Throttled { retry_after }
        } else if self.is(&[
            "InvalidResourceType",
            "NoRegisteredProviderFound",
            "InvalidApiVersionParameter",
        ]) {
            OutsideError::Misconfigured(format!(
                "the api-version is not known there, see cloud.resource_manager_api_version and \
                 cloud.vault_api_version: {said}"
            ))
        } else if self.is(&["ScopeLocked", "ReadOnlyDisabledSubscription"]) {
            OutsideError::Locked(said)
        } else if self.is(&["ObjectIsDeletedButRecoverable"]) {
            OutsideError::Locked(format!(
                "the secret is deleted and can be recovered: {said}"
            ))
        } else {
            match status {
                401 | 403 => OutsideError::Denied(said),
                404 => OutsideError::Gone(said),
                409 => OutsideError::Busy(said),
                // A gateway that gave up waiting does not know what became of the request.
                408 if mutation => OutsideError::Unclear(said),
                400..500 => OutsideError::Unavailable(said),
                // For a read that is all there is to say. A mutation may have been begun by the one
                // that now wants to be left alone.
                503 if retry_after.is_some() && !mutation => {
                    OutsideError::Throttled { retry_after }
                }
                _ if mutation => OutsideError::Unclear(said),
                _ => OutsideError::Unavailable(said),
            }
        }
    }
}

/// A code, if it looks like one: whatever else stands there is not repeated.
pub(super) fn plain(code: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=CODE_CHARS_MAX)
        .contains(&code.len())
        .then_some(code)
        .filter(|code| code.chars().all(fits))
        .map(str::to_owned)
}

fn text<'h>(headers: &'h Headers, name: &'static str) -> Option<&'h str> {
    headers.get_optional_str(&HeaderName::from_static(name))
}

/// `x-ms-retry-after-ms`, `retry-after-ms`, or `Retry-After` in seconds or as a date; at most
/// [`PAUSE_MAX`].
fn retry_after(headers: &Headers, now: OffsetDateTime) -> Option<Duration> {
    let number = |name| text(headers, name)?.trim().parse().ok();
    let date = || {
        let at = text(headers, "retry-after")?;
        let at = azure_core::time::parse_rfc7231(at).ok()?;
        Some(Duration::try_from(at - now).unwrap_or(Duration::ZERO))
    };
    number("x-ms-retry-after-ms")
        .or_else(|| number("retry-after-ms"))
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
        .or_else(date)
        .map(|wait| wait.min(PAUSE_MAX))
}

#[cfg(test)]
mod tests;
