//! Following sources: one task per source, all of them ended with the future.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::source::Context;
use crate::{Families, Resolver, ScheduleParams, Source, Update};

/// Names looked up at a time: a start with thousands of names does not flood the name server.
pub const CONCURRENT_LOOKUPS: usize = 64;

/// How sources are followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The name server to ask; `None` = those of `/etc/resolv.conf`.
    pub nameserver: Option<SocketAddr>,
    /// Which addresses of a name are used.
    pub families: Families,
    /// When names are asked for again.
    pub schedule: ScheduleParams,
    /// Varies the pauses after failures; different in each process.
    pub seed: u64,
}

/// Follows `sources` and sends what changes to `updates`, until the receiver is dropped.
///
/// Must run within a tokio runtime with time and I/O enabled. Updates of one source are in order; those
/// of different sources are not ordered among each other. A slow receiver delays the sources and loses
/// nothing; its channel is the bound.
///
/// Cancel-safe: dropping the future ends all sources. Lookups under way are abandoned; an update that the
/// channel has taken stays there.
pub async fn run(sources: Vec<Source>, settings: Settings, updates: mpsc::Sender<Update>) {
    let context = Context {
        updates: updates.clone(),
        resolver: Arc::new(Resolver::new(settings.nameserver, settings.families)),
        schedule: settings.schedule,
        seed: settings.seed,
        lookups: Arc::new(Semaphore::new(CONCURRENT_LOOKUPS)),
    };
    let mut following = JoinSet::new();
    for source in sources {
        let follow = source.spec.row().follow;
        following.spawn(follow(source, context.clone()));
    }
    drop(context);
    // A source that has said all it has to say ends; the others go on.
    updates.closed().await;
    following.shutdown().await;
}
