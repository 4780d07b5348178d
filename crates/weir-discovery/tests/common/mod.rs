//! A small authoritative name server on a loopback port, speaking just enough of RFC 1035.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What the server says about one name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses with this TTL in seconds; each query type gets its own.
    Addresses(Vec<IpAddr>, u32),
    /// SERVFAIL.
    ServFail,
    /// No answer at all.
    Nothing,
}

#[derive(Debug, Default)]
struct Zone {
    names: BTreeMap<String, Says>,
    queries: BTreeMap<String, usize>,
}

/// The server; stops when it is dropped.
#[derive(Debug)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::<Mutex<Zone>>::default();
        let task = tokio::spawn(serve(socket, zone.clone()));
        Self { address, zone, task }
    }

    /// From now on.
    pub(crate) fn set(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().names.insert(name.to_owned(), says);
    }

    /// Queries for addresses of `name` so far.
    pub(crate) fn queries(&self, name: &str) -> usize {
        self.zone.lock().unwrap().queries.get(name).copied().unwrap_or(0)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut query = [0; 512];
    while let Ok((len, peer)) = socket.recv_from(&mut query).await {
        let reply = reply(&query[..len], &mut zone.lock().unwrap());
        if let Some(reply) = reply {
            socket.send_to(&reply, peer).await.unwrap();
        }
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// The response to one query (RFC 1035, section 4.1), if the zone answers at all.
fn reply(query: &[u8], zone: &mut Zone) -> Option<Vec<u8>> {
    let (name, after) = name(query, 12);
    let kind = u16::from_be_bytes([query[after], query[after + 1]]);
    *zone.queries.entry(name.clone()).or_default() += 1;
    let (code, addresses, ttl) = match zone.names.get(&name) {
        Some(Says::Nothing) => return None,
        Some(Says::ServFail) => (SERVFAIL, Vec::new(), 0),
        Some(Says::Addresses(addresses, ttl)) => {
            let of_kind = |ip: &IpAddr| kind == if ip.is_ipv4() { A } else { AAAA };
            (NOERROR, addresses.iter().copied().filter(of_kind).collect(), *ttl)
        }
        None => (NXDOMAIN, Vec::new(), 0),
    };
    let mut reply = query[..2].to_vec();
    // A response, authoritative, recursion desired and available; one question.
    reply.extend([0x85, 0x80 | code, 0, 1]);
    reply.extend((addresses.len() as u16).to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(&query[12..after + 4]);
    for address in addresses {
        // The name of the question, class IN.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(ttl.to_be_bytes());
        match address {
            IpAddr::V4(ip) => {
                reply.extend([0, 4]);
                reply.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                reply.extend([0, 16]);
                reply.extend(ip.octets());
            }
        }
    }
    Some(reply)
}

/// The name at `at` in lower case, and where it ends.
fn name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] != 0 {
        let len = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + len]).to_lowercase());
        at += len + 1;
    }
    (labels.join("."), at + 1)
}
