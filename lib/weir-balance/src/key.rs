//! From what the request shows (an address, a header value) to a pick key.
//!
//! XXH64 with seed 0 (Collet's xxHash), as Envoy and gRPC use for their rings: fast, well mixed, and
//! the same on every machine and in every version, so that several Weirs agree on an endpoint. It is
//! no secret: a client that may choose the hashed value can choose its endpoint.
//!
//! A ring in nginx's layout (`ketama`) is asked with nginx's own key hash, crc32, so that a key goes
//! where nginx sent it: [`Params::hash_key`] and [`Params::hash_ip`] choose.

use std::io::Write;
use std::net::IpAddr;

use twox_hash::XxHash64;

use crate::{Algorithm, Params};

/// The pick key of `bytes`: XXH64, seed 0.
///
/// ```
/// assert_eq!(weir_balance::hash_key(b""), 0xef46_db37_51d8_e999);
/// ```
pub fn hash_key(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// The pick key of an address: [`hash_key`] of its 4 or 16 octets. An IPv4-mapped IPv6 address
/// (`::ffff:192.0.2.1`) counts as the IPv4 address, so a client has one key on either kind of socket.
pub fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => hash_key(&ip.octets()),
        IpAddr::V6(ip) => hash_key(&ip.octets()),
    }
}

impl Params {
    /// The pick key of `bytes` for this balancer: crc32 for a ring in nginx's layout, else [`hash_key`].
    pub fn hash_key(&self, bytes: &[u8]) -> u64 {
        if self.is_ketama() { u64::from(crc32fast::hash(bytes)) } else { hash_key(bytes) }
    }

    /// The pick key of a client address for this balancer: crc32 of the text for a ring in nginx's
    /// layout (what `hash $remote_addr consistent` hashes), else [`hash_ip`]. Does not allocate.
    pub fn hash_ip(&self, ip: IpAddr) -> u64 {
        if !self.is_ketama() {
            return hash_ip(ip);
        }
        // The longest text of an IPv6 address has 45 characters, so the write cannot fall short.
        let mut text = [0_u8; 48];
        let room = text.len();
        let mut rest = &mut text[..];
        let written = match write!(rest, "{}", ip.to_canonical()) {
            Ok(()) => room - rest.len(),
            Err(_) => 0,
        };
        self.hash_key(&text[..written])
    }

    fn is_ketama(&self) -> bool {
        self.ketama && self.algorithm == Algorithm::RingHash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_of_xxh64() {
        assert_eq!(hash_key(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(hash_key(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let key = |text: &str| hash_ip(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8::2"));
    }

    #[test]
    fn a_ring_in_nginx_layout_hashes_as_nginx() {
        let ketama = Params { algorithm: Algorithm::RingHash, ketama: true, ..Params::default() };
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(ketama.hash_key(b"123456789"), 0xcbf4_3926);
        assert_eq!(ketama.hash_ip("192.0.2.1".parse().unwrap()), ketama.hash_key(b"192.0.2.1"));
        let longest = "2001:db8:1111:2222:3333:4444:5555:6666";
        assert_eq!(ketama.hash_ip(longest.parse().unwrap()), ketama.hash_key(longest.as_bytes()));
        let other = Params { ketama: true, ..Params::default() };
        assert_eq!(other.hash_key(b"123456789"), hash_key(b"123456789"), "ketama is a matter of the ring only");
    }
}
