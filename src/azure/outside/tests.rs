//! What failures mean, row by row.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use azure_core::http::{HttpClient, Method, Pipeline, Request, Url};
use time::macros::datetime;

use super::*;
use crate::{
    azure::{
        sdk,
        throttle::{Pace, Paces},
    },
    testing::FakeClock,
};

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
/// A key as Azure writes it: it must not appear in anything that is told.
const CANARY: &str = "Y2FuYXJ5LWtleS1vZi1hbi1hY2NvdW50+/==";

type Header = (&'static str, &'static str);

/// Status, headers, body; and what that means for a read and for a mutation.
type Row = (u16, &'static [Header], String, (OutsideError, OutsideError));

fn error(status: u16, headers: &[Header], body: &str) -> azure_core::Error {
    let mut all = Headers::new();
    for (name, value) in headers {
        all.insert(HeaderName::from_static(name), (*value).to_owned());
    }
    let answer = RawResponse::from_bytes(status.into(), all, body.to_owned());
    let kind = ErrorKind::HttpResponse {
        status: status.into(),
        error_code: None,
        raw_response: Some(Box::new(answer)),
    };
    azure_core::Error::with_message(kind, body.to_owned())
}

fn arm(code: &str) -> String {
    format!(r#"{{"error":{{"code":"{code}","message":"a\r\nb {CANARY}"}}}}"#)
}

fn vault(code: &str, inner: &str) -> String {
    format!(
        r#"{{"error":{{"code":"{code}","message":"{CANARY}","innererror":{{"code":"{inner}"}}}}}}"#
    )
}

fn classify(error: &azure_core::Error, effect: Effect) -> OutsideError {
    let refusal = Refusal::of(error).unwrap();
    let said = refusal.retry_after(NOW);
    refusal.classify(effect, said)
}

#[test]
fn an_answer_means_for_reads_and_mutations_what_is_certain_and_no_more() {
    use OutsideError as E;
    let seconds = |seconds| E::Throttled {
        retry_after: Some(Duration::from_secs(seconds)),
    };
    let s = str::to_owned;
    let api = |said: &str| {
        E::Misconfigured(format!(
            "the api-version is not known there, see cloud.resource_manager_api_version and \
             cloud.vault_api_version: {said}"
        ))
    };
    let deleted =
        "the secret is deleted and can be recovered: 409 Conflict (ObjectIsDeletedButRecoverable)";
    let both = |error: E| (error.clone(), error);
    const WAIT: &[Header] = &[("retry-after", "30")];
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        (429, WAIT, arm("TooManyRequests"), both(seconds(30))),
        (429, &[], arm("SubscriptionRequestsThrottled"), both(E::Throttled { retry_after: None })),
        (429, WAIT, String::new(), both(seconds(30))),
        (503, WAIT, arm("ServerBusy"), (seconds(30), E::Unclear(s("503 ServerBusy")))),
        (503, WAIT, arm("SubscriptionRequestsThrottled"), both(seconds(30))),
        (409, &[], arm("StorageAccountOperationInProgress"), both(E::Busy(s("409 StorageAccountOperationInProgress")))),
        (409, &[], arm("StorageAccountIsNotProvisioned"), both(E::Busy(s("409 StorageAccountIsNotProvisioned")))),
        (409, &[], vault("Conflict", "ObjectIsBeingRecovered"), both(E::Busy(s("409 Conflict (ObjectIsBeingRecovered)")))),
        (409, &[], vault("Conflict", "ObjectIsDeletedButRecoverable"), both(E::Locked(s(deleted)))),
        (409, &[], arm("ScopeLocked"), both(E::Locked(s("409 ScopeLocked")))),
        (409, &[], arm("ReadOnlyDisabledSubscription"), both(E::Locked(s("409 ReadOnlyDisabledSubscription")))),
        (403, &[], arm("AuthorizationFailed"), both(E::Denied(s("403 AuthorizationFailed")))),
        (403, &[], vault("Forbidden", "ForbiddenByRbac"), both(E::Denied(s("403 Forbidden (ForbiddenByRbac)")))),
        (403, &[], vault("Forbidden", "ForbiddenByFirewall"), both(E::Denied(s("403 Forbidden (ForbiddenByFirewall)")))),
        (401, &[], arm("ExpiredAuthenticationToken"), both(E::Denied(s("401 ExpiredAuthenticationToken")))),
        (404, &[], arm("ResourceNotFound"), both(E::Gone(s("404 ResourceNotFound")))),
        (404, &[], arm("InvalidResourceType"), both(api("404 InvalidResourceType"))),
        (400, &[], arm("NoRegisteredProviderFound"), both(api("400 NoRegisteredProviderFound"))),
        (400, &[], arm("InvalidApiVersionParameter"), both(api("400 InvalidApiVersionParameter"))),
        (400, &[], arm("BadRequest"), both(E::Unavailable(s("400 BadRequest")))),
        (408, &[], String::new(), (E::Unavailable(s("408 without a code")), E::Unclear(s("408 without a code")))),
        (500, &[], arm("InternalServerError"), (E::Unavailable(s("500 InternalServerError")), E::Unclear(s("500 InternalServerError")))),
        (502, &[], s("<html>bad gateway</html>"), (E::Unavailable(s("502 without a code")), E::Unclear(s("502 without a code")))),
        (503, &[], String::new(), (E::Unavailable(s("503 without a code")), E::Unclear(s("503 without a code")))),
        (504, WAIT, arm("GatewayTimeout"), (E::Unavailable(s("504 GatewayTimeout")), E::Unclear(s("504 GatewayTimeout")))),
        (202, &[], String::new(), (E::Unavailable(s("202 without a code")), E::Unclear(s("202 without a code")))),
        (307, &[], String::new(), (E::Unavailable(s("307 without a code")), E::Unclear(s("307 without a code")))),
        (403, &[("x-ms-error-code", "AccountIsDisabled")], String::new(), both(E::Denied(s("403 AccountIsDisabled")))),
        (400, &[], arm(CANARY), both(E::Unavailable(s("400 without a code")))),
        (400, &[], arm(&"x".repeat(81)), both(E::Unavailable(s("400 without a code")))),
    ];
    for (status, headers, body, (read, mutation)) in rows {
        let error = error(status, headers, &body);
        for (effect, expected) in [(Effect::None, read), (Effect::Mutation, mutation)] {
            let found = classify(&error, effect);
            assert_eq!(found, expected, "{status} {body} {effect:?}");
            assert!(
                !format!("{found:?} {found}").contains("Y2FuYXJ5"),
                "{found}"
            );
        }
    }
}

#[test]
fn retry_after_is_read_in_every_form_and_never_believed_without_bound() {
    let rows: [(&[Header], Option<u64>); 9] = [
        (&[("retry-after", "17")], Some(17_000)),
        (&[("retry-after", "0")], Some(0)),
        (
            &[("retry-after", "Mon, 23 Nov 2026 12:01:00 GMT")],
            Some(60_000),
        ),
        (&[("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT")], Some(0)),
        (&[("retry-after-ms", "250")], Some(250)),
        (
            &[("x-ms-retry-after-ms", "90"), ("retry-after", "17")],
            Some(90),
        ),
        (&[("retry-after", "999999999")], Some(3_600_000)),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "-1")], None),
    ];
    for (headers, expected) in rows {
        let error = error(429, headers, "");
        let found = Refusal::of(&error).unwrap().retry_after(NOW);
        assert_eq!(found, expected.map(Duration::from_millis), "{headers:?}");
    }
    let elsewhere = error(409, &[("retry-after", "17")], "");
    assert_eq!(Refusal::of(&elsewhere).unwrap().retry_after(NOW), None);
}

#[test]
fn without_an_answer_what_is_certain_follows_from_how_far_the_request_came() {
    let plain = |kind| azure_core::Error::with_message(kind, CANARY);
    let sign_in = |failed: SignInFailed| azure_core::Error::from(failed).with_context("more");
    let refused = SignInFailed::Refused("AADSTS700016".to_owned());
    for left in [false, true] {
        let class = |error: azure_core::Error| match without_answer(&error, left) {
            OutsideError::Denied(text) => ("denied", text),
            OutsideError::Unavailable(text) => ("unavailable", text),
            OutsideError::Unclear(text) => ("unclear", text),
            other => panic!("{other}"),
        };
        let lost = if left { "unclear" } else { "unavailable" };
        let rows = [
            (plain(ErrorKind::Connection), "unavailable"),
            (plain(ErrorKind::Io), lost),
            (plain(ErrorKind::DataConversion), lost),
            (plain(ErrorKind::Other), lost),
            (sign_in(refused.clone()), "denied"),
            (sign_in(SignInFailed::Unavailable), "unavailable"),
            (sign_in(SignInFailed::TimedOut), "unavailable"),
        ];
        for (error, expected) in rows {
            let kind = error.kind().clone();
            let (found, text) = class(error);
            assert_eq!(found, expected, "{kind:?}, left: {left}");
            assert!(!text.contains(CANARY), "{text}");
        }
    }
}

/// A transport that never answers.
#[derive(Debug, Default)]
struct Silent(AtomicUsize);

#[async_trait::async_trait]
impl HttpClient for Silent {
    async fn execute_request(
        &self,
        _: &Request,
    ) -> azure_core::Result<azure_core::http::AsyncRawResponse> {
        self.0.fetch_add(1, SeqCst);
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_call_ends_in_time_and_only_a_request_that_left_is_unclear() {
    let pace = Pace {
        burst: 10,
        every: Duration::from_secs(1),
    };
    let paces = Paces {
        reads: pace,
        writes: pace,
    };
    let throttle = Throttle::new(Arc::new(FakeClock::at(NOW)), paces);
    let url: Url = "https://arm.example/x".parse().unwrap();
    let web = crate::web::client(None, crate::web::Route::Environment).unwrap();
    let silent = Arc::new(Silent::default());
    let mut options = sdk::mutations(&web, &url);
    options.transport = Some(azure_core::http::Transport::new(silent.clone()));
    let pipeline = Pipeline::new(None, None, options, vec![], vec![], None);
    let rows = [
        (Effect::Mutation, true, "unclear: no answer in time"),
        (Effect::Mutation, false, "unavailable: no answer in time"),
        (Effect::None, true, "unavailable: no answer in time"),
    ];
    for (effect, signed_in, expected) in rows {
        let limit = Duration::from_millis(20);
        let what = (Kind::Write, effect);
        let error = call_within(limit, &throttle, &1, what, async |context| {
            let mut request = Request::new(url.clone(), Method::Post);
            if signed_in {
                request.insert_header("authorization", "Bearer x");
            }
            pipeline.send(&context, &mut request, None).await
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let elsewhere = call(&throttle, &1, (Kind::Read, Effect::None), async |context| {
        let mut request = Request::new("https://evil.example/".parse().unwrap(), Method::Get);
        pipeline.send(&context, &mut request, None).await
    });
    assert!(matches!(elsewhere.await, Err(OutsideError::Unavailable(_))));
    assert_eq!(silent.0.load(SeqCst), 3, "nothing leaves for another host");
}
