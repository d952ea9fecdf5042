//! The throw-away certificate authority of one simulator, and the server certificate it signs.
//!
//! Both keys live and die with the process; nothing is written to disk. Clients trust the
//! simulator by `Running::ca_pem`. What the servers do behind TLS is in `serve`.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// Names and addresses the server certificate speaks for.
const SERVED_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Validity of both certificates, in years. Wide on purpose: the simulated clock may be set to any
/// time, while the TLS clients go on checking certificates by the machine's own clock.
const VALID_FROM_YEAR: i32 = 1975;
const VALID_UNTIL_YEAR: i32 = 2200;

/// A server configuration and the certificate authority that vouches for it.
pub(super) struct Identity {
    /// The authority's certificate, PEM.
    pub(super) ca_pem: String,
    /// TLS 1.2 and 1.3, server side, without client certificates.
    pub(super) server: ServerConfig,
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate library refused.
    #[error("the throw-away certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the certificate or its key.
    #[error("the TLS server configuration could not be made")]
    Server(#[from] rustls::Error),
}

/// Makes a fresh authority and a server certificate for loopback.
pub(super) fn make_identity() -> Result<Identity, TlsError> {
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_name_and_validity(&mut authority, "sas-broker simulator, throw-away authority");
    let authority_key = KeyPair::generate()?;
    let ca_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut leaf = CertificateParams::new(SERVED_NAMES.map(String::from))?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict verifiers (Python 3.13) refuse a leaf that does not name its issuer's key.
    leaf.use_authority_key_identifier_extension = true;
    set_name_and_validity(&mut leaf, "sas-broker simulator");
    let leaf_key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&leaf_key, &issuer)?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into()),
        )?;
    Ok(Identity { ca_pem, server })
}

fn set_name_and_validity(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(VALID_FROM_YEAR, 1, 1);
    params.not_after = date_time_ymd(VALID_UNTIL_YEAR, 1, 1);
}
