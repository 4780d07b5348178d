//! Happenings worth a line in the diagnostic log. One struct emits the line and counts it, so that log and
//! metric (`weir_events_total{event=…}`) always agree.
//!
//! Levels: ERROR means that an operator must act; WARN that something failed and Weir goes on by itself;
//! INFO is a change of state. Nothing here happens once per request.

mod access_log;
mod config;
mod endpoint;
mod limiter;
mod listener;
mod process;
mod resolver;

use std::sync::atomic::{AtomicU64, Ordering};

pub use access_log::{AccessLogFailed, AccessLogNotReopened, AccessLogRecovered, AccessLogReopened};
pub use config::{ConfigLoaded, ConfigRejected};
pub use endpoint::{EndpointDown, EndpointEjected, EndpointRestored, EndpointUp, PanicEntered, PanicLeft};
pub use listener::{AcceptFailed, ListenerStarted, ListenerStopped};
pub use process::{ShutdownBegun, ShutdownEnded, Started};
pub use resolver::{ResolverFailed, ResolverRecovered};

macro_rules! kinds {
    ($($variant:ident = $label:literal;)*) => {
        /// The events, by the label in `weir_events_total`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Kind { $(#[doc = concat!("`", $label, "`")] $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

kinds! {
    AcceptFailed = "accept_failed";
    AccessLogFailed = "access_log_failed";
    AccessLogNotReopened = "access_log_not_reopened";
    AccessLogRecovered = "access_log_recovered";
    AccessLogReopened = "access_log_reopened";
    ConfigLoaded = "config_loaded";
    ConfigRejected = "config_rejected";
    EndpointDown = "endpoint_down";
    EndpointEjected = "endpoint_ejected";
    EndpointRestored = "endpoint_restored";
    EndpointUp = "endpoint_up";
    ListenerStarted = "listener_started";
    ListenerStopped = "listener_stopped";
    PanicEntered = "panic_entered";
    PanicLeft = "panic_left";
    ResolverFailed = "resolver_failed";
    ResolverRecovered = "resolver_recovered";
    ShutdownBegun = "shutdown_begun";
    ShutdownEnded = "shutdown_ended";
    Started = "started";
}

/// Events are rare and come from any thread, so one shared counter per kind will do.
static COUNTS: [AtomicU64; Kind::ALL.len()] = [const { AtomicU64::new(0) }; Kind::ALL.len()];

impl Kind {
    /// How often it has happened since the process started.
    pub fn count(self) -> u64 {
        COUNTS[self as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn inc(self) {
        COUNTS[self as usize].fetch_add(1, Ordering::Relaxed);
    }
}
