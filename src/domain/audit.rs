//! What the journal records, and the hash chain that makes tampering show.
//!
//! A record's stored bytes are its JSON ([`Record::to_bytes`]); its hash is
//! `SHA-256(previous hash || stored bytes)`, per writer, so that replicas never contend. The first
//! record of a chain names the heads of the other chains, so that a cut tail shows as well. Nothing
//! in a record is a secret: of a signature it holds the SHA-256 of its base64 text, the form in which
//! Azure's storage logs carry it (`tokenHash`).

use std::{fmt, net::IpAddr};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{ObjectId, RequestId, TenantId, WriterId};

mod action;
pub mod verify;

pub use self::action::{Action, Asked, GrantRef, HEADS_NAMED_MAX, Issued, Refused};

/// The stored format's version, the `v` of every record.
pub const FORMAT: u32 = 1;

/// SHA-256 of a record and all before it in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// What stands before the first record of every chain.
    pub const ORIGIN: Self = Self([0; 32]);

    /// The hash after `bytes`.
    #[must_use]
    pub fn then(self, bytes: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        context.update(bytes);
        Self(
            context
                .finish()
                .as_ref()
                .try_into()
                .expect("SHA-256 has 32 bytes"),
        )
    }
}

impl From<ChainHash> for String {
    fn from(hash: ChainHash) -> Self {
        hex::encode(hash.0)
    }
}

impl TryFrom<String> for ChainHash {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map(|()| Self(bytes))
    }
}

/// The end of one writer's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Whose chain.
    pub writer: WriterId,
    /// Sequence number of its last record; the first is 1.
    pub seq: i64,
    /// That record's hash.
    pub hash: ChainHash,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Actor {
    /// An authenticated caller.
    Caller {
        /// Claim `tid`.
        tenant_id: TenantId,
        /// Claim `oid`.
        object_id: ObjectId,
        /// Claim `azp` or `appid`: the client application.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        app_id: Option<Uuid>,
        /// Claim `uti`: the token's own id.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        token_id: Option<String>,
    },
    /// Somebody at the machine itself, as `uid@host`.
    Console {
        /// `console:<uid>@<host>`.
        name: String,
    },
    /// The broker on its own account.
    Broker,
}

impl fmt::Display for Actor {
    /// The short form, for the `updated_by` of rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller {
                tenant_id,
                object_id,
                ..
            } => write!(f, "caller:{tenant_id}/{object_id}"),
            Self::Console { name } => f.write_str(name),
            Self::Broker => f.write_str("broker"),
        }
    }
}

/// One event, before it has a place in a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When it was decided, in Unix microseconds.
    pub at: i64,
    /// Who.
    pub actor: Actor,
    /// From where, as the broker sees it after its trusted proxies.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<IpAddr>,
    /// In which request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<RequestId>,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// An event in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The stored format, [`FORMAT`].
    pub v: u32,
    /// Whose chain.
    pub writer: WriterId,
    /// Its place there; the first is 1.
    pub seq: i64,
    /// The event.
    #[serde(flatten)]
    pub event: AuditEvent,
}

impl Record {
    /// The bytes that are stored and hashed.
    ///
    /// # Panics
    /// Never: the types hold nothing that JSON cannot.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record holds nothing that JSON cannot")
    }

    /// Reads stored bytes back.
    ///
    /// # Errors
    /// If they are not a record of this format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// One row of the journal as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose chain.
    pub writer: WriterId,
    /// Its place there.
    pub seq: i64,
    /// When, in Unix microseconds; equal to the record's `at`.
    pub at: i64,
    /// The record's `kind`.
    pub kind: String,
    /// The stored bytes.
    pub body: Vec<u8>,
    /// The chain's hash after them.
    pub hash: ChainHash,
}

/// A chain being written: gives each event its place.
#[derive(Debug, Clone)]
pub struct Chain {
    head: Head,
}

impl Chain {
    /// A new chain without records.
    #[must_use]
    pub const fn new(writer: WriterId) -> Self {
        Self {
            head: Head {
                writer,
                seq: 0,
                hash: ChainHash::ORIGIN,
            },
        }
    }

    /// Where it ends now.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The next row, and the chain as it stands after it.
    #[must_use]
    pub fn append(&self, event: AuditEvent) -> (Self, Row) {
        let Head { writer, seq, hash } = self.head;
        let record = Record {
            v: FORMAT,
            writer,
            seq: seq + 1,
            event,
        };
        let body = record.to_bytes();
        let head = Head {
            writer,
            seq: seq + 1,
            hash: hash.then(&body),
        };
        let row = Row {
            writer,
            seq: head.seq,
            at: record.event.at,
            kind: record.event.action.kind().to_owned(),
            body,
            hash: head.hash,
        };
        (Self { head }, row)
    }
}
