//! The table of sources and what they say.
//!
//! To add a source: a variant of [`Spec`], a file with a `ROW` beside this one, a line in [`SOURCES`] and
//! one in [`Spec::row`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use weir_core::Address;

use crate::{Resolver, ScheduleParams};

pub(crate) mod dns;
pub(crate) mod fixed;

/// Which source: chosen by whoever starts it, repeated in each of its updates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(pub u32);

/// One source to follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Repeated in its updates.
    pub id: SourceId,
    /// Where the addresses come from.
    pub spec: Spec,
    /// The last good answer, if there was one before (a reload). It is kept while lookups fail, and
    /// an answer that is equal to it is not announced again.
    pub known: Option<Arc<[Address]>>,
}

/// Where the addresses of a source come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Spec {
    /// A list that does not change.
    Static(Arc<[Address]>),
    /// The addresses of a host name, each with this port.
    Dns {
        /// Host name; the search list of the system applies unless it ends in a dot.
        host: Arc<str>,
        /// Port.
        port: u16,
    },
}

/// What a source has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// Whose.
    pub source: SourceId,
    /// What.
    pub event: Event,
}

/// A change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// These are the addresses from now on: all of them, in rising order, never empty for a name.
    /// Also sent, perhaps unchanged, when a source works again after it failed.
    Addresses(Arc<[Address]>),
    /// The source has begun to fail. Its last addresses, if it had any, stay in use; it goes on trying.
    /// Sent once until it works again.
    Failed {
        /// Why, for people.
        reason: Arc<str>,
        /// Whether there are earlier addresses that stay in use.
        has_addresses: bool,
    },
}

/// What a running source is given.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) updates: mpsc::Sender<Update>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) schedule: ScheduleParams,
    pub(crate) seed: u64,
    pub(crate) lookups: Arc<Semaphore>,
}

/// A source at work. Ends when it has nothing more to say, or nobody listens.
pub(crate) type Following = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One kind of source.
#[derive(Clone, Copy)]
pub struct Row {
    /// The word for it.
    pub name: &'static str,
    /// One line for lists and help.
    pub summary: &'static str,
    pub(crate) follow: fn(Source, Context) -> Following,
}

/// Every kind of source.
pub const SOURCES: &[Row] = &[fixed::ROW, dns::ROW];

impl Spec {
    /// The row of [`SOURCES`].
    pub fn row(&self) -> &'static Row {
        match self {
            Self::Static(_) => &fixed::ROW,
            Self::Dns { .. } => &dns::ROW,
        }
    }
}

impl Context {
    /// Whether the update was taken; `false` once nobody listens any more.
    pub(crate) async fn send(&self, source: SourceId, event: Event) -> bool {
        self.updates.send(Update { source, event }).await.is_ok()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("name", &self.name).field("summary", &self.summary).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spec_has_its_row() {
        let specs = [Spec::Static(Arc::new([])), Spec::Dns { host: "example.org".into(), port: 80 }];
        let names: Vec<_> = specs.iter().map(|spec| spec.row().name).collect();
        assert_eq!(names, SOURCES.iter().map(|row| row.name).collect::<Vec<_>>());
    }
}
