//! Who calls, and whether that opens this endpoint: the extractor that stands in every handler's
//! signature. A handler without a permit has no use case to call.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::AUTHORIZATION, web::Data};

use super::{client_address::client_address, problem::Problem, request::request_id, state::State};
use crate::domain::permit::{Context, Operation, Permit};

/// Proof that the caller may use the operation, taken from the request.
pub struct Permitted<Op>(pub Permit<Op>);

impl<Op: Operation + 'static> FromRequest for Permitted<Op> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = request
                .app_data::<Data<State>>()
                .expect("the state is always there");
            let token = bearer(&request)?;
            let caller = state.authenticator.authenticate(token).await?;
            let forwarded = request.headers().get_all("x-forwarded-for");
            let lines: Vec<&str> = forwarded.map(|line| line.to_str().unwrap_or("")).collect();
            let peer = request.peer_addr().map(|peer| peer.ip());
            let client = client_address(peer, lines.into_iter(), &state.trusted_proxies);
            let context = Context {
                caller,
                client,
                request_id: request_id(&request),
            };
            Ok(Self(Permit::check(context, &state.access_rules)?))
        })
    }
}

/// The bearer token of the one `Authorization` header; the scheme's case does not matter.
fn bearer(request: &HttpRequest) -> Result<&str, Problem> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Err(Problem::missing_token());
    };
    let text = header.to_str().map_err(|_| Problem::missing_token())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(Problem::missing_token)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(Problem::missing_token())
    }
}
