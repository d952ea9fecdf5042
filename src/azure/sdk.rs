//! The SDK's pipelines, made to keep what a rotation promises: a mutation is sent once, a bearer goes
//! to one host only, and it is known whether a request left at all.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{
        ClientOptions, Context, Request, RetryOptions, StatusCode, Url,
        headers::AUTHORIZATION,
        policies::{Policy, PolicyResult, RetryHeaders, RetryPolicy},
    },
    time::Duration,
};
use reqwest::Client;
use url::Origin;

use super::http::sdk_options;

/// Repetitions of one read: it changes nothing. Whoever asked tries again later, too.
const READ_RETRIES_MAX: u32 = 2;
/// Pause before the first repetition of a read; it doubles.
const READ_RETRY_PAUSE: Duration = Duration::milliseconds(250);
/// What a read is repeated for. Not 429 and 503: the SDK would sleep for as long as `Retry-After`
/// says, and nobody would learn that Azure throttles.
const READ_RETRY_STATUSES: [StatusCode; 3] = [
    StatusCode::InternalServerError,
    StatusCode::BadGateway,
    StatusCode::GatewayTimeout,
];

/// Options for reads from the host of `base`.
pub(super) fn reads(client: &Client, base: &Url) -> ClientOptions {
    with_retry(client, base, RetryOptions::custom(Arc::new(ReadRetry)))
}

/// Options for mutations at the host of `base`. By its defaults the SDK resends even a POST after a
/// 5xx or a broken connection: `regenerateKey` went out four times.
pub(super) fn mutations(client: &Client, base: &Url) -> ClientOptions {
    with_retry(client, base, RetryOptions::none())
}

fn with_retry(client: &Client, base: &Url, retry: RetryOptions) -> ClientOptions {
    let gate = Gate {
        home: base.origin(),
    };
    ClientOptions {
        retry,
        per_try_policies: vec![Arc::new(gate)],
        ..sdk_options(client)
    }
}

/// Whether a request with our bearer token has left, or may have. Travels in a call's context.
#[derive(Debug, Clone, Default)]
pub(super) struct Departed(Arc<AtomicBool>);

impl Departed {
    pub(super) fn yes(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// A context that carries it.
    pub(super) fn context(&self) -> Context<'static> {
        Context::new().with_value(self.clone())
    }
}

/// The last policy before the transport, after the one that signs in.
#[derive(Debug)]
struct Gate {
    home: Origin,
}

#[async_trait]
impl Policy for Gate {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        // A `nextLink` may name any host, and the SDK would follow it with our token.
        if request.url().origin() != self.home {
            let text = "the request would leave the configured host";
            return Err(azure_core::Error::with_message(ErrorKind::Other, text));
        }
        // Key Vault's first request carries neither token nor body, to be told where to sign in.
        let signed_in = request.headers().get_optional_str(&AUTHORIZATION).is_some();
        if let Some(departed) = ctx.value::<Departed>().filter(|_| signed_in) {
            departed.0.store(true, SeqCst);
        }
        let (first, rest) = next.split_first().ok_or_else(|| {
            azure_core::Error::with_message(ErrorKind::Other, "the pipeline has no transport")
        })?;
        first.send(ctx, request, rest).await
    }
}

/// Two repetitions after short pauses, whatever `Retry-After` says.
#[derive(Debug)]
struct ReadRetry;

#[async_trait]
impl RetryPolicy for ReadRetry {
    fn is_expired(&self, _: Duration, retry_count: u32) -> bool {
        retry_count >= READ_RETRIES_MAX
    }

    fn retry_headers(&self) -> Option<&RetryHeaders> {
        None
    }

    fn retry_status_codes(&self) -> &[StatusCode] {
        &READ_RETRY_STATUSES
    }

    fn sleep_duration(&self, retry_count: u32) -> Duration {
        READ_RETRY_PAUSE * retry_count
    }
}
