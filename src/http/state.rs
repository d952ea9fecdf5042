//! What handlers share, wired once at start.

use std::sync::Arc;

use ipnet::IpNet;

use super::noise::Noise;
use crate::{
    app::{
        access::AccessList, authenticate::Authenticator, explain::Explainer, issue::Issuer,
        read_rotations::RotationReader, receive_events::EventReceiver,
        request_rotation::RotationRequester, revoke_delegation_keys::KeyRevoker,
    },
    domain::permit::AccessRules,
    journal::Journal,
    ports::{Clock, Entropy, PolicyStore},
};

/// Everything behind the door.
pub struct State {
    /// Tells who calls.
    pub authenticator: Arc<Authenticator>,
    /// What a token must carry.
    pub access_rules: AccessRules,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Issues tokens.
    pub issuer: Issuer,
    /// Explains decisions.
    pub explainer: Explainer,
    /// Lists a caller's own access.
    pub access_list: AccessList,
    /// Takes requests for rotations.
    pub rotation_requester: RotationRequester,
    /// Shows rotations.
    pub rotation_reader: RotationReader,
    /// Revokes delegation keys.
    pub key_revoker: KeyRevoker,
    /// Takes events of vaults.
    pub event_receiver: EventReceiver,
    /// For readiness.
    pub journal: Arc<Journal>,
    /// For readiness.
    pub policy_store: Arc<dyn PolicyStore>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Bounds the log lines that strangers can cause.
    pub noise: Noise,
    /// Request ids.
    pub entropy: Arc<dyn Entropy>,
    /// The generated `OpenAPI` document, as JSON.
    pub openapi: Arc<str>,
}
