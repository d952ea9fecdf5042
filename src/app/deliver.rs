//! Tell the webhook what it has not accepted yet. At least once, in no promised order; what is not
//! accepted is sent again with growing pauses, and given up after about a day, for the journal has
//! what it tells.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use time::Duration;
use tracing::warn;

use super::backoff::Backoff;
use crate::{
    domain::rotation::Notification,
    ports::{Clock, Entropy, NOTIFY_TIMEOUT, NotAccepted, Notifier, Rotations, StoreError},
};

/// Most notifications that one call delivers; the others wait for the next one, a minute later.
pub const AT_ONCE_MAX: usize = 32;

/// Notifications sent side by side: a slow receiver must not hold up a whole minute, and a receiver
/// should not be flooded.
const SIDE_BY_SIDE: usize = 8;

const _: () = assert!(
    AT_ONCE_MAX.div_ceil(SIDE_BY_SIDE) as u64 * NOTIFY_TIMEOUT.as_secs() <= 45,
    "a receiver that never answers leaves the next tick of a minute alone"
);

/// Most attempts. With the pauses below, the last is about a day after the first.
pub const ATTEMPTS_MAX: u32 = 17;

/// Pauses between attempts: half a minute, doubling to three hours.
const PAUSES: Backoff = Backoff {
    first: Duration::seconds(30),
    longest: Duration::hours(3),
};

/// The use case.
pub struct Delivery {
    /// The outbox.
    pub records: Arc<dyn Rotations>,
    /// The webhook. Without one, notifications are dropped when they are due: an outbox that
    /// nobody empties would only fill, and a webhook that is configured later wants no old news.
    pub notifier: Option<Arc<dyn Notifier>>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
}

/// What a call came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Accepted by the webhook.
    pub accepted: usize,
    /// Not accepted; to be sent again.
    pub postponed: usize,
    /// Not accepted for the last time.
    pub given_up: usize,
    /// Dropped, since no webhook is configured.
    pub dropped: usize,
}

/// What became of one notification.
enum Fate {
    Accepted,
    Postponed(NotAccepted),
    GivenUp,
    Dropped,
}

impl Delivery {
    /// Sends what is due, at most [`AT_ONCE_MAX`]; for the holder of the lease, once a tick. Of two
    /// processes that both believe to hold it, the receiver may see an event twice.
    ///
    /// # Errors
    /// If the database does not answer. What was sent then may be sent again.
    pub async fn deliver_due(&self) -> Result<Delivered, StoreError> {
        let now = self.clock.now();
        let due = self.records.notifications(now, AT_ONCE_MAX).await?;
        let sent = due
            .into_iter()
            .map(|(notification, attempts)| self.deliver(notification, attempts + 1));
        let fates: Vec<_> = stream::iter(sent)
            .buffer_unordered(SIDE_BY_SIDE)
            .collect()
            .await;
        let mut delivered = Delivered::default();
        let (mut why, mut failed) = (None, None);
        for fate in fates {
            match fate {
                Ok(Fate::Accepted) => delivered.accepted += 1,
                Ok(Fate::Postponed(reason)) => {
                    delivered.postponed += 1;
                    why = Some(reason);
                }
                Ok(Fate::GivenUp) => delivered.given_up += 1,
                Ok(Fate::Dropped) => delivered.dropped += 1,
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = why {
            let events = delivered.postponed;
            warn!(events, %error, "events were not accepted by the webhook and will be sent again");
        }
        failed.map_or(Ok(delivered), Err)
    }

    /// Makes one attempt; the first is number 1.
    async fn deliver(&self, notification: Notification, attempt: u32) -> Result<Fate, StoreError> {
        let id = notification.id;
        let Some(notifier) = &self.notifier else {
            self.records.drop_notification(id).await?;
            return Ok(Fate::Dropped);
        };
        let Err(error) = notifier.send(&notification).await else {
            self.records.drop_notification(id).await?;
            return Ok(Fate::Accepted);
        };
        if attempt < ATTEMPTS_MAX {
            let next = self.clock.now() + PAUSES.wait(attempt, self.entropy.as_ref());
            self.records.postpone_notification(id, next).await?;
            return Ok(Fate::Postponed(error));
        }
        self.records.drop_notification(id).await?;
        let (kind, account) = (notification.kind.event_type(), &notification.account);
        let rotation = notification.rotation.map(tracing::field::display);
        warn!(%id, kind, %account, rotation, attempt, %error, "an event is given up");
        Ok(Fate::GivenUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FixedEntropy;

    #[test]
    fn the_last_attempt_is_about_a_day_after_the_first() {
        for (byte, hours) in [(0, 20..25), (0x80, 22..27), (0xff, 24..29)] {
            let entropy = FixedEntropy(byte);
            let pauses = (1..ATTEMPTS_MAX).map(|attempt| PAUSES.wait(attempt, &entropy));
            let whole = pauses.fold(Duration::ZERO, |sum, pause| sum + pause);
            assert!(hours.contains(&whole.whole_hours()), "{byte}: {whole}");
        }
    }
}
