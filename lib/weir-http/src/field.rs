//! One field line, and what it means to an intermediary.

/// A field of a head or of a trailer section. The name is a token, the value has no control
/// characters but tabs and is trimmed on both ends (RFC 9110 section 5.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'b> {
    /// Name as it was written; compare without case.
    pub name: &'b [u8],
    /// Value, trimmed; bytes from 0x80 upwards may occur (obs-text).
    pub value: &'b [u8],
    /// What the name stands for.
    pub kind: FieldKind,
    /// For this connection only, not to be forwarded: the kind is connection-specific
    /// ([`FieldKind::is_connection_specific`]) or the `Connection` field nominates it (RFC 9110
    /// section 7.6.1). Never true for `Host` and `Content-Length`, whatever `Connection` says.
    pub hop_by_hop: bool,
}

/// The field names that Weir acts on. Everything else is [`FieldKind::Other`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "each variant is the field name it is spelt like")]
pub enum FieldKind {
    Other,
    Host,
    Connection,
    KeepAlive,
    ProxyConnection,
    TransferEncoding,
    ContentLength,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Via,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XRealIp,
    XRequestId,
    Traceparent,
    Tracestate,
    ProxyAuthenticate,
    ProxyAuthorization,
    Cookie,
    SetCookie,
    Date,
    Server,
    MaxForwards,
    UserAgent,
    Referer,
    RetryAfter,
}

// === impl FieldKind ===

impl FieldKind {
    /// The kind of a field name, in any case: by length first, so that most names cost one branch
    /// and at most a few compares.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        // The candidates of one length differ in few bytes, so the compare mostly fails at once.
        match name.len() {
            2 => pick(name, &[(b"te", Self::Te)]),
            3 => pick(name, &[(b"via", Self::Via)]),
            4 => pick(name, &[(b"host", Self::Host), (b"date", Self::Date)]),
            6 => pick(name, &[(b"cookie", Self::Cookie), (b"expect", Self::Expect), (b"server", Self::Server)]),
            7 => pick(name, &[(b"upgrade", Self::Upgrade), (b"trailer", Self::Trailer), (b"referer", Self::Referer)]),
            9 => pick(name, &[(b"forwarded", Self::Forwarded), (b"x-real-ip", Self::XRealIp)]),
            10 => pick(
                name,
                &[
                    (b"connection", Self::Connection),
                    (b"user-agent", Self::UserAgent),
                    (b"keep-alive", Self::KeepAlive),
                    (b"set-cookie", Self::SetCookie),
                    (b"tracestate", Self::Tracestate),
                ],
            ),
            11 => pick(name, &[(b"traceparent", Self::Traceparent), (b"retry-after", Self::RetryAfter)]),
            12 => pick(name, &[(b"x-request-id", Self::XRequestId), (b"max-forwards", Self::MaxForwards)]),
            14 => pick(name, &[(b"content-length", Self::ContentLength)]),
            15 => pick(name, &[(b"x-forwarded-for", Self::XForwardedFor)]),
            16 => pick(
                name,
                &[
                    (b"proxy-connection", Self::ProxyConnection),
                    (b"x-forwarded-host", Self::XForwardedHost),
                    (b"x-forwarded-port", Self::XForwardedPort),
                ],
            ),
            17 => pick(
                name,
                &[(b"transfer-encoding", Self::TransferEncoding), (b"x-forwarded-proto", Self::XForwardedProto)],
            ),
            18 => pick(name, &[(b"proxy-authenticate", Self::ProxyAuthenticate)]),
            19 => pick(name, &[(b"proxy-authorization", Self::ProxyAuthorization)]),
            _ => Self::Other,
        }
    }

    /// Whether a field of this kind concerns one connection only and is never forwarded: those of
    /// RFC 9110 section 7.6.1, and the two fields of proxy authentication, which are addressed to
    /// the next proxy (RFC 9110 sections 11.7.1 and 11.7.2), that is to Weir.
    /// `Trailer` is not among them: Weir forwards trailer sections.
    #[inline]
    pub const fn is_connection_specific(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::TransferEncoding
                | Self::Te
                | Self::Upgrade
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
        )
    }
}

/// The first candidate that `name` equals without case. All are of the same length as `name`; their
/// first letters, which mostly differ, are compared first.
#[inline(always)]
fn pick<const N: usize, const L: usize>(name: &[u8], candidates: &[(&[u8; L], FieldKind); N]) -> FieldKind {
    let Ok(name) = <&[u8; L]>::try_from(name) else {
        return FieldKind::Other;
    };
    let first = name[0] | 0x20;
    for (candidate, kind) in candidates {
        if first == candidate[0] && eq_lower(name, candidate) {
            return *kind;
        }
    }
    FieldKind::Other
}

/// Whether `name` lower-cased equals `lower`, which holds `a-z` and `-` alone. Setting bit 5 maps
/// `A-Z` to `a-z` and, of the bytes that a token can have, no other to one of those. The constant
/// length lets this compile into a few compares of words.
#[inline(always)]
fn eq_lower<const L: usize>(name: &[u8; L], lower: &[u8; L]) -> bool {
    let mut difference = 0;
    for (byte, want) in name.iter().zip(lower) {
        difference |= (byte | 0x20) ^ want;
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_in_any_case_and_nothing_else_is() {
        let known = [
            ("te", FieldKind::Te),
            ("via", FieldKind::Via),
            ("host", FieldKind::Host),
            ("date", FieldKind::Date),
            ("cookie", FieldKind::Cookie),
            ("expect", FieldKind::Expect),
            ("server", FieldKind::Server),
            ("upgrade", FieldKind::Upgrade),
            ("trailer", FieldKind::Trailer),
            ("referer", FieldKind::Referer),
            ("forwarded", FieldKind::Forwarded),
            ("x-real-ip", FieldKind::XRealIp),
            ("connection", FieldKind::Connection),
            ("user-agent", FieldKind::UserAgent),
            ("keep-alive", FieldKind::KeepAlive),
            ("set-cookie", FieldKind::SetCookie),
            ("tracestate", FieldKind::Tracestate),
            ("traceparent", FieldKind::Traceparent),
            ("retry-after", FieldKind::RetryAfter),
            ("x-request-id", FieldKind::XRequestId),
            ("max-forwards", FieldKind::MaxForwards),
            ("content-length", FieldKind::ContentLength),
            ("x-forwarded-for", FieldKind::XForwardedFor),
            ("proxy-connection", FieldKind::ProxyConnection),
            ("x-forwarded-host", FieldKind::XForwardedHost),
            ("x-forwarded-port", FieldKind::XForwardedPort),
            ("transfer-encoding", FieldKind::TransferEncoding),
            ("x-forwarded-proto", FieldKind::XForwardedProto),
            ("proxy-authenticate", FieldKind::ProxyAuthenticate),
            ("proxy-authorization", FieldKind::ProxyAuthorization),
        ];
        for (name, kind) in known {
            assert_eq!(FieldKind::of(name.as_bytes()), kind, "{name}");
            assert_eq!(FieldKind::of(name.to_ascii_uppercase().as_bytes()), kind, "{name}");
            // Every other byte in every place makes it another name.
            for at in 0..name.len() {
                for byte in 0x21..0x7f_u8 {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let other = String::from_utf8(other).unwrap();
                    let expected = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(&other));
                    if crate::is_valid_name(&other) {
                        assert_eq!(
                            FieldKind::of(other.as_bytes()),
                            expected.map_or(FieldKind::Other, |(_, kind)| *kind),
                            "{other}"
                        );
                    }
                }
            }
        }
        assert_eq!(FieldKind::of(b""), FieldKind::Other);
    }
}
