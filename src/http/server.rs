//! The listener: TLS, time limits, graceful shutdown.

use std::{
    fs::File,
    io::{self, BufReader},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    dev::Server,
    middleware::from_fn,
    web::{self, Data, PathConfig, QueryConfig},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use utoipa_actix_web::AppExt;

use super::{
    fallback::fallback,
    problem::{Problem, code},
    request::{TimeLimit, surround},
    routes,
    state::State,
};

/// How long a client may take to send its request head, in seconds: slow ones hold a connection.
const HEAD_SECONDS: u64 = 10;
/// How long an idle connection is kept, in seconds.
const KEEP_ALIVE_SECONDS: u64 = 75;
/// Most open connections of one worker.
const CONNECTIONS_MAX: usize = 10_000;

/// How to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// PEM certificate chain and private key.
    pub tls: Option<TlsFiles>,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long in-flight requests may take after a stop signal.
    pub shutdown: Duration,
}

/// PEM files for TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: std::path::PathBuf,
    /// Its private key.
    pub key: std::path::PathBuf,
}

/// Binds and starts serving; also returns the bound addresses.
///
/// # Errors
/// If the address is taken, or a TLS file is missing or no PEM.
pub fn serve(state: Data<State>, listen: &Listen) -> io::Result<(Server, Vec<SocketAddr>)> {
    let limit = Data::new(TimeLimit(listen.request_timeout));
    let server = HttpServer::new(move || {
        App::new()
            .into_utoipa_app()
            .app_data(state.clone())
            .app_data(limit.clone())
            .app_data(query_config())
            .app_data(path_config())
            .configure(routes)
            .map(|app| {
                app.default_service(web::to(fallback))
                    .wrap(from_fn(surround))
            })
            .into_app()
    })
    .shutdown_timeout(listen.shutdown.as_secs())
    .client_request_timeout(Duration::from_secs(HEAD_SECONDS))
    .keep_alive(Duration::from_secs(KEEP_ALIVE_SECONDS))
    .max_connections(CONNECTIONS_MAX)
    .disable_signals();
    let server = match &listen.tls {
        Some(files) => server.bind_rustls_0_23(listen.address, tls(files)?)?,
        None => server.bind(listen.address)?,
    };
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

fn query_config() -> QueryConfig {
    QueryConfig::default()
        .error_handler(|error, _| Problem::new(code::INVALID_REQUEST, error.to_string()).into())
}

fn path_config() -> PathConfig {
    PathConfig::default()
        .error_handler(|error, _| Problem::new(code::INVALID_REQUEST, error.to_string()).into())
}

fn tls(files: &TlsFiles) -> io::Result<ServerConfig> {
    let name = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {error}", path.display()),
        )
    };
    let chain =
        BufReader::new(File::open(&files.certificate).map_err(|e| name(&files.certificate, &e))?);
    let chain = CertificateDer::pem_reader_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| name(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| name(&files.key, &error))?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| name(&files.certificate, &error))
}
