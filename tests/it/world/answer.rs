//! What came back, from the broker or from storage.

use std::collections::BTreeMap;

use reqwest::{Client, RequestBuilder, header::HeaderMap};
use serde_json::Value;

use super::contract;

/// An answer of the broker.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// The body, or null where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The problem's code, or nothing.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// Status and code together: what a refusal is known by.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status, self.code())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends, reads everything and checks the form.
pub(super) async fn send(http: &Client, request: RequestBuilder) -> Answer {
    let request = request.build().unwrap();
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = http.execute(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let answer = Answer {
        status,
        headers,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    };
    contract::check(method.as_str(), &path, &answer);
    answer
}

/// What storage says: status and `x-ms-error-code`.
pub(crate) async fn outcome(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    let code = answer.headers().get("x-ms-error-code");
    let code = code.map_or("", |code| code.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), code)
}

/// The fields of a token.
pub(crate) fn query_of(token: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(token.as_bytes())
        .into_owned()
        .collect()
}
