//! The small languages within values: addresses, host names, paths, header fields, statuses, regexes.
//!
//! Each reader is pure: text in, value or [`Fault`] out. A fault says which bytes of the text are wrong
//! and what to write instead; the caller adds where the text stands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use regex::{Regex, RegexBuilder};
use weir_core::Address;
use weir_health::StatusRange;

use crate::codes::{self, Code};
use crate::diagnostic::{Report, quoted};
use crate::draft::Value;
use crate::plan::IpNet;

/// Why a value is no good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// The bytes of the text that are wrong.
    pub(crate) part: Range<usize>,
    pub(crate) help: Option<String>,
}

impl Fault {
    fn new(code: Code, part: Range<usize>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), part, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Reports the fault at its place within `value`.
    pub(crate) fn report(self, value: &Value, report: &mut Report) {
        report.error(self.code, &value.part(self.part), self.message).maybe_help(self.help);
    }
}

// === addresses ===

/// Bytes of a Unix socket's path: `sun_path` of Linux is 108 with its terminating zero.
const MAX_UNIX_PATH: usize = 107;

/// Something to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Address(Address),
    /// A host name, lower case.
    Name {
        host: String,
        port: u16,
    },
}

/// Reads `IP:PORT`, `[IPv6]:PORT`, `unix:/path` or `name:port`. Port 0 is left to the caller.
pub(crate) fn target(text: &str) -> Result<Target, Fault> {
    let whole = 0..text.len();
    let bad = |part, message: &str| Fault::new(codes::BAD_ADDRESS, part, message);
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(text, path).map(Target::Address);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or("");
        return Err(bad(0..scheme.len() + 3, "an address has no scheme").help(format!("write \"{rest}\"")));
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        let split =
            text.rsplit_once(':').and_then(|(host, port)| Some((host.parse::<Ipv6Addr>().ok()?, self::port(port)?)));
        let help =
            split.map_or_else(String::new, |(host, port)| format!("write \"[{host}]:{port}\" for port {port}; or "));
        return Err(bad(whole, "an IPv6 address stands in brackets, followed by its port")
            .help(format!("{help}write \"[{ip}]:8080\"")));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 8080);
        return Err(bad(whole, "the port is missing").help(format!("write \"{example}\"")));
    }
    if text.starts_with('[') && text.ends_with(']') {
        return Err(bad(whole, "the port is missing").help(format!("write \"{text}:8080\"")));
    }
    let Some((host, port_text)) = text.rsplit_once(':') else {
        return Err(bad(whole, "the port is missing").help(format!("write \"{text}:8080\"")));
    };
    let port_at = host.len() + 1..text.len();
    if let Some(slash) = port_text.find('/') {
        let address = &text[..port_at.start + slash];
        return Err(
            bad(port_at.start + slash..text.len(), "an address has no path").help(format!("write \"{address}\""))
        );
    }
    if port_text.is_empty() {
        return Err(bad(port_at, "the port is missing").help(format!("write \"{text}8080\"")));
    }
    let port = port(port_text).ok_or_else(|| {
        bad(port_at, &format!("{} is not a port", quoted(port_text))).help("a port is a number from 1 to 65535")
    })?;
    if host.starts_with('[') {
        return match text.parse::<SocketAddr>() {
            Ok(addr) => Ok(Target::Address(Address::Inet(addr))),
            Err(_) => Err(bad(0..host.len(), "this is not an IPv6 address").help("write as \"[::1]:8080\"")),
        };
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Target::Address(Address::Inet(SocketAddr::new(ip.into(), port))));
    }
    if host.contains(':') {
        let fixed = host.parse::<Ipv6Addr>().map(|ip| format!("write \"[{ip}]:{port}\"")).ok();
        let mut fault = bad(0..host.len(), "an IPv6 address stands in brackets, so that its port can be told apart");
        fault.help = fixed.or_else(|| Some("write as \"[::1]:8080\"".to_owned()));
        return Err(fault);
    }
    let host = host_name(host)?;
    Ok(Target::Name { host, port })
}

fn unix(text: &str, path: &str) -> Result<Address, Fault> {
    let at = text.len() - path.len();
    let bad = |message: String| Fault::new(codes::BAD_UNIX_PATH, at..text.len(), message);
    if !path.starts_with('/') {
        return Err(bad("the path of a Unix socket must start with `/`".to_owned()).help(
            "the folder that a relative path starts from depends on how Weir is started: write \"unix:/run/app.sock\"",
        ));
    }
    if path.len() > MAX_UNIX_PATH {
        return Err(bad(format!("the path of a Unix socket has {} bytes", path.len()))
            .help(format!("the system takes at most {MAX_UNIX_PATH}; use a shorter folder or a symbolic link")));
    }
    Address::parse(text).map_err(|_| bad("the path of a Unix socket cannot hold this".to_owned()))
}

fn port(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Reads a host name (RFC 1123, with `_` as container networks use it); gives it in lower case.
pub(crate) fn host_name(host: &str) -> Result<String, Fault> {
    const MAX_HOST: usize = 253;
    const MAX_LABEL: usize = 63;
    let bad = |part, message: String| Fault::new(codes::BAD_HOST, part, message);
    let whole = 0..host.len();
    if host.is_empty() {
        return Err(bad(whole, "the host is missing".to_owned()).help(
            "write \"127.0.0.1:PORT\", \"0.0.0.0:PORT\" for every IPv4 address or \"[::]:PORT\" for every address",
        ));
    }
    if host.len() > MAX_HOST {
        return Err(bad(whole, format!("a host name has at most {MAX_HOST} bytes")));
    }
    if !host.is_ascii() {
        return Err(bad(whole, format!("{} is not an ASCII host name", quoted(host)))
            .help("write the name in its ASCII form, which starts with `xn--`"));
    }
    let mut at = 0;
    let name = host.strip_suffix('.').unwrap_or(host);
    for label in name.split('.') {
        let part = at..at + label.len();
        at = part.end + 1;
        if label.is_empty() {
            return Err(bad(part.start..(part.end + 1).min(host.len()), "a host name has no empty part".to_owned()));
        }
        if label.len() > MAX_LABEL {
            return Err(bad(part, format!("a part of a host name has at most {MAX_LABEL} bytes")));
        }
        if let Some(wrong) = label.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
            let wrong = part.start + wrong;
            let shown = quoted(&host[wrong..=wrong]);
            return Err(bad(wrong..wrong + 1, format!("{shown} cannot stand in a host name"))
                .help("a host name holds letters, digits, `-`, `_` and dots"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(bad(part, "a part of a host name neither starts nor ends with `-`".to_owned()));
        }
    }
    if name.split('.').next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(bad(whole, format!("{} is neither an IPv4 address nor a host name", quoted(host)))
            .help("an IPv4 address has four numbers from 0 to 255, a host name does not end in a number"));
    }
    Ok(host.to_ascii_lowercase())
}

/// Reads `10.0.0.0/8`; a bare address is a prefix of all its bits.
pub(crate) fn ip_net(text: &str) -> Result<IpNet, Fault> {
    let bad = |part, message: String| Fault::new(codes::BAD_PREFIX, part, message);
    let (addr_text, bits_text) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
    let Ok(addr) = addr_text.parse::<IpAddr>() else {
        return Err(bad(0..addr_text.len(), format!("{} is not an IP address", quoted(addr_text)))
            .help("write an address or a prefix such as \"10.0.0.0/8\" or \"fd00::/8\""));
    };
    let width: u8 = if addr.is_ipv4() { 32 } else { 128 };
    let Some(bits_text) = bits_text else {
        return Ok(IpNet { addr, prefix: width });
    };
    let at = addr_text.len() + 1..text.len();
    let digits = !bits_text.is_empty() && bits_text.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = match bits_text.parse::<u8>() {
        Ok(bits) if digits && bits <= width => bits,
        _ => {
            return Err(bad(at, format!("{} is not a number of leading bits", quoted(bits_text)))
                .help(format!("the range is 0 to {width}")));
        }
    };
    let network = network_of(addr, prefix);
    if network != addr {
        return Err(bad(0..text.len(), format!("{addr} has bits behind its first {prefix}"))
            .help(format!("write \"{network}/{prefix}\" for the network, or \"{addr}\" for the one address")));
    }
    Ok(IpNet { addr, prefix })
}

fn network_of(addr: IpAddr, prefix: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

// === HTTP ===

/// Whether `text` is a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The name of a field must be a token.
pub(crate) fn header_name(name: &str) -> Result<String, Fault> {
    if is_token(name) {
        return Ok(name.to_ascii_lowercase());
    }
    let hint = name.strip_suffix(':').filter(|name| is_token(name));
    let mut fault = Fault::new(codes::BAD_HEADER_NAME, 0..name.len(), format!("{} is not a header name", quoted(name)));
    fault.help = Some(match hint {
        Some(name) => format!("write \"{name}\", without the colon"),
        None => "a header name holds letters, digits and `-`".to_owned(),
    });
    Err(fault)
}

/// The value of a field: no control characters (RFC 9110 section 5.5), no white space at its ends.
pub(crate) fn header_value(value: &str) -> Result<(), Fault> {
    let bad = |part, message: &str| Fault::new(codes::BAD_HEADER_VALUE, part, message);
    if let Some((at, wrong)) = value.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
        let message = format!("{} cannot stand in a header value", quoted(&wrong.to_string()));
        let fault = bad(at..at + wrong.len_utf8(), &message);
        let breaks = "\r\n".contains(wrong);
        return Err(if breaks { fault.help("a line break would start another header field") } else { fault });
    }
    if value.trim() != value {
        return Err(bad(0..value.len(), "a header value neither starts nor ends with white space"));
    }
    Ok(())
}

/// Reads `200`, `2xx` or `200-299`.
pub(crate) fn status_range(text: &str) -> Option<StatusRange> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| digits && (100..600).contains(status))
    };
    if let Some(class) = text.strip_suffix("xx") {
        let first = status(&format!("{class}00"))?;
        return Some(StatusRange { first, last: first + 99 });
    }
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (status(first)?, status(last)?);
        return (first <= last).then_some(StatusRange { first, last });
    }
    let one = status(text)?;
    Some(StatusRange { first: one, last: one })
}

/// Checks that a path starts with `/` and is in the normal form that requests are matched in: dot segments
/// removed (RFC 3986 section 5.2.4), unreserved characters not escaped, escapes in upper case (6.2.2).
pub(crate) fn path(text: &str, merge_slashes: bool) -> Result<(), Fault> {
    let whole = 0..text.len();
    if !text.starts_with('/') {
        return Err(Fault::new(codes::BAD_PATH, whole, "a path starts with `/`").help(format!("write \"/{text}\"")));
    }
    if let Some(at) = text.find(['?', '#']) {
        return Err(Fault::new(codes::BAD_PATH, at..text.len(), "a path ends before `?` and `#`")
            .help(format!("write \"{}\"; conditions on the query go into `query`", &text[..at])));
    }
    let normal = normal_path(text, merge_slashes)?;
    if normal != text {
        return Err(Fault::new(codes::PATH_NOT_NORMAL, whole, format!("no request has the path {}", quoted(text)))
            .help(format!("requests are matched in normal form: write \"{normal}\"")));
    }
    Ok(())
}

fn normal_path(text: &str, merge_slashes: bool) -> Result<String, Fault> {
    let mut escaped = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let value = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
            let Some(value) = value.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) else {
                return Err(Fault::new(codes::BAD_PATH, at..at + 1, "`%` starts an escape of two hexadecimal digits")
                    .help("write `%25` for a percent sign"));
            };
            let value = u8::from_str_radix(value, 16).unwrap_or_default();
            if value == 0 {
                return Err(Fault::new(codes::BAD_PATH, at..at + 3, "a path with `%00` is always rejected"));
            }
            push_byte(&mut escaped, value, is_unreserved(value));
            at += 3;
        } else {
            push_byte(&mut escaped, byte, is_unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte));
            at += 1;
        }
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = escaped.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            "" if merge_slashes && !last => {}
            other => segments.push(other),
        }
    }
    Ok(format!("/{}", segments.join("/")))
}

fn push_byte(out: &mut String, byte: u8, plain: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if plain {
        out.push(char::from(byte));
    } else {
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Bytes of a compiled regular expression.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Compiles a regular expression; a fault points into it.
pub(crate) fn regex(text: &str) -> Result<Regex, Fault> {
    let bad = |part, message: String| Fault::new(codes::BAD_REGEX, part, message);
    if let Err(error) = regex_syntax::Parser::new().parse(text) {
        let (span, what) = match &error {
            regex_syntax::Error::Parse(error) => (error.span(), error.kind().to_string()),
            regex_syntax::Error::Translate(error) => (error.span(), error.kind().to_string()),
            other => {
                return Err(bad(0..text.len(), format!("not a regular expression: {other}")));
            }
        };
        let part = span.start.offset..span.end.offset;
        let message =
            format!("not a regular expression, at character {}: {what}", text[..part.start].chars().count() + 1);
        return Err(bad(part, message));
    }
    RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build().map_err(|_| {
        bad(0..text.len(), "this regular expression is too large".to_owned()).help("use smaller repetition counts")
    })
}

/// Names that go into logs and metrics: no white space, quotes or control characters.
pub(crate) fn name(text: &str) -> Result<(), Fault> {
    const MAX_NAME: usize = 128;
    let good = |c: char| c.is_alphanumeric() || "_-.:/[]@*+".contains(c);
    if text.len() > MAX_NAME {
        return Err(Fault::new(codes::BAD_NAME, 0..text.len(), format!("a name has at most {MAX_NAME} bytes")));
    }
    match text.char_indices().find(|(_, c)| !good(*c)) {
        None if !text.is_empty() => Ok(()),
        None => Err(Fault::new(codes::BAD_NAME, 0..0, "a name cannot be empty")),
        Some((at, wrong)) => {
            let message = format!("{} cannot stand in a name", quoted(&wrong.to_string()));
            Err(Fault::new(codes::BAD_NAME, at..at + wrong.len_utf8(), message)
                .help("a name holds letters, digits and any of `_-.:/[]@*+`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/a.sock"] {
            assert_eq!(target(text), Ok(Target::Address(Address::parse(text).unwrap())));
        }
        assert_eq!(target("App.internal:80"), Ok(Target::Name { host: "app.internal".into(), port: 80 }));
        for text in [
            "",
            ":80",
            "a",
            "a:",
            "a:x",
            "a:65536",
            "a:+1",
            "::1:80",
            "[::1]",
            "1.2.3.400:1",
            "a..b:1",
            "-a:1",
            "http://a:1",
            "a:80/x",
            "ä:1",
            "unix:",
            "unix:x",
            "[x]:1",
        ] {
            assert!(target(text).is_err(), "{text:?}");
        }
        assert!(target(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(target(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn prefixes() {
        assert_eq!(ip_net("10.0.0.0/8").unwrap().prefix, 8);
        assert_eq!(ip_net("0.0.0.0/0").unwrap().prefix, 0);
        assert_eq!(ip_net("::1").unwrap().prefix, 128);
        for text in ["10.0.0.0/33", "10.0.0.1/8", "x/8", "10.0.0.0/", "fd00::/129", "10.0.0.0/+8"] {
            assert!(ip_net(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn normal_forms() {
        let normal = |text| normal_path(text, false).unwrap();
        assert_eq!(normal("/a/./b/../c"), "/a/c");
        assert_eq!(normal("/a/.."), "/");
        assert_eq!(normal("/%41%2f%7e"), "/A%2F~");
        assert_eq!(normal("/a b/ä"), "/a%20b/%C3%A4");
        assert_eq!(normal("//a"), "//a");
        assert_eq!(normal_path("//a//", true).unwrap(), "/a/");
        assert!(normal_path("/%g0", false).is_err());
    }

    #[test]
    fn statuses() {
        assert_eq!(status_range("2xx"), Some(StatusRange { first: 200, last: 299 }));
        assert_eq!(status_range("200-204"), Some(StatusRange { first: 200, last: 204 }));
        for text in ["", "xx", "6xx", "20", "2000", "300-200", "99", "+20"] {
            assert_eq!(status_range(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(text in "/[a-c./%2f]{0,20}", merge in any::<bool>()) {
            if let Ok(normal) = normal_path(&text, merge) {
                prop_assert_eq!(normal_path(&normal, merge).unwrap(), normal);
            }
        }

        #[test]
        fn faults_point_into_the_text(text in "\\PC{0,30}") {
            let faults = [target(&text).err(), ip_net(&text).err(), path(&text, true).err(), regex(&text).err(), name(&text).err(), header_name(&text).err(), header_value(&text).err()];
            for fault in faults.into_iter().flatten() {
                prop_assert!(fault.part.start <= fault.part.end && fault.part.end <= text.len(), "{:?}", fault);
            }
        }
    }
}
