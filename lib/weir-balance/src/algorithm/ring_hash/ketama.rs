//! The points of nginx's `hash … consistent`, so that a migration from nginx moves no key.
//!
//! Per unit of weight 160 points, each the crc32 of `HOST \0 PORT PREVIOUS`, where `PREVIOUS` is the
//! point before in four bytes, little-endian, and zero at first (the scheme of `Cache::Memcached::Fast`).
//! The host and port are those of the member's *name*, which must therefore read as in nginx's
//! `server` line: `10.0.0.1:8080`, or without a port as nginx writes the default one away. Of two
//! equal points the member listed first has it.
//!
//! Source: `ngx_http_upstream_hash_module.c` (described in the documentation of `hash`); the key is
//! hashed by crc32 too, see [`crate::Params::hash_key`]. Beyond
//! [`MAX_RING_POINTS`] in all (26,214 units of weight) the number per member is halved, which nginx
//! does not do.

use crc32fast::Hasher;

use super::MAX_RING_POINTS;
use crate::group::Group;

/// Points per unit of weight.
const POINTS_PER_WEIGHT: u64 = 160;

pub(super) fn points(group: &Group) -> Vec<(u32, u32)> {
    let total = group.total_weight() * POINTS_PER_WEIGHT;
    let halvings = (0..u64::BITS).find(|&halvings| total >> halvings <= MAX_RING_POINTS).unwrap_or(0);
    let mut points = Vec::with_capacity((total >> halvings) as usize);
    for (at, member) in group.members().iter().enumerate() {
        let (host, port) = host_and_port(&member.name);
        let mut base = Hasher::new();
        base.update(host.as_bytes());
        base.update(&[0]);
        base.update(port.as_bytes());
        let mut point = 0_u32;
        for _ in 0..((group.weight(at) * POINTS_PER_WEIGHT) >> halvings).max(1) {
            let mut hash = base.clone();
            hash.update(&point.to_le_bytes());
            point = hash.finalize();
            points.push((point, at as u32));
        }
    }
    points
}

/// The name split as nginx splits it: at the last colon if only digits follow. A Unix socket is all
/// host, without its prefix.
fn host_and_port(name: &str) -> (&str, &str) {
    const UNIX: &str = "unix:";
    if let Some(prefix) = name.get(..UNIX.len())
        && prefix.eq_ignore_ascii_case(UNIX)
    {
        return (&name[UNIX.len()..], "");
    }
    match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
        _ => (name, ""),
    }
}
