//! An HTTPS server on loopback that plays a script, also the answers that no well-behaved server
//! gives: hanging up, stalling, breaking off. It remembers what it was asked.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{Certificate, Client, redirect};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use url::Url;

use super::answers::self_signed;

/// One request, as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the server does about a request.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Closes the connection.
    HangUp,
    /// Says nothing until the client gives up.
    Stall,
    /// 200 and a promise of more than comes.
    BreakOff,
}

impl Turn {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::Answer(status, vec![], body.to_string())
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::Answer(status, vec![], String::new())
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

type Play = Arc<dyn Fn(&Asked) -> Turn + Send + Sync>;

pub(super) struct Script {
    pub(super) url: Url,
    address: SocketAddr,
    ca: Certificate,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    /// Also answers as `kv1.vault.azure.net` and `acct1.blob.core.windows.net`, to a client that
    /// takes it for these.
    pub(super) fn start(play: impl Fn(&Asked) -> Turn + Send + Sync + 'static) -> Self {
        let (tls, ca_pem) = self_signed(["127.0.0.1", VAULT_HOST, BLOB_HOST]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (tls, play): (_, Play) = (Arc::new(tls), Arc::new(play));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (tls, play, seen) = (Arc::clone(&tls), Arc::clone(&play), Arc::clone(&seen));
                std::thread::spawn(move || serve(connection, tls, &play, &seen));
            }
        });
        Self {
            url: format!("https://{address}").parse().unwrap(),
            address,
            ca: Certificate::from_pem(ca_pem.as_bytes()).unwrap(),
            asked,
        }
    }

    /// Every request, in order.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests that carried a token or a signature.
    pub(super) fn signed_in(&self) -> Vec<Asked> {
        let mut asked = self.asked();
        asked.retain(|asked| asked.header("authorization").is_some());
        asked
    }

    /// A client like the broker's, only less patient.
    pub(super) fn client(&self) -> Client {
        Client::builder()
            .connect_timeout(Duration::from_millis(400))
            .timeout(Duration::from_millis(800))
            .redirect(redirect::Policy::none())
            .tls_certs_merge([self.ca.clone()])
            .resolve(VAULT_HOST, self.address)
            .resolve(BLOB_HOST, self.address)
            .no_proxy()
            .build()
            .unwrap()
    }

    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }
}

pub(super) const VAULT_HOST: &str = "kv1.vault.azure.net";
pub(super) const BLOB_HOST: &str = "acct1.blob.core.windows.net";

fn serve(
    connection: TcpStream,
    tls: Arc<ServerConfig>,
    play: &Play,
    seen: &Mutex<Vec<Asked>>,
) -> Option<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(tls).ok()?, connection);
    let asked = receive(&mut stream)?;
    seen.lock().unwrap().push(asked.clone());
    let (status, headers, body, length) = match play(&asked) {
        Turn::HangUp => return None,
        Turn::Stall => {
            let _ = stream.read_to_end(&mut Vec::new());
            return None;
        }
        Turn::BreakOff => (200, vec![], "{".to_owned(), 1_000),
        Turn::Answer(status, headers, body) => {
            let length = body.len();
            (status, headers, body, length)
        }
    };
    let mut head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
    head.push_str(&format!("content-length: {length}\r\n"));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{head}\r\n{body}").ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

fn receive(stream: &mut impl Read) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head_end = loop {
        read_some(stream, &mut bytes).ok()?;
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
    while bytes.len() < head_end + 4 + length {
        read_some(stream, &mut bytes).ok()?;
    }
    Some(Asked {
        method,
        target,
        headers,
        body: String::from_utf8(bytes[head_end + 4..].to_vec()).ok()?,
    })
}

fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            bytes.extend_from_slice(&chunk[..read]);
            Ok(())
        }
    }
}
