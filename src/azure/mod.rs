//! Adapters to Azure. Wire types never leave this room; secrets and response bodies never enter an
//! error. Every call has a timeout of ours around it, since the SDK obeys any `Retry-After`.

pub mod credential;
pub mod delegation_key;
pub mod entra;
pub mod http;
