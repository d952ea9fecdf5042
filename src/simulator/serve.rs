//! Sockets and servers: binds loopback ports, starts the HTTP servers, stops them.
//!
//! Entra and ARM (HTTPS), storage with three sockets (blob over HTTPS, blob over plain HTTP, dfs
//! over HTTPS) on one set of accounts, and a server for each vault (HTTPS), whenever it is created.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use rustls::ServerConfig;
use tokio::task::JoinHandle;
use url::Url;

use super::vault::VaultName;
use super::world::World;
use super::{arm, blob, entra, vault};

/// A bound socket and the base URL it answers to, with a trailing slash.
pub(super) struct Socket {
    listener: TcpListener,
    pub(super) url: Url,
}

impl Socket {
    /// Binds a free port of 127.0.0.1.
    pub(super) fn bind(scheme: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("{scheme}://{}/", listener.local_addr()?);
        let url = url
            .parse()
            .expect("a scheme and a socket address make a URL");
        Ok(Self { listener, url })
    }
}

/// The sockets of the storage server.
pub(super) struct StorageSockets {
    pub(super) blob: Socket,
    pub(super) plain_blob: Socket,
    pub(super) dfs: Socket,
}

/// A running server and its task.
type RunningServer = (ServerHandle, JoinHandle<io::Result<()>>);

/// The running servers.
pub(super) struct Servers {
    tls: ServerConfig,
    running: Mutex<Vec<RunningServer>>,
}

impl Servers {
    /// Starts every server on the current tokio runtime.
    pub(super) fn start(
        world: &Arc<World>,
        tls: ServerConfig,
        entra: Socket,
        arm: Socket,
        storage: StorageSockets,
    ) -> io::Result<Self> {
        let servers = [
            json_server(world, &tls, entra, entra::configure)?,
            json_server(world, &tls, arm, arm::configure)?,
            storage_server(world, &tls, storage)?,
        ];
        let running = servers.map(|server| (server.handle(), tokio::spawn(server)));
        Ok(Self {
            tls,
            running: Mutex::new(running.into()),
        })
    }

    /// Starts the server of a further vault on the current tokio runtime.
    pub(super) fn add_vault(
        &self,
        world: &Arc<World>,
        name: &str,
        socket: Socket,
    ) -> io::Result<()> {
        let name = web::Data::new(VaultName(name.into()));
        let configure = move |app: &mut web::ServiceConfig| {
            app.app_data(name.clone());
            vault::configure(app);
        };
        let server = json_server(world, &self.tls, socket, configure)?;
        let running = (server.handle(), tokio::spawn(server));
        let mut servers = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        servers.push(running);
        Ok(())
    }

    /// Stops every server at once; requests under way are cut off, a hanging one included.
    pub(super) async fn stop(self) {
        let running = self.running.into_inner();
        for (handle, task) in running.unwrap_or_else(PoisonError::into_inner) {
            handle.stop(false).await;
            // Nothing is left to do about a server that failed while it stopped.
            let _ = task.await;
        }
    }
}

fn json_server(
    world: &Arc<World>,
    tls: &ServerConfig,
    socket: Socket,
    configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> io::Result<Server> {
    let world = Arc::clone(world);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Arc::clone(&world)))
            .configure(&configure)
    });
    Ok(server
        .workers(1)
        .disable_signals()
        .listen_rustls_0_23(socket.listener, tls.clone())?
        .run())
}

fn storage_server(
    world: &Arc<World>,
    tls: &ServerConfig,
    sockets: StorageSockets,
) -> io::Result<Server> {
    let world = Arc::clone(world);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Arc::clone(&world)))
            .configure(blob::configure)
    });
    Ok(server
        .workers(1)
        .disable_signals()
        .listen_rustls_0_23(sockets.blob.listener, tls.clone())?
        .listen_rustls_0_23(sockets.dfs.listener, tls.clone())?
        .listen(sockets.plain_blob.listener)?
        .run())
}
