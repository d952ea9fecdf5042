//! A receiver of events as somebody else would write it: an HTTP server on loopback that checks
//! signatures by the text of the specification, with an HMAC of its own (RFC 2104).

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::StatusCode,
    web::{self, Bytes, Data},
};
use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt, stream};
use serde_json::Value;

/// One request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut named = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = named.next().unwrap_or_else(|| panic!("no header {name}"));
        assert!(named.next().is_none(), "{name} stands twice");
        value
    }

    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether one of its signatures is this secret's.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let (id, timestamp) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let message = [format!("{id}.{timestamp}.").as_bytes(), &self.body].concat();
        let expected = STANDARD.encode(hmac_sha256(&key, &message));
        let mut signatures = self.header("webhook-signature").split(' ');
        signatures.any(|signature| signature.strip_prefix("v1,") == Some(expected.as_str()))
    }
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    assert!(key.len() <= BLOCK, "a longer key would be hashed first");
    let padded = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let hash = |parts: [&[u8]; 2]| {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    };
    hash([&padded(0x5c), &hash([&padded(0x36), message])])
}

/// What a receiver does with a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// Answers.
    Status(u16),
    /// Answers with a success whose body does not end.
    Endless,
    /// Never answers.
    Silence,
}

#[derive(Default)]
struct Shared {
    /// For the next requests; later ones are accepted.
    answers: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
    /// Requests that are being answered, and the most there ever were.
    busy: AtomicUsize,
    busiest: AtomicUsize,
}

/// A running receiver.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    server: ServerHandle,
    port: u16,
}

impl Receiver {
    pub(crate) fn start(answers: &[Answer]) -> Self {
        let shared = Arc::new(Shared::default());
        shared.answers.lock().unwrap().extend(answers);
        let data = Data::from(Arc::clone(&shared));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::to(receive))
        })
        .workers(1)
        .shutdown_timeout(0)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let port = server.addrs()[0].port();
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            shared,
            server: handle,
            port,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Most requests that were answered at the same time.
    pub(crate) fn busiest(&self) -> usize {
        self.shared.busiest.load(Ordering::SeqCst)
    }

    pub(crate) async fn stop(self) {
        self.server.stop(false).await;
    }
}

async fn receive(request: HttpRequest, body: Bytes, shared: Data<Shared>) -> HttpResponse {
    let text = |value: &actix_web::http::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = request.headers().iter();
    let received = Received {
        headers: headers
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: body.to_vec(),
    };
    assert_eq!(request.method(), "POST");
    shared.received.lock().unwrap().push(received);
    let answer = shared.answers.lock().unwrap().pop_front();
    let busy = shared.busy.fetch_add(1, Ordering::SeqCst) + 1;
    shared.busiest.fetch_max(busy, Ordering::SeqCst);
    let answer = match answer.unwrap_or(Answer::Status(204)) {
        Answer::Status(status) => {
            // So that those that are sent side by side meet.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let redirect = ("location", "/elsewhere");
            HttpResponse::build(StatusCode::from_u16(status).unwrap())
                .insert_header(redirect)
                .body("canary-of-the-receiver")
        }
        Answer::Endless => {
            let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from("x"))]);
            let parts = first.chain(stream::pending());
            HttpResponse::Ok().streaming(parts)
        }
        Answer::Silence => std::future::pending().await,
    };
    shared.busy.fetch_sub(1, Ordering::SeqCst);
    answer
}
