//! Looking up one name: hickory-resolver with `/etc/hosts`, `localhost` and the system's name servers.
//!
//! Nothing is cached here, since [`crate::Schedule`] asks only when an answer has expired. The system's
//! files are watched: if `/etc/hosts` or `/etc/resolv.conf` has changed since the last lookup, both are
//! read again, so that a container that is moved to another network does not ask the old name server
//! for ever.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;

use crate::Answer;

/// Longest time one lookup of a name takes, all attempts at all name servers together.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

const WATCHED: usize = 2;

/// The files whose change makes the resolver start anew.
const SYSTEM_FILES: [&str; WATCHED] = ["/etc/resolv.conf", "/etc/hosts"];

/// Which addresses of a name are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Families {
    /// The IPv4 addresses; the IPv6 addresses of a name that has no others. A host without an IPv6 route
    /// is then not given addresses that it cannot reach.
    #[default]
    Ipv4First,
    /// The IPv6 addresses; the IPv4 addresses of a name that has no others.
    Ipv6First,
    /// All of them.
    Both,
}

/// Why a lookup gave no addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    /// The name does not exist, or has no addresses.
    #[error("the name does not exist or has no addresses")]
    NoAddresses,
    /// No answer within [`LOOKUP_TIMEOUT`].
    #[error("no answer from the name servers within {} s", LOOKUP_TIMEOUT.as_secs())]
    Timeout,
    /// The name servers answered with an error, could not be reached, or the name is malformed.
    #[error("{0}")]
    Failed(Arc<str>),
}

/// Looks up names.
#[derive(Debug)]
pub struct Resolver {
    nameserver: Option<SocketAddr>,
    families: Families,
    watched: [PathBuf; WATCHED],
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    stamps: Stamps,
    resolver: Arc<TokioResolver>,
}

/// When each of the watched files was changed, if it is there.
type Stamps = [Option<SystemTime>; WATCHED];

impl Resolver {
    /// A resolver that asks `nameserver` (UDP, and TCP if an answer is truncated), or those of
    /// `/etc/resolv.conf` with its search list if none is given. `/etc/hosts` comes first either way.
    pub fn new(nameserver: Option<SocketAddr>, families: Families) -> Self {
        Self { nameserver, families, watched: SYSTEM_FILES.map(PathBuf::from), current: Mutex::new(None) }
    }

    /// The addresses of `host` and how long they are valid: the shortest TTL of all records on the way.
    ///
    /// Must run within a tokio runtime. Cancel-safe: a lookup that is dropped has changed nothing.
    pub async fn lookup(&self, host: &str) -> Result<Answer, LookupError> {
        if let Ok(ip) = host.parse() {
            return Ok(Answer { addresses: vec![ip], ttl: Duration::MAX });
        }
        if host.is_empty() {
            return Err(LookupError::Failed("the host name is empty".into()));
        }
        let resolver = self.resolver()?;
        let answer = tokio::time::timeout(LOOKUP_TIMEOUT, self.ask(&resolver, host)).await;
        answer.map_err(|_| LookupError::Timeout)?
    }

    async fn ask(&self, resolver: &TokioResolver, host: &str) -> Result<Answer, LookupError> {
        let found = match self.families {
            Families::Both => {
                let (v4, v6) =
                    tokio::join!(ask_for(resolver, host, RecordType::A), ask_for(resolver, host, RecordType::AAAA),);
                // If one half fails, so does the whole: half of the addresses would be taken for all.
                merge(v4?, v6?)
            }
            Families::Ipv4First => first(resolver, host, [RecordType::A, RecordType::AAAA]).await?,
            Families::Ipv6First => first(resolver, host, [RecordType::AAAA, RecordType::A]).await?,
        };
        found.ok_or(LookupError::NoAddresses)
    }

    /// The resolver for the system's files as they are now.
    fn resolver(&self) -> Result<Arc<TokioResolver>, LookupError> {
        let changed = |at: usize| self.watched[at].metadata().and_then(|data| data.modified()).ok();
        let stamps: Stamps = std::array::from_fn(changed);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_ref().filter(|current| current.stamps == stamps) {
            return Ok(current.resolver.clone());
        }
        let resolver = Arc::new(self.make().map_err(|error| LookupError::Failed(error.to_string().into()))?);
        *current = Some(Current { stamps, resolver: resolver.clone() });
        Ok(resolver)
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.nameserver {
            Some(address) => TokioResolver::builder_with_config(only(address), TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "/etc/resolv.conf cannot be used; only /etc/hosts is");
                let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
                TokioResolver::builder_with_config(none, TokioRuntimeProvider::default())
            }),
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Always;
        builder.build()
    }
}

/// The one name server at `address`, no search list.
fn only(address: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

/// The records of the first type that the name has.
async fn first(resolver: &TokioResolver, host: &str, types: [RecordType; 2]) -> Result<Option<Answer>, LookupError> {
    match ask_for(resolver, host, types[0]).await? {
        Some(answer) => Ok(Some(answer)),
        None => ask_for(resolver, host, types[1]).await,
    }
}

/// The addresses of one type; `None` if the name servers are sure that there are none.
async fn ask_for(resolver: &TokioResolver, host: &str, kind: RecordType) -> Result<Option<Answer>, LookupError> {
    let lookup = match resolver.lookup(host, kind).await {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() => return Ok(None),
        Err(error) => return Err(LookupError::Failed(error.to_string().into())),
    };
    let records = lookup.answers();
    let addresses: Vec<IpAddr> = records.iter().filter_map(|record| record.data.ip_addr()).collect();
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
    let answer = Answer { addresses, ttl: Duration::from_secs(u64::from(ttl)) };
    Ok(Some(answer).filter(|answer| !answer.addresses.is_empty()))
}

fn merge(a: Option<Answer>, b: Option<Answer>) -> Option<Answer> {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.addresses.extend(b.addresses);
            a.ttl = a.ttl.min(b.ttl);
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_the_system_files_starts_anew() {
        let path = std::env::temp_dir().join(format!("weir-discovery-{}-hosts", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let mut resolver = Resolver::new(Some(SocketAddr::from(([127, 0, 0, 1], 9))), Families::Both);
        resolver.watched = [path.with_extension("absent"), path.clone()];

        let first = resolver.resolver().unwrap();
        assert!(Arc::ptr_eq(&first, &resolver.resolver().unwrap()), "kept while nothing changes");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let second = resolver.resolver().unwrap();
        assert!(!Arc::ptr_eq(&first, &second), "changed");
        std::fs::remove_file(&path).unwrap();
        assert!(!Arc::ptr_eq(&second, &resolver.resolver().unwrap()), "gone");
    }
}
