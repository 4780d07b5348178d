//! What the observation listener asks of the program around it.

use serde::Serialize;
use weir_telemetry::{BuildInfo, ClusterView, Sources};

/// The state of the program, read when somebody asks. Implemented by the binary. Methods are called on the
/// control runtime and must not block.
pub trait View: Send + Sync + 'static {
    /// Every cluster as it is now.
    fn clusters(&self) -> Vec<ClusterView>;

    /// One cluster, `None` if there is none of that name.
    fn cluster(&self, name: &str) -> Option<ClusterView> {
        self.clusters().into_iter().find(|cluster| cluster.name == name)
    }

    /// Whether new traffic is welcome.
    fn readiness(&self) -> Readiness;

    /// Everything that a scrape of `/metrics` reads.
    fn sources(&self) -> Sources;

    /// Which build is running.
    fn build(&self) -> BuildInfo;
}

/// Whether new traffic is welcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// It is.
    Ready,
    /// It is not.
    NotReady(NotReady),
}

/// Why new traffic is not welcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReady {
    /// The listeners are being set up, or first probes and names are outstanding.
    Starting,
    /// No listener accepts connections.
    NoListener,
    /// A graceful stop is under way.
    Draining,
}
