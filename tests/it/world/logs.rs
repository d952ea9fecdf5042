//! Everything that this process logs, down to TRACE and in the form that the product writes, kept
//! while somebody listens. One subscriber for the whole test binary, because there can be only one.

use std::{
    io,
    sync::{
        Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use tracing_subscriber::{
    filter::dynamic_filter_fn, layer::SubscriberExt, util::SubscriberInitExt,
};

static LISTENERS: AtomicUsize = AtomicUsize::new(0);
static HEARD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Sets the subscriber, once; it hears nothing before [`listen`].
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let form = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_writer(|| Ear);
        let while_listening = dynamic_filter_fn(|_, _| LISTENERS.load(Ordering::SeqCst) > 0);
        tracing_subscriber::registry()
            .with(while_listening)
            .with(form)
            .init();
    });
}

/// Keeps what is logged from now on, by every test that runs meanwhile.
pub(crate) fn listen() -> Listening {
    install();
    LISTENERS.fetch_add(1, Ordering::SeqCst);
    Listening
}

/// Ends with [`Listening::heard`].
pub(crate) struct Listening;

impl Listening {
    pub(crate) fn heard(self) -> String {
        LISTENERS.fetch_sub(1, Ordering::SeqCst);
        String::from_utf8(HEARD.lock().unwrap().clone()).unwrap()
    }
}

struct Ear;

impl io::Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        HEARD.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
