//! An HTTPS server on loopback that gives chosen answers, and remembers what it was asked.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::{StatusCode, header::LOCATION},
    web,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use url::Url;

/// What a path answers.
#[derive(Clone)]
pub(super) enum Answer {
    /// A body with its status.
    Body(u16, String),
    /// 302 to another address.
    Redirect(String),
}

/// Answers by path; anything else is 404.
type Answers = Arc<Mutex<HashMap<String, Answer>>>;

pub(super) struct Server {
    pub(super) url: Url,
    pub(super) ca_pem: String,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
    handle: ServerHandle,
}

/// A server's side of TLS under these names, and its certificate, which is its own authority.
pub(super) fn self_signed<const N: usize>(names: [&str; N]) -> (ServerConfig, String) {
    let made = rcgen::generate_simple_self_signed(names.map(str::to_owned)).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (tls, made.cert.pem())
}

impl Server {
    pub(super) fn start() -> Self {
        let (tls, ca_pem) = self_signed(["127.0.0.1"]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let (answers, asked) = (Answers::default(), Arc::<Mutex<Vec<String>>>::default());
        let shared = (Arc::clone(&answers), Arc::clone(&asked));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(shared.clone()))
                .default_service(web::to(answer))
        })
        .workers(1)
        .disable_signals()
        .listen_rustls_0_23(listener, tls)
        .unwrap()
        .run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            url,
            ca_pem,
            answers,
            asked,
            handle,
        }
    }

    pub(super) fn set(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Every path and query that was asked for, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) async fn stop(self) {
        self.handle.stop(false).await;
    }
}

type Shared = (Answers, Arc<Mutex<Vec<String>>>);

async fn answer(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let (answers, asked) = &**shared;
    asked.lock().unwrap().push(request.uri().to_string());
    let answer = answers.lock().unwrap().get(request.path()).cloned();
    match answer {
        Some(Answer::Body(status, body)) => {
            HttpResponse::build(StatusCode::from_u16(status).unwrap()).body(body)
        }
        Some(Answer::Redirect(to)) => HttpResponse::Found().insert_header((LOCATION, to)).finish(),
        None => HttpResponse::NotFound().finish(),
    }
}
