//! Where Prometheus asks: plain HTTP on an address of its own, so that no proxy that publishes the
//! API publishes the metrics with it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::ServerHandle,
    guard,
    http::header::CONTENT_TYPE,
    web::{self, Data},
};
use tracing::error;

use super::Metrics;

/// The media type of the page (`OpenMetrics` 1.0, "Protocol Negotiation").
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most open connections: a Prometheus server has one, and there are few of those.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send its request head, in seconds.
const HEAD_SECONDS: u64 = 5;
/// How long an idle connection is kept, in seconds: longer than the usual scrape interval of a minute.
const KEEP_ALIVE_SECONDS: u64 = 75;
/// How long a scrape may go on after a stop signal, in seconds.
const SHUTDOWN_SECONDS: u64 = 5;

/// A running listener.
pub struct Listener {
    server: ServerHandle,
    address: SocketAddr,
}

impl Listener {
    /// Binds and starts serving `GET /metrics`; everything else is 404.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn start(metrics: Arc<Metrics>, address: SocketAddr) -> io::Result<Self> {
        let metrics = Data::from(metrics);
        let server = HttpServer::new(move || {
            let page = web::resource("/metrics").guard(guard::Get()).to(scrape);
            App::new().app_data(metrics.clone()).service(page)
        })
        .workers(1)
        .max_connections(CONNECTIONS_MAX)
        .client_request_timeout(Duration::from_secs(HEAD_SECONDS))
        .keep_alive(Duration::from_secs(KEEP_ALIVE_SECONDS))
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .bind(address)?;
        let bound = server.addrs().first().copied();
        let address = bound.ok_or_else(|| io::Error::other("the listener has no address"))?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(async move {
            if let Err(error) = server.await {
                error!(%error, "the metrics' listener has ended");
            }
        });
        Ok(Self {
            server: handle,
            address,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets a scrape that is under way finish.
    pub async fn stop(self) {
        self.server.stop(true).await;
    }
}

async fn scrape(metrics: Data<Metrics>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, OPENMETRICS))
        .body(metrics.scrape().await)
}
