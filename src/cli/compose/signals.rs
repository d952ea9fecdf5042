//! Rotation's signals: the metrics with their listener, and the webhook with its secrets.

use std::{net::SocketAddr, path::Path, sync::Arc};

use tracing::info;
use zeroize::Zeroizing;

use super::{Ambient, parts::Parts};
use crate::{
    app::deliver::Delivery,
    cli::Failure,
    config::{Config, sections::Webhook},
    domain::{ids::AccountName, webhook::SigningSecret},
    metrics::{Metrics, listener::Listener},
    ports::{Clock, Notifier, Rotations},
    web::{Route, client},
    webhook::WebhookNotifier,
};

/// What tells others about rotations.
pub struct Signals {
    /// Counts steps; served if the configuration says so.
    pub metrics: Arc<Metrics>,
    /// For the holder of the lease, once a tick.
    pub delivery: Arc<Delivery>,
    listener: Option<Listener>,
}

impl Signals {
    pub(super) fn start(config: &Config, parts: &Parts) -> Result<Self, Failure> {
        let Ambient { clock, entropy } = &parts.ambient;
        let records = Arc::clone(&parts.store) as Arc<dyn Rotations>;
        let delivery = Delivery {
            records: Arc::clone(&records),
            notifier: notifier(config, clock)?,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
        };
        let policy = Arc::clone(&parts.policy);
        let rotated = move |name: &AccountName| policy.current().is_rotated(name);
        let metrics = Metrics::new(records, Box::new(rotated), Arc::clone(clock));
        let metrics = Arc::new(metrics);
        Ok(Self {
            listener: listener(config, &metrics)?,
            metrics,
            delivery: Arc::new(delivery),
        })
    }

    /// Where the metrics are served, if they are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }

    pub(super) async fn stop(self) {
        if let Some(listener) = self.listener {
            listener.stop().await;
        }
    }
}

fn listener(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Listener>, Failure> {
    let Some(section) = &config.metrics else {
        return Ok(None);
    };
    let listener = Listener::start(Arc::clone(metrics), section.listen)
        .map_err(|error| format!("metrics.listen {}: {error}", section.listen))?;
    info!(address = %listener.address(), "serving metrics");
    Ok(Some(listener))
}

fn notifier(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Arc<dyn Notifier>>, Failure> {
    let Some(section) = &config.webhook else {
        return Ok(None);
    };
    let Webhook {
        url,
        secret_file,
        secret_env,
        former_secret_file,
        former_secret_env,
        source,
    } = section.clone();
    let secret = secret("secret", secret_file.as_deref(), secret_env.as_deref())?;
    let secret = secret.ok_or("webhook.secret: names no secret")?;
    let (file, env) = (former_secret_file.as_deref(), former_secret_env.as_deref());
    let former = self::secret("former_secret", file, env)?;
    let route = if url.is_clear_text() {
        Route::Direct
    } else {
        Route::Environment
    };
    let http = client(config.cloud.ca_file.as_deref(), route)?;
    info!(%url, "rotations are told to a webhook");
    let clock = Arc::clone(clock);
    let notifier = WebhookNotifier::new(url, source, secret, former, http, clock);
    Ok(Some(Arc::new(notifier)))
}

/// The signing secret that a file or an environment variable holds, if one is named. An error names
/// the key, and never quotes what was found.
fn secret(
    key: &str,
    file: Option<&Path>,
    env: Option<&str>,
) -> Result<Option<SigningSecret>, Failure> {
    let (named, read) = match (file, env) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
            (format!("{key}_file {}", path.display()), text)
        }
        (None, Some(name)) => {
            // Its own text would quote a value that is no Unicode.
            let text = std::env::var(name).map_err(|_| "is not set, or not readable".to_owned());
            (format!("{key}_env {name}"), text)
        }
        (None, None) => return Ok(None),
    };
    let text = Zeroizing::new(read.map_err(|error| format!("webhook.{named}: {error}"))?);
    let secret = text.trim_end().parse();
    Ok(Some(
        secret.map_err(|error| format!("webhook.{named}: {error}"))?,
    ))
}
