//! One piece of work for all who wait for it: runs to its end whoever stops waiting.
//!
//! A request can be dropped while it waits; if it carried the work, every dropped request would
//! start it anew. So the work runs in a task of its own, and leaves its outcome where it is told to.

use std::future::Future;

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::task::AbortHandle;

/// Work under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    landing: Shared<BoxFuture<'static, ()>>,
    task: AbortHandle,
}

impl Flight {
    /// Starts the work. Must be called inside a tokio runtime.
    pub(super) fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let running = tokio::spawn(work);
        let task = running.abort_handle();
        // A panic inside leaves no outcome behind, which those who wait find out by themselves.
        let landing = running.map(|_| ()).boxed().shared();
        Self { landing, task }
    }

    /// Whether it has ended.
    pub(super) fn has_landed(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for its end.
    pub(super) async fn landed(self) {
        self.landing.await;
    }
}
